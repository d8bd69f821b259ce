"""The two recorded sweeps in the empty state of Train."""

import json
import re

import pytest

from rankviz.api import Api
from rankviz.ui.runs.tab import view
from rankviz.ui.train.progress import DOES_NOT_MATTER, MATTERS, empty_state, gap_sentence
from rankviz.verdict import judge, sentences
from tests.support.runs.finished_runs import finished, text_of
from tests.support.runs.verdict_tables import table


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    return Api(home=tmp_path_factory.mktemp("home"))


def test_each_example_has_its_verdict_its_lesson_and_a_way_to_the_sweep(api):
    shown = empty_state(api)

    for example, words in ((MATTERS, shown.matters_words), (DOES_NOT_MATTER, shown.does_not_words)):
        assert sentences(api.verdicts.of_sweep(example.sweep_id).verdict)[0] in text_of(words)
        assert example.lesson in text_of(words)
        assert f"?tab=runs&amp;sweep={example.sweep_id}" in words


def test_at_most_three_sentences_stand_before_the_details(api):
    shown = empty_state(api)

    for words in (shown.matters_words, shown.does_not_words):
        before = text_of(words.split("<details")[0])
        assert len(re.findall(r"\.(?= [A-Za-z]|$)", before)) <= 3, before


def test_the_captions_say_what_differs_between_the_two_sweeps(api):
    shown = empty_state(api)

    matters, does_not = text_of(shown.matters_words), text_of(shown.does_not_words)
    assert "Trained: 29.mlp.down_proj, for 80 steps. Learning rates: 0.005 and 0.02." in matters
    assert "r = 2 minus r = 32: 0.11 nats at 0.005; 1.54 nats at 0.02. No rate above 0.02 was tried" in matters
    assert "Trained: the seven default modules of every block, for 40 steps. Learning rate: 0.002." in does_not
    assert "compare ranks within a sweep only" in does_not
    assert "minus" not in does_not


def test_the_figures_are_those_of_the_two_sweeps(api):
    shown = empty_state(api)

    for example, chart in ((MATTERS, shown.matters), (DOES_NOT_MATTER, shown.does_not)):
        drawn = json.loads(chart)
        assert example.sweep_id in drawn["source"]
        assert [2, 8, 32] == sorted(r for trace in drawn["data"] for r in trace["x"])
    assert (
        json.loads(shown.matters)["layout"]["yaxis"]["range"] == json.loads(shown.does_not)["layout"]["yaxis"]["range"]
    )


def test_the_examples_give_way_to_a_sweep(api):
    assert view(api, lambda: empty_state(api), sweep_id="").box.visible
    assert not view(api, lambda: empty_state(api), sweep_id=MATTERS.sweep_id).box.visible


def test_the_examples_wait_until_the_page_is_restored_and_stay_away_where_a_result_of_ones_own_is(api, tmp_path):
    own = Api(home=tmp_path)
    finished(own, {4: 2.0})

    assert "visible" not in view(api, lambda: empty_state(api), sweep_id=None).box
    assert not view(own, lambda: empty_state(own), sweep_id="").box.visible


def test_the_gap_is_told_in_standard_deviations_of_one_run():
    verdict = judge(table({2: [[2.0], [2.1], [2.2]], 32: [[1.2], [1.1], [1.0]]}))

    sentence = gap_sentence(verdict)

    assert "r = 2 and r = 32 differ by 1.000 nats, 10.0 times the noise between seeds (0.100 nats)." == sentence
