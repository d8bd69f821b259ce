"""The exported scripts of six model shapes and three frameworks, run as they are on this machine's CPU.

Only the base model, the precision and the optimizer are chosen for it, through the question. What trains, the size of
the adapter's file, the held-out loss and the labels are compared with what RankViz says.
"""

import functools
import re
from dataclasses import fields, replace

import pytest

from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import Grpo, TrainingData, TrainingSetup
from rankviz.core.lora.config import LoraConfig
from rankviz.errors import InvalidSettingError
from rankviz.exports import recipe, script, write
from rankviz.exports.script import notebook
from tests.exports.code.test_script import GPU_SOURCES, calls, gpu_arguments
from tests.support.models.recipes import made
from tests.support.models.tiny_models import SHAPES, make_tiny, write_rows
from tests.support.processes.exports import counted_here, run_exports, trained_steps
from tests.support.quick import chosen_quick
from tests.support.runs.toy import TOY

pytestmark = pytest.mark.torch

FRAMEWORKS = ("unsloth", "trl", "peft")
R = 8
CASES = {
    "llama": ("messages", {}, {"precision": "bf16"}),
    "qwen3": ("prompts", {"target_modules": "attention", "use_dora": True}, {"precision": "fp32"}),
    "mistral": (
        "text",
        {"target_modules": "all-linear", "use_rslora": True, "modules_to_save": ("lm_head",)},
        {"precision": "bf16", "gradient_accumulation_steps": 2},
    ),
    "gemma3": ("instruction", {}, {"precision": "fp32"}),
    "phi3": ("plain", {}, {"precision": "fp32", "gradient_checkpointing": "none"}),
    "qwen3_moe": ("conversations", {}, {"precision": "fp32"}),
}
"""By shape: the kind of rows, the adapter and the training, each with something the others lack."""
RATES = {"qwen3_moe": 16.0}
"""Ratio of LoRA+, by shape."""
MERGED = "llama"
QUICK = ("llama", "qwen3_moe")
MERGING = re.compile(
    r"^# (?=model\.save_pretrained_merged|from peft import PeftModel|base = |PeftModel\.)", re.MULTILINE
)
"""The shape whose scripts merge, too, and the marks before the lines that do."""
LEARNED = {"messages": 2, "conversations": 2, "prompts": 1, "text": 1, "instruction": 1}
"""Answers that are learned of a row, by its kind."""
PLAIN = re.compile(r"\d+ ([a-h]) \1{6}<\|im_end\|>")
"""A row of plain text: all of it is learned."""


GRPO = {"trl": ("llama", "messages"), "unsloth": ("qwen3", "text")}
"""Shape and rows of the script that trains by rewards, by framework."""
SHORT = Grpo(num_generations=2, max_prompt_length=150, max_completion_length=8, vllm_mode="none", beta=0.1)
PLACEHOLDER = "return [float(bool(expected) and expected in text) for text, expected in zip(texts, answer)]"
REWARD = "return [float(sum(map(ord, text))) for text in texts]"


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """ran(framework, shape): the recipe, and what its script did. Scripts of the QUICK shapes and of GRPO run together,
    and the others do."""

    @functools.cache
    def group(quick):
        shapes = [shape for shape in CASES if quick == (shape in QUICK)]
        return run_scripts(tmp_path_factory.mktemp("scripts"), shapes, GRPO if quick else {})

    return lambda framework, shape="grpo": group(shape in (*QUICK, "grpo"))[framework, shape]


def run_scripts(folder, shapes, grpo):
    """By framework and shape: the recipe, and what its script did."""
    from rankviz.worker.introspect.layers import layers_of

    recipes, jobs = {}, {"unsloth": [], "plain": []}
    for shape in shapes:
        kind, lora, training = CASES[shape]
        base, layers = make_tiny(shape, folder / shape), layers_of(SHAPES[shape])
        for framework in FRAMEWORKS:
            setup = {"max_steps": 20, "max_length": 96, "per_device_train_batch_size": 4, "optim": "adamw_torch"}
            question = Question(
                model_id=str(base),
                lora=LoraConfig(**lora),
                training=TrainingSetup(**{"gradient_accumulation_steps": 1, **setup, **training}, framework=framework),
            )
            rates = {"learning_rate": 1e-2 / RATES.get(shape, 1), "loraplus_lr_ratio": RATES.get(shape)}
            made = recipe(layers, question, R, framework=framework, **rates)
            place = folder / framework / shape
            place.mkdir(parents=True)
            text = script(made)
            if shape == MERGED:
                text = MERGING.sub("", text)
            (place / "train.py").write_text(text, encoding="utf-8")
            write_rows(place / "train.jsonl", kind)
            recipes[framework, shape] = made
            jobs["unsloth" if framework == "unsloth" else "plain"].append(str(place))
    for framework, (shape, kind) in grpo.items():
        fixed = {"max_steps": 3, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "grpo": SHORT}
        training = TrainingSetup(framework=framework, precision="fp32", optim="adamw_torch", **fixed)
        question = Question(model_id=str(make_tiny(shape, folder / "grpo" / framework)), training=training)
        made = recipe(layers_of(SHAPES[shape]), question, R, framework=framework, learning_rate=1e-2)
        place = folder / framework / "grpo"
        place.mkdir(parents=True)
        assert PLACEHOLDER in script(made)
        (place / "train.py").write_text(script(made).replace(PLACEHOLDER, REWARD), encoding="utf-8")
        write_rows(place / "train.jsonl", kind)
        recipes[framework, "grpo"] = made
        jobs["unsloth" if framework == "unsloth" else "plain"].append(str(place))
    results = {}
    for process, places in jobs.items():
        results |= run_exports(process, places)
    return {(name, shape): (made, results[str(folder / name / shape)]) for (name, shape), made in recipes.items()}


@pytest.mark.parametrize("shape", chosen_quick(CASES, QUICK))
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_script_trains_and_saves_what_was_counted_and_learns_the_answers_with_their_end(ran, framework, shape):
    made, result = ran(framework, shape)
    assert "error" not in result, result["error"]
    assert counted_here(made) == (result["trained"], result["files"]["adapter_model.safetensors"])
    assert "tokenizer.json" in result["files"]
    if made.loraplus_lr_ratio:
        assert [made.learning_rate, made.learning_rate * made.loraplus_lr_ratio] == result["rates"]

    assert 4 == len(result["losses"])
    assert result["losses"][-1] < 0.9 * result["losses"][0]

    kind, learned, printed = CASES[shape][0], result["learned"].replace("\n", ""), result["printed"]
    assert [4, 4, 4, 4] == [printed.count(f"\n{word:8} ") for word in ("PROMPT", "EXPECTED", "BEFORE", "AFTER")]
    assert f"The adapter has {result['files']['adapter_model.safetensors']:,} bytes" in printed
    if kind == "plain":
        assert PLAIN.fullmatch(learned)
    else:
        assert LEARNED[kind] * (6 * learned[0] + "<|im_end|>") == learned


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_line_that_merges_does(ran, framework):
    assert {"config.json", "model.safetensors"} <= set(ran(framework, MERGED)[1]["merged"])


@pytest.mark.emulated_cuda
def test_the_notebook_trains_for_its_epochs_and_says_the_size_that_was_counted(tmp_path):
    """38 of 40 rows are trained on, 8 a step: 5 steps an epoch."""
    from rankviz.worker.introspect.layers import layers_of

    base, place = make_tiny("llama", tmp_path / "llama"), tmp_path / "notebook"
    steps = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "max_length": 512}
    data = TrainingData(examples=40, longest_tokens=90, num_train_epochs=4)
    setup = TrainingSetup(precision="fp32", optim="adamw_torch", data=data, **steps)
    question = Question(model_id=str(base), training=setup)
    made = recipe(layers_of(SHAPES["llama"]), question, 8, framework="unsloth", learning_rate=1e-2)
    place.mkdir()
    write_rows(place / "train.jsonl", "messages", 40)
    (place / "train.ipynb").write_text(notebook(made, colab=True), encoding="utf-8")

    result = run_exports("cuda", [str(place)])[str(place)]

    assert "error" not in result, result["error"]
    assert (20, 20) == (result["steps"], trained_steps(made))
    assert result["losses"][-1] < 0.9 * result["losses"][0]
    assert result["learned"].replace("\n", "").endswith("<|im_end|>")
    answers = re.findall(r"BEFORE   (.*)\nAFTER    (.*)", result["printed"])
    assert 2 == len(answers) and all(before != after for before, after in answers)
    size = result["files"]["adapter_model.safetensors"]
    assert (size,) == made.adapter_bytes
    assert f"The adapter has {size:,} bytes. RankViz counts {size:,}." in result["printed"]


@pytest.mark.parametrize("framework", GRPO)
def test_the_script_generates_trains_and_saves_what_was_counted(ran, framework):
    written, result = ran(framework)

    assert "error" not in result, result["error"]
    assert counted_here(written) == (result["trained"], result["files"]["adapter_model.safetensors"])
    assert (3, 3, True) == (result["steps"], len(result["rewards"]), result["moved"])
    assert all(reward > 0 for reward in result["rewards"])


@pytest.mark.parametrize("mode", ["none", "colocate"])
def test_unsloths_script_has_arguments_that_its_classes_take(mode):
    from trl import GRPOConfig

    grpo = replace(SHORT, vllm_mode=mode, vllm_enable_sleep_mode=mode == "colocate")
    found = calls(script(made(framework="unsloth", grpo=grpo)))

    assert found["GRPOConfig"].keys() <= {each.name for each in fields(GRPOConfig)}  # Unsloth's class extends it
    for name in ("FastLanguageModel.from_pretrained", "FastLanguageModel.get_peft_model"):
        assert found[name].keys() <= set(gpu_arguments(*GPU_SOURCES[name], name.rpartition(".")[2]))
    assert ("fast_inference" in found["FastLanguageModel.from_pretrained"]) == (mode == "colocate")


@pytest.mark.parametrize("mode", ["none", "colocate", "server"])
def test_every_way_to_generate_is_written_and_other_formats_are_refused(mode):
    text = script(replace(made(framework="trl", grpo=replace(SHORT, vllm_mode=mode)), model_id="my base"))
    compile(text, "train.py", "exec")
    assert (f"vllm_mode='{mode}'" in text) == (mode != "none") == ("`uv run`" not in text)
    assert ("VLLM_SERVER_DEV_MODE=1 vllm serve 'my base'" in text) == (mode == "server")

    with pytest.raises(InvalidSettingError, match="GRPO has no Axolotl YAML"):
        write(TOY, Question(model_id=TOY.id, training=TrainingSetup(grpo=Grpo())), 8, "axolotl")
