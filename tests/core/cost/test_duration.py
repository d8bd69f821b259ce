"""Operations, bytes, time and money, worked out by hand on the toy."""

import pytest

from rankviz.core.cost.duration import DurationTerms, cost, duration_terms, price_of, work_of
from rankviz.core.cost.setup import Price, TrainingSetup, card
from rankviz.core.cost.stack import Habits
from rankviz.core.quantity import Range
from tests.core.cost.toy_cost import shape_of, stack
from tests.support.runs.toy import ASSUMPTIONS, TOY, gpu


def terms(load=None):
    setup = (
        TrainingSetup(gradient_accumulation_steps=2, max_steps=3)
        if load
        else TrainingSetup(gradient_accumulation_steps=2)
    )
    return DurationTerms(
        work=Range(0.9, 2.7, 4.5),
        work_per_rank=Range(0.05, 0.15, 0.25),
        floor=Range(2, 4, 6),
        load=Range(1, 2, 3),
        setup=setup,
    )


def test_a_micro_step_adds_floor_and_compute_at_right_angles_and_loading_counts_with_a_length():
    duration, whole = terms().at(2), terms(load=True).at(2)

    assert pytest.approx(2 * 5) == duration.step.expected  # 3 s of compute, a floor of 4 s, two micro-steps
    assert pytest.approx((2 * 5**0.5, 2 * (25 + 36) ** 0.5)) == (duration.step.low, duration.step.high)
    assert duration.total == duration.step
    assert pytest.approx(3 * 10 + 2) == whole.total.expected


def test_cost_is_hours_times_price_ones_own_first_and_no_price_is_not_zero():
    price = Price(usd_per_hour=7.2, provider="", source="", checked="")

    assert pytest.approx(32 * 0.002) == cost(terms(load=True).at(2), price).usd.expected
    assert cost(terms().at(2), price_of(gpu(prices=()), None)) is None
    assert (0.5, 3.6) == (price_of(gpu(), 0.5).usd_per_hour, price_of(gpu(), None).usd_per_hour)


def test_products_and_bytes_moved_add_up_to_the_work():
    trl = stack("trl", max_length=1000)
    work = work_of(TOY, shape_of(TOY), trl)

    products = work.operations / (1e14 * ASSUMPTIONS.value("matmul-efficiency-a100"))
    moved = work.bytes_moved / (1e12 * ASSUMPTIONS.value("bandwidth-efficiency"))
    assert 0 == work.operations_fp32
    assert pytest.approx(products + moved) == duration_terms(TOY, shape_of(TOY), trl, card(gpu())).work.expected


def work(spec=TOY, framework="trl", habits=None, **setup):
    return work_of(spec, shape_of(spec), stack(framework, habits=habits, **setup))


def test_operations_with_loras_own_terms_and_twice_nothing_without_checkpointing():
    counted, kept = work(), work(gradient_checkpointing="none")

    attention = 2 * 4 * 16 * 5  # blocks × 4 · Q · half the length
    assert 10 * (6 * 4608 + 4.5 * attention + 4 * 16 * 100) == counted.operations
    assert 10 * 8 * 2 * (32 + 24) == counted.operations_per_rank  # q and v of two blocks
    assert (0, 0) == (counted.operations_fp32, counted.operations_fp32_per_rank)
    assert 10 * (4 * 4608 + 3.5 * 640 + 6400) == kept.operations
    assert 10 * 6 * 112 == kept.operations_per_rank
    base_too = work_of(TOY, shape_of(TOY), stack("trl"), weight_gradients=True)
    assert 10 * (2 * 4608 + 2 * 1600) == base_too.operations - counted.operations


def test_bytes_moved_by_operators_and_by_dequantizing_and_the_share_of_fused_kernels():
    block = 368 * 16 + 43 * 48 + 12.7 * 96 + 42 * 32 + 24 * 24  # H, 2Q + 2K, 3M, in and out features of q and v
    logits = 45 * 100

    assert pytest.approx(10 * (2 * block + logits)) == work().bytes_moved
    own_dtype = block - (42 - 6) * 32
    weights = 3 * 4608 * (0.5625 + 4)
    assert pytest.approx(10 * (2 * own_dtype + logits) + weights) == work(precision="nf4").bytes_moved
    saved = work().bytes_moved - work(habits=Habits(triton_kernels=True)).bytes_moved
    assert pytest.approx(0.4 * 10 * 2 * block) == saved
