"""Fronts and groups, worked out by hand."""

import pytest

from rankviz.core.runs.metric import TradeoffPoint, by_rank, learning_rate_note, pareto_front

RATES = {2: 1e-3, 4: 1e-3, 8: 1e-3}


def run(r, loss, *, cost=None, rate=1e-3, seed=0):
    return TradeoffPoint(r, cost if cost is not None else 1000 * r, loss, rate, seed)


def test_a_diverged_run_is_on_no_front_and_in_no_mean():
    points = [run(2, float("nan"), seed=0), run(2, 1.9, seed=1), run(4, float("inf"))]

    assert (points[1],) == pareto_front(points)
    assert [(2, 1.9, 1)] == [(group.r, group.loss, group.runs) for group in by_rank(points, RATES)]


def test_each_rank_stands_at_the_learning_rate_that_the_verdict_chose():
    points = [run(2, 1.9, rate=1e-3), run(2, 1.7, rate=3e-3), run(8, 1.6, rate=1e-3), run(8, 1.8, rate=3e-3)]

    groups = by_rank(points, {2: 3e-3, 8: 1e-3})

    assert [(2, 3e-3, 1.7, 2), (8, 1e-3, 1.6, 2)] == [
        (group.r, group.learning_rate, group.loss, group.learning_rates_tried) for group in groups
    ]


@pytest.mark.parametrize(
    ("points", "rates", "note"),
    [
        ([run(2, 1.9), run(8, 1.8)], RATES, "Learning rate not tuned (0.001)"),
        ([run(2, 1.9), run(8, 1.8), run(8, 1.7, rate=2e-3)], {2: 1e-3, 8: 2e-3}, "Learning rate tuned at some ranks"),
        (
            [run(2, 1.9), run(2, 1.8, rate=2e-3), run(8, 1.8), run(8, 1.7, rate=2e-3)],
            {2: 2e-3, 8: 2e-3},
            "Learning rate tuned at each rank: best of 2.",
        ),
    ],
    ids=["one rate", "some", "all"],
)
def test_it_says_whether_the_learning_rate_was_tuned(points, rates, note):
    assert learning_rate_note(by_rank(points, rates)).startswith(note)
