"""What DoRA takes: against steps of the real classes on a simulated card, rankviz.worker.simulate, 2026-11-30."""

import pytest

from rankviz.api import Api
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.lora.config import LoraConfig

API = Api()
QWEN, LLAMA = "Qwen/Qwen3-4B", "meta-llama/Llama-3.2-1B"


def memory(model_id, framework="trl", use_dora=True, **fields):
    setup = {
        "precision": "bf16",
        "gradient_checkpointing": "unsloth" if framework == "unsloth" else "hf",
        "loss_path": "fused",
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "optim": "adamw_8bit",
        **fields,
    }
    lora = LoraConfig(target_modules="all-linear", use_dora=use_dora)
    training = TrainingSetup(framework=framework, **setup)
    asked = Question(model_id=model_id, lora=lora, training=training, ranks=(16,), gpu="A100-80GB (SXM)")
    return API.estimates.estimate(asked).estimate.ranks[0].memory


@pytest.mark.parametrize(
    ("model_id", "length", "simulated_bytes"),
    [
        (QWEN, 2048, 11_224_039_424),  # fullest where the norm of the projection down is made
        (QWEN, 8192, 18_395_035_648),  # fullest in the backward pass
        ("Qwen/Qwen2.5-7B-Instruct", 2048, 20_998_631_424),
        (LLAMA, 2048, 4_384_855_040),
    ],
)
def test_the_estimate_is_what_a_simulated_step_allocates(model_id, length, simulated_bytes):
    assert simulated_bytes == pytest.approx(memory(model_id, max_length=length).allocated, rel=0.015)


def test_unsloths_own_blocks_keep_more_than_both_outputs_since_dora_turns_their_fused_parts_off():
    lora, dora = (memory(LLAMA, "unsloth", use_dora, max_length=4096).activations for use_dora in (False, True))
    outputs = 2048 + 2 * 512 + 2048 + 2 * 8192 + 2048

    assert dora - lora > 2 * 4096 * 4 * outputs
