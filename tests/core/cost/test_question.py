"""What can't be asked, and the sentence that says what to change."""

import pytest

from rankviz.core.cost.question import Question, lora_config, validate
from rankviz.core.cost.setup import TrainingSetup
from rankviz.errors import InvalidSettingError
from tests.support.toy import gpu


def question(**more):
    training = TrainingSetup(**more.pop("training", {}))
    return Question(**{"model_id": "toy/toy-16", "training": training, **more})


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"ranks": ()}, "No rank given: give at least one, such as 16."),
        ({"ranks": (8, 0)}, "Rank 0 is out of range: give 1 to 1,024."),
        ({"ranks": (1025,)}, "Rank 1,025 is out of range: give 1 to 1,024."),
        ({"ranks": (8.5,)}, "Rank 8.5 is not a whole number: give one from 1 to 1,024."),
        ({"ranks": (True,)}, "Rank True is not a whole number: give one from 1 to 1,024."),
        ({"alpha": "3r"}, "alpha is r, 2r or a number above 0, not '3r'."),
        ({"alpha": "-4"}, "alpha is r, 2r or a number above 0, not '-4'."),
        ({"alpha": "nan"}, "alpha is r, 2r or a number above 0, not 'nan'."),
        (
            {"targets": ()},
            "No target modules given: name some, or take one of all-linear, attention, mlp, qv, unsloth.",
        ),
        ({"framework": "axolotl"}, "Framework 'axolotl' is not known: take one of unsloth, trl, peft."),
        (
            {"moe_scheme": "all"},
            "MoE scheme 'all' is not known: take one of default, linear-only, peft-remap, unsloth, target-parameters.",
        ),
        ({"usd_per_hour": -1}, "A price of -1 USD an hour can't be: give 0 or more, or leave it out."),
        ({"usd_per_hour": "cheap"}, "A price of cheap USD an hour can't be: give 0 or more, or leave it out."),
        ({"usd_per_hour": float("nan")}, "A price of nan USD an hour can't be: give 0 or more, or leave it out."),
        (
            {"training": {"precision": "fp8"}},
            "Precision 'fp8' is not known: take one of bf16, fp16, fp32, nf4, nf4-dq, int8.",
        ),
        (
            {"training": {"optim": "lion"}},
            "Optimizer 'lion' is not known: take one of adamw_8bit, adamw_torch, paged_adamw_8bit, sgd.",
        ),
        (
            {"training": {"checkpointing": "yes"}},
            "Checkpointing 'yes' is not known: take one of unsloth, hf, none.",
        ),
        ({"training": {"loss_path": "liger"}}, "Loss path 'liger' is not known: take one of fused, triton, full."),
        (
            {"training": {"attn_implementation": "xformers"}},
            "Attention 'xformers' is not known: take one of sdpa, flash, eager.",
        ),
        (
            {"training": {"per_device_train_batch_size": 0}},
            "Batch size 0 is out of range: give 1 to 4,096.",
        ),
        (
            {"training": {"gradient_accumulation_steps": 10**6}},
            "Gradient accumulation 1,000,000 is out of range: give 1 to 65,536.",
        ),
        ({"training": {"max_length": None}}, "Length is not given: give 1 to 4,194,304."),
        ({"training": {"max_length": 0}}, "Length 0 is out of range: give 1 to 4,194,304."),
        (
            {"training": {"per_device_train_batch_size": 4096, "max_length": 131_072}},
            "Batch 4,096 × length 131,072 is 536,870,912 tokens at once, more than any GPU holds: lower one of them.",
        ),
        ({"training": {"tokens": 0}}, "Tokens 0 is out of range: give 1 to 100,000,000,000,000."),
        ({"training": {"steps": 0}}, "Steps 0 is out of range: give 1 to 100,000,000,000,000."),
        ({"training": {"steps": 5, "tokens": 5}}, "Both steps and tokens given: keep one of them."),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cant_be_asked_is_said_with_what_to_change(asked, sentence):
    with pytest.raises(InvalidSettingError) as error:
        validate(question(**asked))

    assert sentence == str(error.value)


def test_bf16_on_a_card_without_it_names_the_way_out():
    t4 = gpu(name="T4", supports_bf16=False)

    with pytest.raises(InvalidSettingError) as error:
        validate(question(training={"precision": "bf16"}), t4)

    assert "T4 has no bf16: choose precision fp16, nf4 or nf4-dq, or another GPU." == str(error.value)
    validate(question(training={"precision": "fp16"}), t4)
    validate(question(training={"precision": "nf4-dq"}), t4)


def test_the_question_becomes_pefts_words():
    lora = lora_config(question(alpha="2r", use_rslora=True, targets=("q_proj",)), 16)

    assert (16, 32, ("q_proj",)) == (lora.r, lora.lora_alpha, lora.target_modules)
    assert 8 == lora.scale  # 32 / sqrt(16)
