"""Time and money, worked out by hand on the toy."""

import math

import pytest

from rankviz.core.cost.duration import (
    DurationTerms,
    cost,
    duration_at,
    duration_terms,
    peak_flops_per_second,
    price_of,
    work_of,
)
from rankviz.core.cost.setup import Price, TrainingSetup
from rankviz.core.quantity import Range
from tests.core.cost.memory.toy_memory import shape_of, stack
from tests.support.runs.toy import ASSUMPTIONS, TOY, gpu


def terms(**more):
    fields = {
        "work_seconds": Range(0.9, 2.7, 4.5),
        "work_seconds_per_rank": Range(0.05, 0.15, 0.25),
        "floor_seconds": Range(2, 4, 6),
        "micro_steps": 2,
        "steps": 3,
        "load": None,
        "load_seconds": Range(1, 2, 3),
    }
    return DurationTerms(**{**fields, **more})


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


def test_a_card_without_known_flops_or_bandwidth_has_no_time():
    for unknown in (gpu(bf16_flops_per_second=None), gpu(bandwidth_bytes_per_second=None)):
        assert duration_terms(TOY, shape_of(TOY), stack(), unknown) is None


def test_the_other_16_bit_format_runs_at_the_same_rate_and_fp32_at_its_own():
    assert 1e14 == peak_flops_per_second(gpu(), TrainingSetup(precision="fp16"))
    old = gpu(bf16_flops_per_second=None, fp16_flops_per_second=65e12, supports_bf16=False)
    assert 65e12 == peak_flops_per_second(old, TrainingSetup(precision="nf4-dq"))
    assert peak_flops_per_second(gpu(), TrainingSetup(precision="fp32")) is None
    assert 2e13 == peak_flops_per_second(gpu(fp32_flops_per_second=2e13), TrainingSetup(precision="fp32"))


def test_products_and_bytes_moved_add_up_to_the_work():
    trl = stack("trl", max_length=1000, loss_path="full")
    work = work_of(TOY, shape_of(TOY), trl)

    terms = duration_terms(TOY, shape_of(TOY), trl, gpu())

    products = work.operations / (1e14 * ASSUMPTIONS.value("matmul-efficiency-a100"))
    moved = work.bytes_moved / (1e12 * ASSUMPTIONS.value("bandwidth-efficiency"))
    assert 0 == work.operations_fp32
    assert pytest.approx(products + moved) == terms.work_seconds.expected


def test_a_card_without_timings_has_the_wider_range():
    def widest(group):
        seconds = duration_terms(TOY, shape_of(TOY), stack("trl"), gpu(utilisation_group=group)).work_seconds
        return seconds.high / seconds.low

    assert pytest.approx(math.exp(2 * ASSUMPTIONS.value("time-width-hf"))) == widest("a100")
    assert pytest.approx(math.exp(2 * 0.45)) == widest("hopper")
    assert widest("a100") < widest("hopper") <= 2.5


def test_a_step_is_slower_with_more_tokens_a_higher_rank_and_dora():
    def step(r=8, use_dora=False, **setup):
        peft = stack("peft", use_dora, **{"max_length": 4096, **setup})
        return duration_at(duration_terms(TOY, shape_of(TOY), peft, gpu()), r).step.expected

    assert step() < step(max_length=8192)
    assert step() < step(r=16)
    assert step() < step(use_dora=True)
    assert pytest.approx(2 * step()) == step(gradient_accumulation_steps=4)
