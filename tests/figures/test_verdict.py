"""How far each rank lies above the best."""

import pytest

from rankviz.figures import verdict_figure, verdict_info
from rankviz.figures.style import MEASURED
from rankviz.figures.verdict import BEST, RankDifference, VerdictInfo
from rankviz.verdict import CANT_TELL, DIFFERENT, judge
from tests.support.runs.verdict_tables import table

THREE_SEEDS = {4: [[2.2], [2.21], [2.2]], 16: [[1.5], [1.51], [1.5]], 64: [[1.6], [1.48], [1.5]]}


def test_the_info_has_each_ranks_difference_from_the_best_with_its_interval():
    verdict = judge(table(THREE_SEEDS))

    info = verdict_info(verdict)

    assert (16, [4, 16, 64]) == (info.best, [d.r for d in info.differences])
    four, best, _ = info.differences
    assert 0.7 == pytest.approx(four.value)
    assert four.low < 0.7 < four.high
    assert RankDifference(16, 0.0, 0.0, 0.0, BEST) == best


def test_what_is_not_known_is_an_open_marker_and_the_band_is_the_tolerance():
    differences = [
        RankDifference(r=4, value=0.3, low=0.2, high=0.4, call=DIFFERENT),
        RankDifference(r=8, value=0.01, low=-0.1, high=0.12, call=CANT_TELL),
        RankDifference(r=16, value=0.0, low=0.0, high=0.0, call=BEST),
    ]

    figure = verdict_figure(VerdictInfo(differences, best=16, within=0.05))

    assert {"worse than the best": "circle", "cannot be distinguished from the best": "circle-open"} | {
        "best rank": "diamond"
    } == {trace.name: trace.marker.symbol for trace in figure.data}
    assert {MEASURED} == {trace.marker.color for trace in figure.data}
    assert ("r = 4", "r = 8", "r = 16") == figure.layout.xaxis.categoryarray
    (band,) = figure.layout.shapes
    assert (-0.05, 0.05, "counts as equal", True) == (band.y0, band.y1, band.name, band.showlegend)
    assert "loss above r = 16, nats" == figure.layout.yaxis.title.text
