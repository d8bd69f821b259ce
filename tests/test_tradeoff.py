"""Fronts, groups and verdicts, worked out by hand."""

import pytest

from rankviz.core.tradeoff import TradeoffPoint, by_rank, learning_rate_note, pareto_front, pooled_spread, verdict


def run(r, loss, *, cost=None, rate=1e-3, seed=0):
    return TradeoffPoint(r, cost if cost is not None else 1000 * r, loss, rate, seed)


def test_the_front_is_what_no_other_point_beats_on_both():
    cheap, middling, dear = run(2, 1.9), run(4, 1.95), run(8, 1.8)

    assert (cheap, dear) == pareto_front([dear, middling, cheap])


def test_of_equal_costs_only_the_better_is_on_the_front():
    assert (run(4, 1.5, cost=7),) == pareto_front([run(2, 1.9, cost=7), run(4, 1.5, cost=7)])


def test_a_diverged_run_is_on_no_front_and_in_no_mean():
    points = [run(2, float("nan"), seed=0), run(2, 1.9, seed=1), run(4, float("inf"))]

    assert (points[1],) == pareto_front(points)
    assert [(2, 1.9, 1)] == [(group.r, group.loss, group.runs) for group in by_rank(points)]


def test_a_rank_is_its_mean_over_seeds_with_their_spread():
    (group,) = by_rank([run(8, 1.0, seed=0), run(8, 2.0, seed=1), run(8, 3.0, seed=2)])

    assert (2.0, 1.0, 3) == (group.loss, group.spread, group.runs)


def test_one_run_has_no_spread_rather_than_a_spread_of_zero():
    (group,) = by_rank([run(8, 1.0)])

    assert group.spread is None


def test_each_rank_stands_for_its_own_best_learning_rate():
    groups = by_rank([run(2, 1.9, rate=1e-3), run(2, 1.7, rate=3e-3), run(8, 1.6, rate=1e-3), run(8, 1.8, rate=3e-3)])

    assert [(2, 3e-3, 1.7, 2), (8, 1e-3, 1.6, 2)] == [
        (group.r, group.learning_rate, group.loss, group.learning_rates_tried) for group in groups
    ]


def test_the_pooled_spread_weighs_each_rank_by_its_degrees_of_freedom():
    groups = by_rank(
        [
            *(run(2, loss, seed=i) for i, loss in enumerate((1.0, 3.0))),
            *(run(4, x, seed=i) for i, x in enumerate((1, 2, 3))),
        ]
    )

    assert pytest.approx(((1 * 2 + 2 * 1) / 3) ** 0.5) == pooled_spread(groups)  # variances 2 and 1


def test_one_run_each_takes_the_stated_tolerance_and_says_so():
    said = verdict(by_rank([run(2, 1.85), run(4, 1.815), run(8, 1.80), run(16, 1.81)]))

    assert (8, 4, (4, 8, 16)) == (said.best, said.smallest, said.indistinguishable)
    assert 0.02 == said.tolerance
    assert "one run each, so repeat noise is not known: within 0.02 nats of the best counts as equal" == said.reason


def test_with_seeds_the_rule_is_one_standard_error_of_the_difference():
    # spread 0.02 in each rank, two seeds: standard error of a difference 0.02 · sqrt(1/2 + 1/2) = 0.02
    near = [run(4, 1.815 + s, seed=i) for i, s in enumerate((-0.014142, 0.014142))]
    far = [run(2, 1.825 + s, seed=i) for i, s in enumerate((-0.014142, 0.014142))]
    best = [run(8, 1.8 + s, seed=i) for i, s in enumerate((-0.014142, 0.014142))]

    said = verdict(by_rank([*far, *near, *best]))

    assert (8, 4, (4, 8)) == (said.best, said.smallest, said.indistinguishable)
    assert said.tolerance is None
    assert "within one standard error of the best, from a spread of 0.020 nats between runs" == said.reason


def test_no_runs_no_verdict():
    assert verdict(()) is None
    assert "" == learning_rate_note(())


@pytest.mark.parametrize(
    ("points", "note"),
    [
        (
            [run(2, 1.9), run(8, 1.8)],
            "Learning rate not tuned: 0.001 at every rank, which may suit some ranks better than others.",
        ),
        (
            [run(2, 1.9, rate=1e-3), run(8, 1.8, rate=2e-3)],
            "Each rank ran at a learning rate of its own, none of them tuned.",
        ),
        (
            [run(2, 1.9), run(8, 1.8), run(8, 1.7, rate=2e-3)],
            "Learning rate tuned at some ranks only: those at one rate may look worse than they are.",
        ),
        (
            [run(2, 1.9), run(2, 1.8, rate=2e-3), run(8, 1.8), run(8, 1.7, rate=2e-3)],
            "Learning rate tuned at each rank: best of 2.",
        ),
    ],
    ids=["one rate", "one each", "some", "all"],
)
def test_it_says_whether_the_learning_rate_was_tuned(points, note):
    assert note == learning_rate_note(by_rank(points))
