"""Published lines: the shipped studies as infos, and what the figure draws."""

import pytest

from rankviz.api import Api
from rankviz.core.studies.lines import nearest
from rankviz.figures import studies_figure, studies_info
from tests.support.runs.studies_toy import evidence, point, subject

API = Api()


def parameters(line):
    """10 parameters per unit of rank."""
    return [10 * r for r in line.ranks]


def test_a_line_is_how_far_each_rank_is_from_the_best_in_percent():
    """Tinker on Llama-3.1-8B: 0.5925, 0.5863, 0.5839, 0.5834 at r = 4, 16, 64, 128."""
    who = API.forecasts.subject("meta-llama/Llama-3.1-8B", "instruction")
    near = API.studies.near(who, ("lora",), ("attention and mlp",))[:1]

    info = studies_info(near, parameters=parameters, chosen_r=16)
    trace = studies_figure(info).data[0]

    assert (4, 16, 64, 128) == trace.x[:4]
    assert [1.56, 0.50, 0.09, 0.0] == [round(y, 2) for y in trace.y[:4]]
    assert (16, 160) == (info.chosen_r, info.rows[1]["trainable_parameters"])


@pytest.mark.parametrize("best", [0.0, 5e-324])
def test_a_line_whose_best_value_is_0_has_no_percentages(best):
    """A test accuracy of nothing at every rank."""
    toy = evidence([point(r, best, metric="accuracy", higher_is_better=True) for r in (4, 16)])

    assert [] == studies_info(nearest(toy.lines, subject()), parameters=parameters).lines
