"""The two recorded sweeps in the empty state of Train."""

import json

import pytest

from rankviz.api import Api
from rankviz.ui.train.examples import DOES_NOT_MATTER, MATTERS, empty_state, gap_sentence
from rankviz.verdict import judge
from tests.support.finished_runs import text_of
from tests.support.verdict_tables import table


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    return Api(home=tmp_path_factory.mktemp("home"))


def test_each_example_has_its_verdict_its_lesson_and_a_way_to_the_sweep(api):
    shown = empty_state(api)

    for example, words in ((MATTERS, shown.matters_words), (DOES_NOT_MATTER, shown.does_not_words)):
        assert example.lesson in text_of(words)
        assert f"?tab=sweep&amp;sweep={example.sweep_id}" in words
        assert "times the noise between seeds" in text_of(words)
    assert "every other rank is worse" in text_of(shown.matters_words)


def test_the_figures_are_those_of_the_two_sweeps(api):
    shown = empty_state(api)

    for example, chart in ((MATTERS, shown.matters), (DOES_NOT_MATTER, shown.does_not)):
        drawn = json.loads(chart)
        assert example.sweep_id in drawn["source"]
        assert [2, 8, 32] == list(drawn["data"][0]["x"])


def test_the_gap_is_told_in_standard_deviations_of_one_run():
    verdict = judge(table({2: [[2.0], [2.1], [2.2]], 32: [[1.2], [1.1], [1.0]]}))

    assert "r = 2 and r = 32 differ by 1.000 nats, 10.0 times the noise between seeds (0.100 nats)." == gap_sentence(
        verdict
    )
