"""The exported GRPO scripts, run on a CPU with a reward of their own, and the arguments of Unsloth's on a GPU."""

from dataclasses import fields, replace

import pytest

from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import Grpo, TrainingSetup
from rankviz.errors import InvalidSettingError
from rankviz.exports import recipe, script, write
from tests.exports.code.test_script import GPU_SOURCES, calls, gpu_arguments
from tests.support.models.recipes import made
from tests.support.models.tiny_models import SHAPES, make_tiny, write_rows
from tests.support.processes.exports import counted_here, run_exports
from tests.support.runs.toy import TOY

SHORT = Grpo(num_generations=2, max_prompt_length=150, max_completion_length=8, vllm_mode="none", beta=0.1)
PLACEHOLDER = "return [float(bool(expected) and expected in text) for text, expected in zip(texts, answer)]"
REWARD = "return [float(sum(map(ord, text))) for text in texts]"


@pytest.mark.torch
@pytest.mark.parametrize(("framework", "shape", "kind"), [("trl", "llama", "messages"), ("unsloth", "qwen3", "text")])
def test_the_script_generates_trains_and_saves_what_was_counted(tmp_path, framework, shape, kind):
    from rankviz.worker.introspect.layers import layers_of

    fixed = {"max_steps": 3, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "grpo": SHORT}
    training = TrainingSetup(framework=framework, precision="fp32", optim="adamw_torch", **fixed)
    question = Question(model_id=str(make_tiny(shape, tmp_path / "base")), training=training)
    written = recipe(layers_of(SHAPES[shape]), question, 8, framework=framework, learning_rate=1e-2)
    assert PLACEHOLDER in script(written)
    (tmp_path / "train.py").write_text(script(written).replace(PLACEHOLDER, REWARD), encoding="utf-8")
    write_rows(tmp_path / "train.jsonl", kind)

    (result,) = run_exports("plain" if framework == "trl" else framework, [str(tmp_path)]).values()

    assert "error" not in result, result["error"]
    assert counted_here(written) == (result["trained"], result["files"]["adapter_model.safetensors"])
    assert (3, 3, True) == (result["steps"], len(result["rewards"]), result["moved"])
    assert all(reward > 0 for reward in result["rewards"])


@pytest.mark.torch
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
