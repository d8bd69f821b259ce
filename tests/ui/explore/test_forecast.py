"""The section with the forecast from published studies, as Gradio calls it."""

import json

import pytest

from rankviz.api import Api
from rankviz.errors import InvalidSettingError
from rankviz.ui.explore import forecast
from tests.support.finished_runs import text_of

QUESTION = {"model": "meta-llama/Llama-3.1-8B", "use_case": "instruction", "r": 16, "metric": "score"}


@pytest.fixture
def api(tmp_path):
    return Api(home=tmp_path)


def test_the_figure_has_two_bands_and_a_median_in_points(api):
    figure = json.loads(forecast.shown(api, **QUESTION).figure)

    assert {"80 % band", "50 % band", "median"} <= {trace["name"] for trace in figure["data"]}
    assert "points" in figure["layout"]["yaxis"]["title"]["text"]
    assert "held" in figure["source"] and figure["csv"].startswith("kind,r,median")


def test_ranks_without_a_line_of_this_kind_are_hatched(api):
    hatched = {
        rank
        for trace in json.loads(forecast.shown(api, **{**QUESTION, "use_case": "complex"}).figure)["data"]
        if trace["name"] == "80 % band, extrapolated"
        for rank in trace["x"]
    }

    assert {2, 4, 8, 128} <= hatched


@pytest.mark.parametrize("use_case", ["simple", "instruction", "complex", "near-full", "pretraining"])
@pytest.mark.parametrize("metric", ["score", "loss"])
def test_each_kind_quotes_its_own_coverage_and_one_that_is_not_validated_says_so_in_a_box(api, use_case, metric):
    answer = api.forecasts.of(QUESTION["model"], use_case, metric=metric)

    words = forecast.shown(api, **{**QUESTION, "use_case": use_case, "metric": metric}).words

    assert f"held {100 * answer.coverage_80_left_out:.0f} %" in text_of(words)
    assert answer.validated is ("rv-notice" not in words) is ("Not validated" not in words)


def test_the_chosen_rank_is_marked(api):
    (line,) = json.loads(forecast.shown(api, **{**QUESTION, "r": 64}).figure)["layout"]["shapes"]

    assert 64 == line["x0"] == line["x1"]


def test_no_model_is_refused_in_a_sentence(api):
    with pytest.raises(InvalidSettingError, match="Model must be a name"):
        forecast.shown(api, **{**QUESTION, "model": None})
