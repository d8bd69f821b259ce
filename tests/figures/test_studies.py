"""Published lines: the shipped studies as infos, and what the figure draws."""

import pytest

from rankviz.api import Api
from rankviz.core.studies.lines import AdapterSize, nearest
from rankviz.figures import studies_figure, studies_info
from rankviz.figures.studies import PublishedLine, PublishedPoint, StudiesInfo, shapes_of
from tests.support.runs.studies_toy import evidence, point, subject

API = Api()
APERTUS = "swiss-ai/Apertus-8B-Instruct-2509"
SUBJECT = API.forecasts.subject("meta-llama/Llama-3.1-8B", "instruction")
NEAR = API.studies.near(SUBJECT, ("lora",), ("attention and mlp",))[:2]


def sizes(line):
    """10 parameters and 40 bytes per unit of rank."""
    return [AdapterSize(10 * r, 40 * r, computed=True) for r in line.ranks]


def test_by_rank_a_line_is_how_far_each_rank_is_from_the_best_in_percent():
    """Tinker on Llama-3.1-8B: 0.5925, 0.5863, 0.5839, 0.5834 at r = 4, 16, 64, 128."""
    info = studies_info(NEAR, sizes=sizes, chosen_r=16)

    points = info.lines[0].points
    assert [4, 16, 64, 128] == [p.r for p in points]
    assert [1.56, 0.50, 0.09, 0.0] == [round(p.y, 2) for p in points]
    assert (16, 160) == (info.chosen_r, info.rows[1]["trainable_parameters"])


def test_by_size_points_stand_at_the_given_sizes_and_unsized_studies_have_no_place():
    nothing = studies_info(
        NEAR, sizes=lambda line: [AdapterSize(None, None, computed=False)] * len(line.ranks), x="file"
    )

    assert [160, 640] == [p.x for p in studies_info(NEAR, sizes=sizes, x="file", chosen_r=16).lines[0].points][:2]
    assert [] == nothing.lines and "states adapter sizes" in nothing.empty


@pytest.mark.parametrize("best", [0.0, -0.0, 5e-324])
def test_a_line_whose_best_value_is_0_has_no_percentages_and_its_study_is_named(best):
    """A test accuracy of nothing at every rank."""
    toy = evidence([point(r, best, metric="accuracy", higher_is_better=True) for r in (4, 16)])
    near = nearest(toy.lines, subject())

    short = studies_info(near, sizes=sizes)

    assert ([], [near[0].line.study.label]) == (short.lines, short.without_shares)
    assert "best value is 0" in short.empty


def test_every_study_that_ships_has_a_shape_of_its_own():
    studies = list(API.studies.all().studies)

    assert len(studies) == len(set(shapes_of(studies).values()))


def test_error_bars_stand_where_a_spread_is_known_and_lines_of_one_label_are_not_joined():
    points = [PublishedPoint(4, 4, 1.0, 0.1, "a"), PublishedPoint(16, 16, 0.9, None, "b")]
    line = PublishedLine("s", "circle", "S", points)

    (trace,) = studies_figure(StudiesInfo([line, line])).data

    assert (4, 16, None, 4, 16) == trace.x
    assert (0.1, 0, 0, 0.1, 0) == tuple(trace.error_y.array)
    assert "circle-open" == trace.marker.symbol
