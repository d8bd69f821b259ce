"""What "auto" stands for on a device, and what a device or a framework cannot train."""

import pytest

from rankviz.core.cost.setup import Device, TrainingSetup, card
from rankviz.errors import InvalidSettingError
from tests.support.runs.toy import gpu

AUTO = {"precision": "auto", "optim": "auto", "gradient_checkpointing": "auto", "loss_path": "auto"}


@pytest.mark.parametrize(
    ("framework", "device", "settled"),
    [
        ("unsloth", Device(cuda=True), ("nf4-dq", "adamw_8bit", "unsloth", "fused")),
        ("trl", Device(cuda=True), ("nf4-dq", "adamw_8bit", "hf", "fused")),
        ("peft", Device(cuda=True), ("nf4-dq", "adamw_8bit", "hf", "full")),
        ("unsloth", Device(), ("fp32", "adamw_torch", "none", "fused")),
        ("peft", Device(), ("fp32", "adamw_torch", "none", "full")),
    ],
)
def test_auto_is_settled_by_device_and_framework(framework, device, settled):
    setup = TrainingSetup(framework=framework, **AUTO).settle(device)

    assert settled == (setup.precision, setup.optim, setup.gradient_checkpointing, setup.loss_path)


@pytest.mark.parametrize(
    ("changes", "device", "message"),
    [
        ({"precision": "int8"}, Device(), "There is no GPU here. On a CPU, precision must be fp32 or bf16 (got int8)."),
        ({"precision": "nf4"}, Device(cuda=True), "Unsloth always quantizes to nf4-dq"),
        ({"precision": "bf16"}, card(gpu(name="T4", supports_bf16=False)), "T4 does not support bf16."),
        ({"optim": "paged_adamw_8bit"}, Device(), "paged_adamw_8bit needs a GPU."),
        ({"framework": "trl"}, Device(), "TRL's loss is a Triton kernel, which needs a GPU."),
        (
            {"framework": "trl", "gradient_checkpointing": "unsloth"},
            Device(cuda=True),
            "Unsloth's checkpointing exists",
        ),
        ({"gradient_checkpointing": "unsloth"}, Device(), "On a CPU, RankViz trains with Unsloth without"),
        ({"loss_path": "triton"}, Device(cuda=True), "The trainer of unsloth computes the loss on the path fused"),
        ({"attn_implementation": "flash"}, Device(cuda=True), "RankViz trains with sdpa attention (got flash)."),
    ],
)
def test_what_cannot_be_trained_is_refused_with_the_way_out(changes, device, message):
    with pytest.raises(InvalidSettingError) as error:
        TrainingSetup(**{**AUTO, **changes}).settle(device)

    assert str(error.value).startswith(message)


def test_an_estimate_may_be_of_what_no_program_here_trains():
    setup = TrainingSetup(framework="trl", precision="nf4", loss_path="full", gradient_checkpointing="unsloth")

    assert setup == setup.without_auto(Device())
