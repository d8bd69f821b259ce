"""Shows what a training will take before it starts, here or on a rented machine, and what is in its way."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.api.workspace import EMBEDDED
from rankviz.core.cost.notes import truncation
from rankviz.core.preflight.checks import Check, problems, warnings
from rankviz.core.runs.events import HF_JOBS, LOCAL
from rankviz.core.runs.request import SweepRequest
from rankviz.core.runs.sweep_time import ExpectedSweep
from rankviz.core.runs.words import base_name
from rankviz.errors import BusyError, LimitError, NoWeightsError, RankVizError
from rankviz.shared.identity import login_is_on
from rankviz.ui.link import CUSTOM
from rankviz.ui.parts import html, where
from rankviz.ui.parts.html import Cell, exact, exact_span, notice_html, rounded, rounded_span
from rankviz.ui.train.form import DEFAULTS, LORA, data_of, request_of
from rankviz.ui.wiring import View

HUB = "Hub"
"""The check of that name warns only where the base must be fetched and cannot."""
SHORT_ROWS = 240
"""Characters of the three rows of a preview, up to which they are shown open."""
FORMS = (
    "Upload a file to see its first examples. Its rows have text, instruction and output, prompt and completion, "
    "messages, or conversations (ShareGPT)."
)
BEFORE = ("expected", "notice", "breakdown")
"""What stands around the button, why it cannot start, and what the estimate is made of."""


def cannot_train_html(api: Api) -> str:
    """Why nothing can be trained anywhere, and which login would change that; empty where something can be."""
    why = api.engines.why_none()
    can_log_in = why and (login_is_on() or not api.workspace.shared)
    # The same sentence twice where the disk is full.
    return notice_html(*dict.fromkeys([why, api.engines.why_not(HF_JOBS) if can_log_in else ""]))


def preview(api: Api, **values: Any) -> View:
    """The first three examples of the data, with counts; or which row is wrong."""
    data = data_of(values)
    if not data:
        return View(preview=html.paragraphs(FORMS))
    try:
        seen, measured = api.runs.preview(data), api.data.measure(data)
    except RankVizError as error:
        return View(preview=notice_html(str(error), kind="error"))
    rows = [[Cell(text, kind="wrap") for text in example] for example in seen.examples]
    table = html.table(["Prompt", "Completion (trained on)"], rows, label="First examples", left=2)
    short = sum(len(text) for example in seen.examples for text in example) <= SHORT_ROWS
    first = html.folded(f"First {units.counted(len(rows), 'example')}", table, is_open=short)
    return View(preview=html.paragraphs(measured.in_words) + first)


def choice(api: Api, *, engine: str) -> View:
    """The places that are offered to whoever looks at the page. A choice that can stay is not sent back: it may be an
    older one."""
    offered = api.engines.offered()
    names = [place.name for place in offered]
    if HF_JOBS in names:
        api.engines.beside.ask(("back", api.workspace.visitor.id), "", api.jobs.bring_back)
    if not where.is_asked(api):
        return View(box=gr.Column(visible=False), engine=gr.Radio(value=LOCAL), terms=gr.Column(visible=False))
    chosen = next((place for place in offered if place.name == engine), offered[0])
    moved = {} if chosen.name == engine else {"value": chosen.name}
    return View(
        box=gr.Column(visible=True),
        engine=gr.Radio(where.choices(offered), **moved),
        about=html.paragraphs(chosen.about) if chosen.about else "",
        terms=gr.Column(visible=chosen.name == HF_JOBS),
    )


def before_start(
    api: Api, *, engine: str = LOCAL, flavor: str | None = None, spend: float | None = None, **values: Any
) -> View:
    """What stands around the button: time, memory and cost of these values where they are to run, or what to correct.
    The button is off where nothing can be trained, and where these settings are refused."""
    shown = View(
        **dict.fromkeys(BEFORE, ""),
        trainer=cannot_train_html(api),
        start=gr.Button(interactive=True),
        again=gr.Timer(active=False),
    )
    try:
        request = request_of(values)
        if engine == LOCAL:
            _here(api, shown, request)
        else:
            _there(api, shown, request, engine, flavor, spend)
    except RankVizError as error:
        _refuse(shown, error)
    if api.engines.why_none():
        shown.start = gr.Button(interactive=False)
    return shown


def _refuse(shown: View, error: RankVizError) -> None:
    """What is wrong, above the button, which is off unless it may pass."""
    shown.notice = notice_html(str(error), kind="error")
    shown.start = gr.Button(interactive=where.may_pass(error))
    shown.again = gr.Timer(where.BUSY_SECONDS, active=isinstance(error, BusyError))


def _here(api: Api, shown: View, request: SweepRequest) -> None:
    api.workspace.references.base(request.base)
    api.models.get(request.base)
    request.training.settle(api.workspace.here())
    api.runs.preview(request.data)
    expected = api.runs.expected(request)
    checks = api.preflight.before(request.training, request.base)
    cut = truncation(replace(request.training, data=api.data.measure(request.data).training_data()))
    noted = [check.sentence for check in warnings(checks) if check.name != HUB] + ([str(cut)] if cut else [])
    shown.expected = notice_html(*noted, expected.warning) + expected_html(expected)
    shown.breakdown = breakdown_html(expected)
    shown.notice = notice_html(obstacle(api, request, expected, checks), kind="error")


def _there(api: Api, shown: View, request: SweepRequest, engine: str, flavor: str | None, spend: float | None) -> None:
    check = partial(api.engines.check, request)
    found = where.find(api, ("start", repr(request)), check, engine=engine, flavor=flavor, spend=spend)
    if found is None:
        shown.expected = where.asking_html(api, engine)
        shown.start = gr.Button(interactive=engine != HF_JOBS)  # nobody pays what they have not read
        shown.again = gr.Timer(where.ASK_AGAIN_SECONDS, active=True)
        return
    shown.flavor = where.machines(api, found, flavor)
    if found.plan is None:
        _refuse(shown, found.error)
        return
    plan, expected = found.plan, found.plan.expected
    cost = f'<div id="train-cost">{html.paragraphs(*plan.offer.sentences)}</div>' if plan.offer else ""
    notes = notice_html(*plan.notes, expected.warning if expected else "")
    takes = expected_html(expected, plan.not_known) if expected else html.paragraphs(plan.not_known)
    shown.expected, shown.breakdown = cost + notes + takes, breakdown_html(expected) if expected else ""


def expected_html(expected: ExpectedSweep, not_known: str = "") -> str:
    """Estimated time and memory in two sentences, and that a run may be ended before it is done. not_known: of the
    time, as a sentence."""
    memory = [run.memory_bytes for run in expected.ranks.values()]
    low, high = min(each.low for each in memory), max(each.high for each in memory)
    time = exact_span(expected.seconds, "seconds") if expected.seconds else ""
    first = " ".join(filter(None, [expected.sentences[0], not_known, expected.too_long]))
    words = f"Memory: {units.memory_size(low)} to {units.memory_size(high)}."
    return html.paragraphs(Cell(first, title=time), Cell(words, title=f"{exact(low)} to {exact(high, 'bytes')}"))


def breakdown_html(expected: ExpectedSweep) -> str:
    """Each part of the time and each rank, folded."""
    rows = [
        [
            f"r = {r}",
            f"{run.adapter_parameters:,}",
            rounded(units.file_size, run.adapter_bytes, "bytes"),
            rounded_span(units.memory_span, run.memory_bytes, "bytes"),
        ]
        for r, run in expected.ranks.items()
    ]
    table = html.table(["Rank", "Parameters", "Adapter", "Memory"], rows, label="Estimate for each rank")
    parts = [each for each in expected.sentences[1:] if each not in (expected.warning, expected.too_long)]
    return html.folded("Parts and ranks", html.paragraphs(*parts) + table)


def obstacle(api: Api, request: SweepRequest, expected: ExpectedSweep, checks: Sequence[Check]) -> str:
    """Why this training cannot run on this machine; empty where nothing is known against it."""
    if stop := problems(checks):
        return " ".join(check.sentence for check in stop)
    name = base_name(request.base)
    if any(check.name == HUB for check in warnings(checks)):
        return f"{name} cannot be trained here now: its weights are not on this machine, and the Hub cannot be reached."
    device = api.workspace.here()
    room = device.usable_bytes if device.cuda else api.preflight.facts().memory_bytes
    least = min(run.memory_bytes.low for run in expected.ranks.values())
    if room is None or least <= room:
        return ""
    needs = f"training needs at least {units.memory_size(least)}, and {'its GPU' if device.cuda else 'it'} has"
    return f"{name} does not fit on this machine: {needs} {units.memory_size(room)}."


def trainable(api: Api, values: dict[str, Any], engine: str = LOCAL) -> tuple[dict[str, Any], str]:
    """The form as it is or, where this machine is to train it and cannot, with the embedded model and the reason as a
    notice."""
    sentence = _obstacle_of(api, values) if engine == LOCAL and not api.workspace.why_not_train() else ""
    if not sentence:
        return values, ""
    changed = ("precision", "optim", "learning_rates", "parts", "batch", "accumulation", "max_length", *LORA[2:])
    targets = {} if values["preset"] != CUSTOM else {"preset": DEFAULTS["preset"], "names": ""}
    embedded = {**values, **{name: DEFAULTS[name] for name in changed}, **targets, "base": EMBEDDED}
    if _obstacle_of(api, embedded):
        return values, ""
    words = f"the embedded model {base_name(EMBEDDED)} instead, with its own rates, batch, length and precision"
    return embedded, notice_html(f"{sentence} The form has {words}.")


def _obstacle_of(api: Api, values: Mapping[str, Any]) -> str:
    """Why the base of these values cannot be trained here. A wrong setting is none: it is said above the button."""
    try:
        request = request_of(values)
        api.runs.check_limits(request)
        expected = api.runs.expected(request)
    except (LimitError, NoWeightsError) as error:
        return "" if isinstance(error, BusyError) else str(error)
    except RankVizError:
        return ""
    try:
        request.training.settle(api.workspace.here())
    except RankVizError as error:
        return str(error)
    return obstacle(api, request, expected, api.preflight.before(request.training, request.base))
