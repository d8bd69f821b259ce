"""Time and money, worked out by hand on the toy."""

import pytest

from rankviz.core.duration import (
    DurationTerms,
    cost,
    duration_at,
    duration_terms,
    operations_per_token,
    peak_flops_per_second,
    price_of,
)
from rankviz.core.hardware import Price
from rankviz.core.ranges import Range
from rankviz.core.training import TrainingSetup
from tests.test_memory import shape_of, stack
from tests.toy import TOY, gpu, model


def terms(**more):
    fields = {
        "tokens": 10,
        "operations": 90.0,
        "operations_per_rank": 5.0,
        "flops_per_second": Range(200, 1000 / 3, 1000),
        "floor_seconds": Range(2, 4, 6),
        "micro_steps": 2,
        "steps": 3,
        "load": None,
        "load_seconds": Range(1, 2, 3),
    }
    return DurationTerms(**{**fields, **more})


def test_operations_of_a_token_with_loras_own_terms():
    setup = stack().setup

    fixed, for_each_rank = operations_per_token(TOY, shape_of(TOY), setup)

    attention = 2 * 4 * 16 * 5  # blocks × 4 · Q · half the length
    assert 6 * 4608 + 4.5 * attention + 4 * 16 * 100 == fixed
    assert 8 * 2 * (32 + 24) == for_each_rank  # q and v of two blocks


def test_without_checkpointing_nothing_is_computed_twice():
    fixed, for_each_rank = operations_per_token(TOY, shape_of(TOY), stack(checkpointing="none").setup)

    assert 4 * 4608 + 3.5 * 640 + 6400 == fixed
    assert 6 * 112 == for_each_rank


def test_a_sliding_window_bounds_the_keys_a_query_sees():
    sliding = model(layer_types=("sliding_attention", "full_attention"), sliding_window=4)
    setup = stack().setup

    fixed, _ = operations_per_token(sliding, shape_of(sliding), setup)

    full_block, sliding_block = 4 * 16 * 5, 4 * 16 * 3.2  # 4 · (1 - 4/20) keys
    assert pytest.approx(6 * 4608 + 4.5 * (full_block + sliding_block) + 6400) == fixed


def test_a_micro_step_adds_floor_and_compute_at_right_angles():
    duration = duration_at(terms(), r=2)

    assert pytest.approx(2 * 5) == duration.step.expected  # 3 s of compute, a floor of 4 s, two micro-steps
    assert pytest.approx(2 * 5**0.5) == duration.step.low
    assert pytest.approx(2 * (25 + 36) ** 0.5) == duration.step.high
    assert pytest.approx(3 * 10) == duration.total.expected


def test_loading_counts_once_a_length_of_training_is_given():
    assert pytest.approx(30 + 2) == duration_at(terms(load=Range(1, 2, 3)), r=2).total.expected


def test_cost_is_hours_times_price():
    price = Price(usd_per_hour=7.2, provider="", source="", checked="")

    assert pytest.approx(30 * 0.002) == cost(duration_at(terms(), r=2), price).usd.expected


def test_no_price_is_not_a_price_of_zero():
    assert cost(duration_at(terms(), r=2), price_of(gpu(prices=()), None)) is None


def test_ones_own_price_comes_before_the_tables():
    assert 0.5 == price_of(gpu(), 0.5).usd_per_hour
    assert 3.6 == price_of(gpu(), None).usd_per_hour


def test_a_card_without_known_flops_has_no_time():
    unknown = gpu(bf16_flops_per_second=None)

    assert duration_terms(TOY, shape_of(TOY), stack(), unknown) is None


def test_the_other_16_bit_format_runs_at_the_same_rate_and_fp32_is_not_known():
    assert 1e14 == peak_flops_per_second(gpu(), TrainingSetup(precision="fp16"))
    old = gpu(bf16_flops_per_second=None, fp16_flops_per_second=65e12, supports_bf16=False)
    assert 65e12 == peak_flops_per_second(old, TrainingSetup(precision="nf4-dq"))
    assert peak_flops_per_second(gpu(), TrainingSetup(precision="fp32")) is None


def test_a_step_is_slower_with_more_tokens_a_higher_rank_and_dora():
    def step(r=8, use_dora=False, **setup):
        asked = stack("peft", use_dora, **{"max_length": 4096, **setup})
        return duration_at(duration_terms(TOY, shape_of(TOY), asked, gpu()), r).step.expected

    assert step() < step(max_length=8192)
    assert step() < step(r=16)
    assert step() < step(use_dora=True)
    assert pytest.approx(4 * step()) == step(gradient_accumulation_steps=4)
