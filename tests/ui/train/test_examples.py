"""The two recorded sweeps in the empty state of Train."""

import pytest

from rankviz.api import Api
from rankviz.ui.train.tab import EXAMPLES, examples
from rankviz.verdict import sentences
from tests.support.runs.finished_runs import finished, text_of


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    return Api(home=tmp_path_factory.mktemp("home"))


def test_each_example_has_its_verdict_its_lesson_and_a_way_to_the_sweep(api):
    shown = examples(api, sweep_id="")

    for example, words in zip(EXAMPLES.values(), (shown.matters_words, shown.does_not_words), strict=True):
        assert sentences(api.verdicts.of_sweep(example.sweep_id).verdict)[0] in text_of(words)
        assert example.lesson in text_of(words)
        assert f"?tab=runs&amp;sweep={example.sweep_id}" in words


def test_the_examples_wait_until_the_page_is_restored_and_stay_away_where_a_result_of_ones_own_is(api, tmp_path):
    own = Api(home=tmp_path)
    finished(own, {4: 2.0})

    assert {} == vars(examples(api, sweep_id=None))
    assert not examples(own, sweep_id="").box.visible
