"""Figures of sweeps: quality by rank, and quality against cost; runs and truncations are never joined."""

from dataclasses import replace

import pytest

from rankviz.core.runs.metric import TOKEN_ACCURACY
from rankviz.figures import sweep_figure, sweep_info
from rankviz.verdict import judge, losses_of
from tests.support.runs.finished_runs import plain_sweep


def verdict_of(sweep, **more):
    return judge(losses_of(sweep.runs, *more.values()), **more)


def test_each_rank_lies_at_its_cost_and_mean_loss():
    """1 MB per rank; the second seed is worse by 0.1, so the standard deviation is 0.1 / √2."""
    sweep = plain_sweep({4: 2.0, 16: 1.5}, seeds=(0, 1))
    verdict = verdict_of(sweep)

    (group,) = sweep_info([(sweep, verdict)], x="adapter").groups
    info = sweep_info([(sweep, verdict)])

    assert [(4, 4.0), (16, 16.0)] == [(p.r, p.x) for p in group.points]
    assert [2.05, 1.55] == pytest.approx([p.y for p in group.points])
    assert 0.1 / 2**0.5 == pytest.approx(group.points[0].error)
    assert "learning rate 0.001, 2 seeds, bar is one standard deviation" in group.points[0].text
    assert list(group.points) == list(group.front)
    assert [4, 16] == [p.x for p in info.groups[0].points]
    assert [("independent runs", 4, 2), ("independent runs", 16, 2)] == [
        (row["kind"], row["r"], row["runs"]) for row in info.rows
    ]


def test_the_front_joins_points_of_one_sweep_only():
    sweeps = [replace(plain_sweep({4: 2.0, 16: 1.5, 64: 1.6}), sweep_id=name) for name in ("one", "two")]

    figure = sweep_figure(sweep_info([(sweep, verdict_of(sweep)) for sweep in sweeps], x="adapter"))

    lines = [trace for trace in figure.data if trace.mode == "lines"]
    assert [(4.0, 16.0)] * 2 == [line.x for line in lines]  # r = 64 costs more and is worse
    assert [True, False] == [line.showlegend for line in lines]
    assert 2 == len({trace.marker.symbol for trace in figure.data if trace.mode == "markers+text"})


def test_an_accuracy_is_higher_on_the_axis_and_its_verdict_is_in_points():
    sweep = plain_sweep({4: 2.0, 16: 1.5}, seeds=(0, 1, 2))
    hits = {4: 60, 16: 80}
    runs = [
        replace(run, loss_after=replace(run.loss_after, tokens=100, correct_tokens=hits[r] + run.request.seed))
        for run in sweep.runs
        for r in [run.request.r]
    ]
    sweep = replace(sweep, runs=tuple(runs))

    info = sweep_info([(sweep, verdict_of(sweep, metric=TOKEN_ACCURACY))], x="adapter", metric=TOKEN_ACCURACY)

    (group,) = info.groups
    assert [(4, 61.0), (16, 81.0)] == [(p.r, p.y) for p in group.points]
    assert list(group.points) == list(group.front)
    assert 16 == group.smallest.r
    assert [61.0, 81.0] == [row["token_accuracy_percent"] for row in info.rows]
    assert "r = 16 is best" in info.source and "Learning rate not tuned (0.001)" in info.source


def test_runs_have_the_marks_of_the_verdict_and_the_legend_its_words():
    sweep = plain_sweep({4: 2.5, 16: 1.5, 64: 1.5}, seeds=(0, 1, 2))

    figure = sweep_figure(sweep_info([(sweep, verdict_of(sweep))]))

    assert {
        "measured: best rank": ("diamond", (16,)),
        "measured: worse than the best": ("circle", (4,)),
        "measured: equal within the tolerance": ("square", (64,)),
    } == {trace.name: (trace.marker.symbol, trace.x) for trace in figure.data}
    assert ["r = 16: smallest rank to consider"] == [line.name for line in figure.layout.shapes if line.showlegend]
