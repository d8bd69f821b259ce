"""Settings that are refused, and the sentence that says what to change."""

import pytest

from rankviz.errors import InvalidSettingError
from tests.support.runs.questions import question
from tests.support.runs.toy import gpu


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"ranks": ()}, "No rank is given. Give at least one, such as 16."),
        ({"ranks": (8, 0)}, "Rank must be a whole number from 1 to 1,024 (got 0)."),
        ({"ranks": (1025,)}, "Rank must be a whole number from 1 to 1,024 (got 1,025)."),
        ({"ranks": (8.5,)}, "Rank must be a whole number from 1 to 1,024 (got 8.5)."),
        ({"ranks": (True,)}, "Rank must be a whole number from 1 to 1,024 (got True)."),
        ({"alpha": "3r"}, "Alpha must be r, 2r or a number above 0 and at most 1,000,000 (got '3r')."),
        ({"alpha": "0"}, "Alpha must be a number above 0 and at most 1,000,000 (got 0)."),
        ({"alpha": "-4"}, "Alpha must be a number above 0 and at most 1,000,000 (got -4)."),
        ({"alpha": "nan"}, "Alpha must be r, 2r or a number above 0 and at most 1,000,000 (got 'nan')."),
        (
            {"target_modules": ()},
            "No target modules are given. Name some, or use one of all-linear, attention, mlp, qv, unsloth.",
        ),
        ({"framework": "axolotl"}, "Framework must be one of unsloth, trl, peft (got 'axolotl')."),
        (
            {"moe_scheme": "all"},
            "MoE scheme must be one of default, linear-only, peft-remap, unsloth, target-parameters (got 'all').",
        ),
        ({"usd_per_hour": -1}, "The price per hour must be a number from 0 to 1,000,000 (got -1)."),
        ({"usd_per_hour": "cheap"}, "The price per hour must be a number from 0 to 1,000,000 (got 'cheap')."),
        ({"usd_per_hour": float("nan")}, "The price per hour must be a number from 0 to 1,000,000 (got nan)."),
        (
            {"precision": "fp8"},
            "Precision must be one of auto, bf16, fp16, fp32, nf4, nf4-dq, int8 (got 'fp8').",
        ),
        (
            {"optim": "lion"},
            "Optimizer must be one of auto, adamw_8bit, adamw_torch, paged_adamw_8bit, sgd (got 'lion').",
        ),
        (
            {"gradient_checkpointing": "yes"},
            "Gradient checkpointing must be one of auto, unsloth, hf, none (got 'yes').",
        ),
        (
            {"loss_path": "fused-func", "framework": "trl"},
            "Loss path fused-func exists only in Unsloth. Choose fused or full with framework trl.",
        ),
        ({"loss_path": "liger"}, "Loss path must be one of auto, fused, fused-func, triton, full (got 'liger')."),
        (
            {"attn_implementation": "xformers"},
            "Attention must be one of sdpa, flash, eager (got 'xformers').",
        ),
        (
            {"per_device_train_batch_size": 0},
            "Batch size must be a whole number from 1 to 4,096 (got 0).",
        ),
        (
            {"gradient_accumulation_steps": 10**6},
            "Gradient accumulation must be a whole number from 1 to 65,536 (got 1,000,000).",
        ),
        ({"max_length": None}, "Maximum length must be a whole number from 1 to 4,194,304 (got nothing)."),
        ({"max_length": 0}, "Maximum length must be a whole number from 1 to 4,194,304 (got 0)."),
        (
            {"per_device_train_batch_size": 4096, "max_length": 131_072},
            "Batch 4,096 × length 131,072 is 536,870,912 tokens at once; the limit is 67,108,864. "
            "Lower the batch size or the length.",
        ),
        ({"tokens": 0}, "Tokens must be a whole number from 1 to 100,000,000,000,000 (got 0)."),
        ({"max_steps": 0}, "Steps must be a whole number from 1 to 100,000,000,000,000 (got 0)."),
        ({"max_steps": 5, "tokens": 5}, "Steps and tokens are both given. Give only one of them."),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cant_be_asked_is_said_with_what_to_change(settings, sentence):
    with pytest.raises(InvalidSettingError) as error:
        question(**settings).validate()

    assert sentence == str(error.value)


def test_bf16_on_a_card_without_it_names_the_way_out():
    t4 = gpu(name="T4", supports_bf16=False)

    with pytest.raises(InvalidSettingError) as error:
        question(precision="bf16").validate(t4)

    assert "T4 does not support bf16. Choose precision fp16, nf4 or nf4-dq, or another GPU." == str(error.value)
    question(precision="fp16").validate(t4)
    question(precision="nf4-dq").validate(t4)


def test_the_question_becomes_pefts_words():
    lora = question(alpha="2r", use_rslora=True, target_modules=("q_proj",)).lora_at(16)

    assert (16, 32, ("q_proj",)) == (lora.r, lora.lora_alpha, lora.target_modules)
    assert 8 == lora.scale  # 32 / sqrt(16)
