"""Explore's views as Gradio calls them: values by name in, HTML and figures out, from a real Api."""

import json
import re
from collections import namedtuple
from html import unescape
from urllib.parse import parse_qsl

import pytest

from rankviz.api import Api
from rankviz.core.runs.events import ProbeCompleted, RunStarted
from rankviz.ui import link
from rankviz.ui.explore import sections
from rankviz.ui.explore import tab as explore
from rankviz.ui.explore.answer import goal_of
from rankviz.ui.parts import html
from rankviz.ui.parts.question import DEFAULTS, ask
from tests.catalog.test_own_studies import result
from tests.support.runs.finished_runs import text_of
from tests.support.runs.probes import SMOL, measured, request
from tests.support.runs.toy import ASSETS

Ends = namedtuple("Ends", "low high")
LLAMA = {**DEFAULTS, "model": "meta-llama/Llama-3.1-8B"}


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


def test_every_change_on_the_page_can_be_clicked_into_the_question(api):
    """Each row's pick is read back by the same table that reads the address."""
    decided = sections.decisions(api, **{**LLAMA, "r": 16, "batch": 4})
    picks = [unescape(pick) for pick in re.findall(r'data-pick="([^"]+)"', decided.decisions) if pick[:4] != "gpu="]

    assert len(picks) > 8
    for pick in picks:
        _, notes = link.read(dict(parse_qsl(pick)))
        assert [] == notes
        assert sections.applied(pick)


@pytest.mark.parametrize(
    ("pick", "widgets"),
    [
        ("batch=1&accum=8", {"batch": 1, "accumulation": 8}),
        ("max_length=4096&steps=500", {"max_length": 4096, "length": 500, "length_unit": "steps"}),
        ("targets=attention", {"preset": "attention"}),
        ("r=5000&batch=1", {}),
        ("frobnicate=1", {}),
    ],
)
def test_a_click_sets_what_the_change_names_and_nothing_else(pick, widgets):
    assert widgets == sections.applied(pick)


QUESTION = {"model": "meta-llama/Llama-3.1-8B", "use_case": "instruction", "r": 16, "dora": False, "rslora": False}


def test_added_files_are_removed_again_by_a_button_that_is_there_while_there_are_some(api, tmp_path):
    (tmp_path / "mine.csv").write_text(result())

    assert not sections.shown_studies(api, **QUESTION).remove["visible"]
    sections.added(api, [str(tmp_path / "mine.csv")])
    assert sections.shown_studies(api, **QUESTION).remove["visible"]
    assert "Removed 1 result file." == text_of(sections.removed(api))
    assert [] == list(api.studies.added())
    assert not sections.shown_studies(api, **QUESTION).remove["visible"]


HERE = {"device": "cpu", "device_name": "a CPU", "cpu_count": 2, "versions": {"torch": "2.13.0"}}


@pytest.fixture
def idle(tmp_path):
    """Its queue nobody works, so that what is queued stays so."""
    idle = Api(home=tmp_path, assets=ASSETS, shared=False)
    idle.workspace.work_queue = lambda: None
    return idle


def test_the_button_queues_what_the_question_asks_as_far_as_this_machine_can(idle):
    own = {"model": SMOL, "own_batch": 2, "own_length": 64, "full": True}
    sections.begun(idle, **DEFAULTS | own | {"precision": "nf4-dq", "optim": "adamw_8bit", "checkpointing": "unsloth"})

    (record,) = idle.machine.probes()
    asked, training = record.request, record.request.training
    assert (SMOL, 32, 2, 64) == (
        asked.model_id,
        asked.lora.r,
        training.per_device_train_batch_size,
        training.max_length,
    )
    assert (4, 12, 30) == asked.depths
    config = json.loads((idle.workspace.store.run_dir(record.run_id) / "config.json").read_text())
    assert ("LlamaForCausalLM", 30) == (config["architectures"][0], config["num_hidden_layers"])
    if not idle.workspace.here().cuda:
        assert ("fp32", "adamw_torch", "none") == (training.precision, training.optim, training.gradient_checkpointing)


def test_a_finished_probe_shows_both_depths_the_line_the_whole_and_the_estimate(idle):
    whole, asked = measured(30, forward=606, steps=(3.5,)), request(full=True)
    depths = (measured(4, forward=340, steps=(0.9,)), measured(12, forward=420, steps=(1.7,)), whole)
    idle.workspace.store.create_probe(asked, "{}")
    for event in (RunStarted(time=1.0, environment=HERE), *depths, ProbeCompleted(time=2.0)):
        idle.workspace.store.append(asked.probe_id, event)

    shown = sections.probing(idle, model=SMOL)

    text = text_of(shown.panel)
    assert "4 blocks, measured 340 MiB" in text and "Per block 10 MiB" in text
    assert "All 30 blocks, extrapolated 600 MiB 3.5 s" in text and "All 30 blocks, measured 606 MiB" in text
    assert "Error of the extrapolation -1.0%" in text and "All 30 blocks, estimated" in text
    assert "Measured on a CPU, " in text and not shown.timer.active
