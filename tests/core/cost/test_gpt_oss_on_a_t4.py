"""The question of Unsloth's gpt-oss-20b notebook on a T4: r = 8, 4 bit, batch 1, accumulation 4, 1,024 tokens at most.

A T4 has 15,636,902,182 usable bytes (14.56 GiB), and "tight" begins at 95 % of that, 14,855,057,073. With today's
Unsloth the seven projections reach the experts too. Notebooks of 2025 printed 3,981,312 trainable parameters, which is
attention alone, and these peaks of reserved memory: 13,788,992,503 bytes (Unsloth 2025.8.4), 13,931,800,166 (2025.8.5)
and 14,618,994,933 (2025.10.9). They are the rows V0098, V0099 and V0101 of assets/validation/published_2.csv. Their
examples were shorter than 1,024 tokens, so an estimate at 1,024 should be above them on average.
"""

import pytest

from rankviz.api import Api
from tests.support.runs.questions import question

API = Api()
USABLE = 15_636_902_182
PEAKS = (13_788_992_503, 13_931_800_166, 14_618_994_933)
"""torch's max_memory_reserved, which leaves out the CUDA context."""


def at_r_8(targets, precision="nf4"):
    asked = question(
        "openai/gpt-oss-20b",
        ranks=(8,),
        gpu="T4",
        target_modules=targets,
        framework="unsloth",
        precision=precision,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=4,
        max_length=1024,
        max_steps=100,
    )
    answer = API.estimates.estimate(asked).estimate
    (rank,) = answer.ranks
    assert USABLE == answer.usable_bytes.low == answer.usable_bytes.high
    return rank


# 24 blocks. Attention: q 2880 to 4096, k and v 2880 to 512, o 4096 to 2880. 32 experts: gate_up 2880 to 5760, down
# 2880 to 2880.
ATTENTION = 8 * 24 * ((2880 + 4096) + 2 * (2880 + 512) + (4096 + 2880))
EXPERTS = 8 * 24 * 32 * ((2880 + 5760) + (2880 + 2880))


@pytest.mark.parametrize(
    ("targets", "parameters"), [("unsloth", ATTENTION + EXPERTS), ("attention", ATTENTION)], ids=["today", "2025"]
)
@pytest.mark.parametrize("precision", ["nf4", "nf4-dq"])
def test_it_fits_tight(targets, parameters, precision):
    rank = at_r_8(targets, precision)

    assert parameters == rank.adapter_parameters
    assert 0.95 * USABLE < rank.memory.high <= USABLE
    assert "tight" == rank.fit


def test_the_counts_are_those_that_unsloth_prints():
    assert (92_454_912, 3_981_312) == (ATTENTION + EXPERTS, ATTENTION)


def test_the_measured_peaks_are_inside_the_range_and_below_the_expected_value_at_full_length():
    """Of attention in nf4-dq, what load_in_4bit is: 13.6 to 15.3 GB reserved, 14.9 expected."""
    memory = at_r_8("attention", "nf4-dq").memory
    context = memory.device - memory.reserved

    assert [True] * 3 == [memory.low - context <= peak <= memory.high - context for peak in PEAKS]
    assert max(PEAKS) < memory.reserved < 1.09 * min(PEAKS)


def test_the_experts_take_the_embedding_off_the_card():
    """Their adapter, gradients and states leave the card short of room, and 1.08 GiB of embedding move to the host."""
    today, notebook = at_r_8("unsloth").memory, at_r_8("attention").memory

    assert 2 * 201_088 * 2880 == notebook.base_weights - today.base_weights
