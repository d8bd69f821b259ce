"""The advice card and the studies section, as Gradio calls them."""

import json

import pytest

from rankviz.api import Api
from rankviz.ui.explore import sections as studies
from tests.catalog.test_own_studies import result
from tests.support.runs.finished_runs import text_of

QUESTION = {
    "model": "meta-llama/Llama-3.1-8B",
    "use_case": "instruction",
    "r": 16,
    "dora": False,
    "rslora": False,
}


@pytest.fixture
def api(tmp_path):
    return Api(home=tmp_path)


def drawn(shown):
    return json.loads(shown)


def test_values_are_short_of_the_best_rank_in_percent(api):
    """Tinker on Llama-3.1-8B: 0.5925, 0.5863, 0.5839, 0.5834 at r = 4, 16, 64, 128."""
    gap = drawn(studies.shown_studies(api, **QUESTION).wide)["data"][0]

    assert [4, 16, 64, 128] == gap["x"]
    assert [1.56, 0.50, 0.09, 0.0] == [round(y, 2) for y in gap["y"]]


def test_added_files_are_removed_again_by_a_button_that_is_there_while_there_are_some(api, tmp_path):
    (tmp_path / "mine.csv").write_text(result())

    assert not studies.shown_studies(api, **QUESTION).remove["visible"]
    studies.added(api, [str(tmp_path / "mine.csv")])
    assert studies.shown_studies(api, **QUESTION).remove["visible"]
    assert "Removed 1 result file." == text_of(studies.removed(api))
    assert [] == list(api.studies.added())
    assert not studies.shown_studies(api, **QUESTION).remove["visible"]
