"""Explore's views as Gradio calls them: values by name in, HTML and figures out, from a real Api."""

import re
from collections import namedtuple
from html import unescape

import pytest

from rankviz.api import Api
from rankviz.core.runs.events import AdapterSaved, Evaluated
from rankviz.core.runs.metric import LOSS
from rankviz.ui.explore import tab as explore
from rankviz.ui.explore.answer import goal_of
from rankviz.ui.parts import charts, html
from rankviz.ui.parts.question import DEFAULTS, ask
from tests.support.runs import questions
from tests.support.runs.finished_runs import text_of

Ends = namedtuple("Ends", "low high")
LLAMA = {**DEFAULTS, "model": "meta-llama/Llama-3.1-8B"}


@pytest.fixture
def api(tmp_path):
    return Api(home=tmp_path)


def test_a_file_name_cannot_write_into_the_page(api):
    sweep_id = api.workspace.store.create(questions.sweep(ranks=(4,), data="/data/<img src=x>.jsonl"))
    run_id = api.workspace.store.sweep(sweep_id).runs[0].run_id
    for event in (
        AdapterSaved(time=1.0, path="adapter", file_bytes=1),
        Evaluated(time=2.0, when="after", loss=1.0, tokens=1, examples=1, seconds=1.0),
    ):
        api.workspace.store.append(run_id, event)

    sweep = api.runs.sweep(sweep_id)
    drawn = charts.sweep_chart([(sweep, *api.verdicts.of_runs([sweep.runs], LOSS))], x="adapter", height=300)

    assert "&lt;img src=x&gt;.jsonl" in html.paragraphs(drawn[1])


def test_text_from_outside_is_escaped_everywhere():
    evil = "<img src=x onerror=alert(1)>"
    row = html.Row(cells=[html.Cell(evil, title=evil, sub=evil)], pick=evil, ticks=[evil])
    markup = (
        html.table([evil], [row], label=evil)
        + html.figures([(evil, html.Cell(evil, title=evil), evil)])
        + html.paragraphs(evil)
        + html.named_values([(evil, html.Cell(evil, title=evil, sub=evil))], "rv-stats")
        + html.named_values([(evil, evil)])
        + html.code_html(evil, title=evil, file_name=evil)
        + html.progress(0.5, label=evil)
    )

    assert "<img" not in markup


REFUSED = {**LLAMA, "preset": "custom", "names": "lm_head"}


def copied(box):
    """What the button of a box copies, and saves."""
    return unescape(re.search(r"<pre[^>]*>(.*)</pre>", box, re.DOTALL)[1])


def test_what_is_copied_is_the_whole_file(api):
    values = {**LLAMA, "r": 64, "take": "notebook"}
    shown = explore.takeaway(api, **values)

    for name, box in (("colab", shown.colab), ("notebook", shown.code)):
        assert api.advice.export(ask(values), 64, name, goal=goal_of(values)).text == copied(box)


def test_what_unsloth_refuses_is_said_once_and_other_tools_still_have_their_file(api):
    shown = explore.takeaway(api, **REFUSED)

    assert 1 == shown.colab.count("<p>")
    assert "Unsloth" in text_of(shown.colab)
    assert "" == shown.code
    assert "train_trl.py" in explore.takeaway(api, **{**REFUSED, "take": "trl"}).code
