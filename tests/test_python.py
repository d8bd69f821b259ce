"""RankViz in Python: an estimate in one line, its repr and DataFrame, names of settings, and the groups of Api."""

import ast

import numpy as np
import pytest

import rankviz
from rankviz import Api, Grpo, LoraConfig, Question, TrainingData, TrainingSetup
from rankviz.api.workspace import Part
from rankviz.core.cost.question import ASSUMED_RANK
from rankviz.errors import InvalidSettingError
from rankviz.paths import IMPORT_ROOT


def test_an_estimate_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("RANKVIZ_HOME", str(tmp_path))

    answer = rankviz.estimate("Qwen/Qwen3-4B", ranks=[8, 16])
    frame = answer.to_frame()

    # Worked out: 36 blocks × r × (q 6656 + k 3584 + v 3584 + o 6656 + gate, up, down 12288 each).
    assert [16_515_072, 33_030_144] == frame["adapter_parameters"].tolist()
    assert [rank.adapter_bytes for rank in answer.estimate.ranks] == frame["adapter_bytes"].tolist()
    assert {"r", "lora_alpha", "usd_expected", "memory_bytes_high", "use_dora", "max_length"} <= set(frame.columns)
    assert "PEFT" in frame.attrs["counted_by"]
    assert (1000, "L4") == (answer.estimate.question.training.max_steps, answer.estimate.gpu.name.split()[-1])
    assert answer.estimate.notes[0].startswith("Time and cost assume 1,000 optimizer steps")
    unknown = rankviz.estimate("Qwen/Qwen3-4B", ranks=[8], gpu=None)
    assert (set(frame.columns), True) == (set(unknown.to_frame()), unknown.to_frame()["usd_expected"].isna().all())
    assert [("sft", 1)] * 2 == [*zip(frame["method"], frame["gpus"], strict=True)]
    grpo = rankviz.estimate("Qwen/Qwen3-4B", ranks=[8], method="grpo", num_generations=4).to_frame()
    assert ("grpo", 4, "colocate") == tuple(grpo.loc[0, ["method", "num_generations", "vllm_mode"]])
    bare = rankviz.estimate("Qwen/Qwen3-4B", gpu=None).estimate
    assert (ASSUMED_RANK, None, None) == (bare.ranks[0].r, bare.gpu, bare.ranks[0].duration)
    assert not any("assume 1,000" in note for note in bare.notes)


@pytest.mark.parametrize("model", ["Qwen/Qwen3-4B", "openai/gpt-oss-20b"])
def test_the_repr_of_an_answer_fits_a_screen(model):
    shown = repr(rankviz.estimate(model, ranks=range(1, 200), gpu="T4", max_steps=9))
    lines = shown.splitlines()

    assert lines[0].startswith(model) and "T4" in lines[0]
    assert "and 183 more ranks" in lines[-2] and "Memory (nvidia-smi)" in lines[1]
    assert len(lines) <= 24 and max(map(len, lines)) <= 160
    for other in (Api().models.get(model), Api().estimates.fit(Question.of(model, [8]), 8)):
        assert len(repr(other)) <= 24 * 160


def test_each_setting_has_one_name():
    question = Question.of(
        "m", [8], lora_alpha=32, use_dora=True, max_length=512, examples=5, num_train_epochs=2, gpu="L4", usd_per_hour=1
    )

    assert question == Question(
        model_id="m",
        ranks=(8,),
        lora_alpha="32",
        lora=LoraConfig(use_dora=True),
        training=TrainingSetup(max_length=512, data=TrainingData(examples=5, num_train_epochs=2)),
        gpu="L4",
        usd_per_hour=1,
    )
    for wrong, meant in (
        ("batch", "per_device_train_batch_size"),
        ("alpha", "lora_alpha"),
        ("targets", "target_modules"),
        ("r", "ranks"),
        ("lora_r", "ranks"),
        ("max_seq_length", "max_length"),
        ("load_in_4bit", "precision"),
        ("example_tokens", "mean_tokens"),
        ("data", "num_train_epochs"),
    ):
        with pytest.raises(InvalidSettingError, match=f"^No setting '{wrong}'. .*{meant}"):
            Question.of("m", **{wrong: 1})


def test_one_rank_numbers_of_numpy_and_grpo_are_taken_and_wrong_mixes_refused():
    one = Question.of("m", [8])
    assert one == Question.of("m", 8) == Question.of("m", np.int64(8)) == Question.of("m", np.array([8]))
    assert Question.of("m", [8], max_steps=9) == Question.of("m", [np.int32(8)], max_steps=np.int64(9))
    rl = Question.of("m", 8, method="grpo", num_generations=4)
    assert rl.training.grpo == Grpo(num_generations=4) == Question.of("m", grpo={"num_generations": 4}).training.grpo
    names = {"optim": "adamw_torch_fused", "gradient_checkpointing": True}
    assert Question.of("m", optim="adamw_torch", gradient_checkpointing="hf") == Question.of("m", **names)
    for wrong, sentence in (
        ({"num_generations": 4}, "Settings of GRPO: num_generations. Add method grpo"),
        ({"grpo": Grpo(), "method": "sft"}, "Add method grpo"),
        ({"grpo": Grpo(), "num_generations": 4}, "Given twice: num_generations"),
        ({"method": "grpo", "max_length": 99}, "GRPO has no max_length"),
        ({"method": "grpo", "max_prompt_length": "x"}, "max_prompt_length must be a whole number"),
        ({"grpo": True}, "grpo must be settings of GRPO"),
        ({"grpo": {"ranks": 4}}, "A setting of GRPO must be one of num_generations, .*got 'ranks'"),
        ({"method": "dpo"}, "method must be one of sft, grpo"),
        ({"gpu": 5}, "gpu must be a text or empty .got 5"),
        ({"target_modules": 5}, "target_modules must be a text or a list of texts"),
        ({"examples": 9, "num_train_epochs": "x"}, "num_train_epochs must be a number or empty"),
        ({"ranks": "16"}, "ranks must be a list of whole numbers"),
        ({"lora_alpha": [1]}, "lora_alpha must be a text"),
    ):
        with pytest.raises(InvalidSettingError, match=sentence):
            Question.of("m", **wrong)
    with pytest.raises(InvalidSettingError, match="Epochs need the number of examples"):
        rankviz.estimate("Qwen/Qwen3-4B", num_train_epochs=2)


def test_api_has_ten_groups_and_its_types_are_told():
    stub = ast.parse((IMPORT_ROOT / "rankviz" / "__init__.pyi").read_text("utf-8"))
    names = {each.asname for node in stub.body if isinstance(node, ast.ImportFrom) for each in node.names}

    assert 10 == len([name for name, part in vars(Api).items() if isinstance(part, Part)])
    assert set(rankviz.__all__) == names
    assert (IMPORT_ROOT / "rankviz" / "py.typed").is_file()
    assert all(getattr(rankviz, name) for name in names)
