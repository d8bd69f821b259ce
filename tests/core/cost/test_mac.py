"""Training on a Mac: a step of MLX LM worked out by hand on the toy, and what is answered for Macs of the table."""

import pytest

from rankviz.api import Api
from rankviz.errors import InvalidSettingError
from tests.core.cost.toy_cost import SEVEN, estimate
from tests.support.runs.questions import question

QWEN, GIB = "Qwen/Qwen3-4B", 2**30


def test_a_step_under_mlx_holds_what_its_code_gives():
    memory = estimate(framework="mlx", names=SEVEN, precision="nf4")

    assert round(0.5625 * (4608 + 1600)) + 2 * 80 == memory.base_weights
    assert (400, 400, 2 * 400) == (memory.adapter, memory.gradients, memory.optimizer)
    # a token: the MLP's norm, 2Q + 2K, 3M; fp32 copies of three inputs, and the output of attention is one instead
    kept = 2 * (16 + 48 + 96) + 4 * (16 + 16 + 32) + 2 * 16
    # the mask, two checkpoints, ten tokens, two heads' softmax, x·A of seven modules, and the block's gradients
    assert 2 * 100 + 2 * 320 + 10 * kept + 2 * 200 + 7 * 4 * 2 * 10 + 10 * (2 * 64 + 12 * 16) == memory.activations
    assert 2 * 6288 == estimate(framework="mlx", names=SEVEN).base_weights
    assert 0 == memory.other == memory.logits


def test_a_mac_is_answered_for_mlx_without_time_and_compared_with_macs_alone(tmp_path):
    estimates = Api(home=tmp_path).estimates
    asked = question(QWEN, gpu="mac-32gb", ranks=(8,), target_modules="all-linear", max_steps=10)
    answer, on_l4 = (estimates.estimate(each).estimate for each in (asked, question(QWEN, gpu="l4", ranks=(8,))))
    (rank,) = answer.ranks

    assert ("mlx", None, None) == (answer.question.training.framework, rank.duration, rank.usd)
    assert on_l4.ranks[0].adapter_parameters == rank.adapter_parameters
    assert pytest.approx((0.666 * 32 * GIB, 0.74 * 32 * GIB)) == (answer.usable_bytes.low, answer.usable_bytes.high)
    assert "Not measured" in " ".join(answer.notes)
    macs, cards = (estimates.fit(each, 8).cards for each in (asked, question(QWEN, gpu="l4", ranks=(8,))))
    assert ({"mac"}, set()) == ({each.gpu_id[:3] for each in macs}, {c.gpu_id for c in cards if c.gpu_id[:3] == "mac"})
    assert ["fits", "uncertain"] == [{each.gpu_id: each.fit for each in macs}[f"mac-{gb}gb"] for gb in (24, 16)]


def test_what_the_export_for_a_mac_writes_and_refuses_is_said(tmp_path):
    api = Api(home=tmp_path)
    moe = [question("Qwen/Qwen3-30B-A3B", gpu="mac-64gb", target_modules=each) for each in ("unsloth", "attention")]
    refused, written = (" ".join(api.estimates.estimate(each).estimate.notes) for each in moe)
    assert "the export format mlx refuses it" in refused and "mlx writes its configuration" not in refused
    assert "mlx writes its configuration" in written and api.advice.export(moe[1], 8, "mlx").text
    on_mac = question(QWEN, gpu="mac-32gb", precision="fp32", target_modules="all-linear")
    assert "not on a Mac: choose the format mlx" in api.advice.export(on_mac, 8).notes[0]
    text = api.advice.export(on_mac, 8, "mlx").text
    assert "--mlx-path mlx_model --dtype float32" in text and "model: mlx_model" in text


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"framework": "mlx", "gpu": "l4"}, "MLX trains on a Mac. Choose one as GPU, such as mac-32gb"),
        ({"gpu": "mac-64gb", "modules_to_save": ("lm_head",)}, "MLX LM trains LoRA alone, on text"),
    ],
)
def test_what_mlx_cannot_do_is_refused(tmp_path, settings, sentence):
    with pytest.raises(InvalidSettingError, match=sentence):
        Api(home=tmp_path).estimates.estimate(question(QWEN, **settings))
