"""Quality against cost: what the info holds of sweeps, and what the figure draws of it."""

from dataclasses import replace

import pytest

from rankviz.figures import tradeoff_figure, tradeoff_info
from rankviz.figures.sweep_tradeoff import PlottedPoint, PointGroup, TradeoffInfo
from tests.support.runs.finished_runs import plain_sweep

POINTS = (
    PlottedPoint(run_id="a", r=4, x=100.0, y=2.0, low=1.9, high=2.1, x_text="100 B", detail="lr 0.001"),
    PlottedPoint(run_id="b", r=16, x=400.0, y=1.5, x_text="400 B", detail="lr 0.001"),
)


def test_the_info_has_a_point_per_rank_at_its_cost_and_mean_loss():
    """1 MB per rank; the second seed is worse by 0.1, so the standard deviation is 0.1 / √2."""
    (group,) = tradeoff_info([plain_sweep({4: 2.0, 16: 1.5}, seeds=(0, 1))]).groups

    assert [(4, 4.0), (16, 16.0)] == [(p.r, p.x) for p in group.points]
    assert [2.05, 1.55] == pytest.approx([p.y for p in group.points])
    assert 0.1 / 2**0.5 == pytest.approx(group.points[0].high - group.points[0].y)
    assert "learning rate 0.001, 2 seeds, bar is one standard deviation" == group.points[0].detail
    assert [0, 1] == list(group.front)


def test_money_is_hours_times_price_and_asks_for_a_price():
    sweep = plain_sweep({4: 2.0, 16: 1.5})

    paid, unpaid = tradeoff_info([sweep], x="money", usd_per_hour=36.0), tradeoff_info([sweep], x="money")

    assert [0.1, 0.1] == [p.x for p in paid.groups[0].points]  # 10 s
    assert ([], "Enter a price per hour.") == (unpaid.groups, unpaid.empty)


def test_the_front_joins_points_of_one_group_only():
    groups = [PointGroup(label=label, points=POINTS, front=(0, 1)) for label in ("one", "two")]

    figure = tradeoff_figure(TradeoffInfo(groups, x_title="bytes", y_title="loss"))

    lines = [trace for trace in figure.data if trace.mode == "lines"]
    assert 2 == len(lines)
    assert all((100.0, 400.0) == line.x for line in lines)
    assert 2 == len({trace.marker.symbol for trace in figure.data if trace.name in ("one", "two")})


def test_an_accuracy_is_higher_on_the_axis_and_its_verdict_is_in_points():
    sweep = plain_sweep({4: 2.0, 16: 1.5}, seeds=(0, 1, 2))
    hits = {4: 60, 16: 80}
    runs = [
        replace(run, loss_after=replace(run.loss_after, tokens=100, correct_tokens=hits[r] + run.request.seed))
        for run in sweep.runs
        for r in [run.request.r]
    ]

    info = tradeoff_info([replace(sweep, runs=tuple(runs))], y="token_accuracy")

    (group,) = info.groups
    assert [(4, 61.0, "61.0 %"), (16, 81.0, "81.0 %")] == [(p.r, p.y, p.y_text) for p in group.points]
    assert [0, 1] == list(group.front)
    assert group.noise[0] <= 80.0
    assert 81.0 == group.noise[1]
    assert [61.0, 81.0] == [row["token_accuracy_percent"] for row in info.rows]
    assert "r = 16" in info.notes[0]
