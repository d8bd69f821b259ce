"""Held-out loss by rank: independent runs and fast curves, never joined."""

from dataclasses import replace

import pytest

from rankviz.core.runs.events import AdapterCut
from rankviz.figures import rank_curve_figure, rank_curve_info
from rankviz.verdict import judge, losses_of
from tests.support.runs.finished_runs import plain_sweep
from tests.support.web.quick_looks import forecast


def verdict_of(sweep):
    return judge(losses_of(sweep.runs))


def truncated(sweep, losses):
    """The sweep, its last run truncated to these ranks."""
    *others, last = sweep.runs
    events = [
        AdapterCut(time=9.0, r=r, loss=loss, tokens=1, examples=1, seconds=1.0, example_losses=())
        for r, loss in losses.items()
    ]
    return replace(sweep, runs=(*others, replace(last, cuts=tuple(events))))


def test_independent_runs_are_points_with_their_mean_and_spread():
    sweep = plain_sweep({4: 2.0, 16: 1.5}, seeds=(0, 1))

    info = rank_curve_info(sweep, verdict_of(sweep))

    assert ([4, 16], []) == (list(info.ranks), list(info.lines))
    assert [2.05, 1.55] == [round(point.y, 9) for point in info.runs]
    assert [("independent runs", 4, 2), ("independent runs", 16, 2)] == [
        (row["kind"], row["r"], row["runs"]) for row in info.rows
    ]


def test_a_fast_curve_is_a_line_of_its_own_and_names_the_rank():
    sweep = truncated(plain_sweep({64: 1.6}), {8: 1.61, 2: 1.7})

    info = rank_curve_info(sweep, verdict_of(sweep))

    (line,) = info.lines
    assert "fast curve" == line.label
    assert [(2, 1.7), (8, 1.61), (64, 1.6)] == [(r, value) for r, value, _ in line.points]
    assert ["truncated, about 2.0 MB", "trained, 64.0 MB"] == [line.points[i][2] for i in (0, -1)]
    assert 8 == info.picked
    assert "independent runs show that." in info.source


def test_runs_have_the_marks_of_the_verdict_and_the_legend_its_words():
    sweep = plain_sweep({4: 2.5, 16: 1.5, 64: 1.5}, seeds=(0, 1, 2))

    figure = rank_curve_figure(rank_curve_info(sweep, verdict_of(sweep)))

    assert {
        "measured: best rank": ("diamond", (16,)),
        "measured: worse than the best": ("circle", (4,)),
        "measured: equal within the tolerance": ("square", (64,)),
    } == {trace.name: (trace.marker.symbol, trace.x) for trace in figure.data}
    assert figure.layout.showlegend
    assert ["r = 16: smallest rank to consider"] == [line.name for line in figure.layout.shapes if line.showlegend]
    assert () == figure.layout.annotations


def test_a_forecast_lies_under_the_runs_as_one_entry_of_the_legend():
    sweep = truncated(plain_sweep({4: 1.9, 64: 1.6}), {8: 1.61})

    info = rank_curve_info(sweep, verdict_of(sweep), forecast=forecast({4: 1.9, 16: 1.7, 64: 1.6}))
    figure = rank_curve_figure(info)

    assert ["estimated, 80 % band", "50 % band", "fast curve", "measured runs"] == [
        trace.name for trace in figure.data if trace.showlegend is not False
    ]
    wide, narrow, median = figure.data[:3]
    assert (4, 16, 64) == median.x
    assert {4, 16, 64} == set(wide.x) == set(narrow.x)
    assert (1.57, 1.93) == pytest.approx((min(wide.y), max(wide.y)))
    assert (1.585, 1.915) == pytest.approx((min(narrow.y), max(narrow.y)))
    assert [None] * 3 == [trace.customdata for trace in figure.data[:3]]  # a click on the band opens no run
    assert [4, 8, 16, 64] == list(info.ranks) == list(figure.layout.xaxis.tickvals)
    assert "nothing is forecast below the lowest run" in info.source
