"""The verdict on a page: its figure, its sentences, its data."""

import json

import pytest

from rankviz.figures import Difference, verdict_figure
from rankviz.figures.style import MEASURED
from rankviz.ui.parts.verdict import verdict_chart, verdict_html
from rankviz.verdict import judge, verdict_json
from tests.support.finished_runs import text_of
from tests.support.verdict_tables import table


def said(losses):
    return verdict_json(judge(table(losses)))


TOLD = {4: [[2.2], [2.21], [2.2]], 16: [[1.5], [1.51], [1.5]], 64: [[1.6], [1.48], [1.5]]}


def test_ranks_stand_at_their_differences_with_intervals_around_them():
    verdict = said(TOLD)

    drawn = json.loads(verdict_chart(verdict))

    (trace,) = drawn["data"]
    assert ["r = 4", "r = 16", "r = 64"] == trace["x"]
    assert [0.7, 0.0] == [round(y, 9) for y in trace["y"][:2]]
    four = verdict["ranks"][0]
    assert pytest.approx(four["above_best_high"] - 0.7) == trace["error_y"]["array"][0]
    assert pytest.approx(0.7 - four["above_best_low"]) == trace["error_y"]["arrayminus"][0]
    assert MEASURED == trace["marker"]["color"]


def test_what_is_not_known_is_an_open_marker_and_the_band_is_the_tolerance():
    figure = verdict_figure(
        [
            Difference(r=4, value=0.3, low=0.2, high=0.4, call="different"),
            Difference(r=8, value=0.01, low=-0.1, high=0.12, call="can't tell"),
            Difference(r=16, value=0.0, low=0.0, high=0.0, call="lowest loss"),
        ],
        best=16,
        tolerance_nats=0.05,
    )

    assert ("circle", "circle-open", "diamond") == figure.data[0].marker.symbol
    (band,) = figure.layout.shapes
    assert (-0.05, 0.05) == (band.y0, band.y1)
    assert "loss above r = 16, nats" == figure.layout.yaxis.title.text


def test_one_run_each_has_points_and_no_intervals():
    verdict = said({4: [[2.2]], 16: [[1.5]]})

    (trace,) = json.loads(verdict_chart(verdict))["data"]

    assert ["circle-open", "diamond"] == trace["marker"]["symbol"]
    assert [None, None] == trace["error_y"]["array"]
    assert "interval not known" in trace["hovertext"][0]
    assert verdict_html(verdict).index("No verdict possible: each rank has one run.") < 80


def test_the_data_of_the_figure_has_a_row_a_rank_and_an_empty_cell_for_what_is_not_known():
    rows = json.loads(verdict_chart(said({4: [[2.2]], 16: [[1.5]]})))["csv"].splitlines()

    assert rows[0].startswith("r,loss,seeds,learning_rate,")
    assert rows[1].startswith("4,2.2,1,,1,")
    assert ",,,can't tell,16,0.02,1" in rows[1]


def test_without_a_verdict_the_page_says_what_it_needs():
    assert "No verdict yet" in text_of(verdict_html(None))
    assert [] == json.loads(verdict_chart(None))["data"]
