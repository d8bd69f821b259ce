"""The export section as Gradio calls it: values by name in, boxes with files out."""

import re
from html import unescape

import pytest

from rankviz.api import Api
from rankviz.ui.explore import tab as export
from rankviz.ui.explore.answer import goal_of
from rankviz.ui.parts.question import DEFAULTS, ask
from tests.support.runs.finished_runs import text_of

LLAMA = {**DEFAULTS, "model": "meta-llama/Llama-3.1-8B"}
REFUSED = {**LLAMA, "preset": "custom", "names": "lm_head"}


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    return Api(home=tmp_path_factory.mktemp("home"))


def copied(box):
    """What the button of a box copies, and saves."""
    return unescape(re.search(r"<pre[^>]*>(.*)</pre>", box, re.DOTALL)[1])


def test_what_is_copied_is_the_whole_file(api):
    values = {**LLAMA, "r": 64, "take": "notebook"}
    shown = export.takeaway(api, **values)

    for name, box in (("colab", shown.colab), ("notebook", shown.code)):
        assert api.exports.write(ask(values), 64, name, goal=goal_of(values)).text == copied(box)


def test_what_unsloth_refuses_is_said_once_and_other_tools_still_have_their_file(api):
    shown = export.takeaway(api, **REFUSED)

    assert 1 == shown.colab.count("<p>")
    assert "Unsloth" in text_of(shown.colab)
    assert "" == shown.code
    assert "train_trl.py" in export.takeaway(api, **{**REFUSED, "take": "trl"}).code
