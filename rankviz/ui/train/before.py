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
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import card
from rankviz.core.preflight import Check, problems, warnings
from rankviz.core.runs.events import HF_JOBS, LOCAL
from rankviz.core.runs.request import SweepRequest
from rankviz.core.runs.sweep_time import ExpectedSweep
from rankviz.core.runs.words import base_name
from rankviz.errors import BusyError, LimitError, NoWeightsError, RankVizError
from rankviz.settings import paid_limits
from rankviz.shared.identity import login_is_on
from rankviz.ui.link import CUSTOM
from rankviz.ui.parts import html, where
from rankviz.ui.parts.html import Cell, exact, exact_span, notice_html, rounded, rounded_span
from rankviz.ui.train.form import DEFAULTS, KEPT_FILE, LORA, NOTED, OWN_FILE, data_of, problem_in, request_of
from rankviz.ui.wiring import View

HUB = "Hub"
"""The check of that name warns only where the base must be fetched and cannot."""
COLAB_GPU = "t4"
"""What Colab gives without payment."""
SHORT_ROWS = 240
"""Characters of the three rows of a preview, up to which they are shown open."""
SIZES = ("batch", "accumulation", "max_length")
"""The settings that a server allows so much of, and that are not the base."""
FORMS = (
    "Upload a file to see its first examples. Its rows have text, instruction and output, prompt and completion, "
    "messages, or conversations (ShareGPT)."
)
LIMITED = {
    "base_parameters": "base",
    "rank": "ranks",
    "truncations": "ranks",
    "runs_per_sweep": "ranks",
    "steps": "numbers",
}
"""The field to change, by the limit that is passed; of the others it may be folded."""
BEFORE = ("expected", "notice", "breakdown", *(f"{field}_problem" for field in NOTED))
"""What stands around the button, why it cannot start, what the estimate is made of, and what is wrong at each field."""
QUEUE_SECONDS, IDLE_SECONDS = 5.0, 30.0
"""Between two looks at the queue: others come and go while somebody fills the form; and where there is none."""


def cannot_train_html(api: Api) -> str:
    """Why nothing can be trained anywhere, and which login would change that; empty where something can be."""
    why = api.engines.why_none()
    can_log_in = why and (login_is_on() or not api.workspace.shared)
    # The same sentence twice where the disk is full.
    return notice_html(*dict.fromkeys([why, api.engines.why_not(HF_JOBS) if can_log_in else ""]))


def allowed_html(api: Api) -> str:
    """The limits of a shared page; nothing on a page of one's own."""
    if not api.workspace.shared:
        return ""
    limits = api.workspace.limits
    known = [
        f"{units.counted(limits.runs_per_sweep, 'run')} per sweep",
        f"{units.counted(limits.steps, 'step')} per run",
        f"rank {limits.rank:,}",
        limits.tokens_per_batch is not None and f"{limits.tokens_per_batch:,} tokens per batch (batch × max length)",
        limits.base_parameters is not None and f"a base of {units.count(limits.base_parameters)} parameters",
        limits.run_minutes is not None and f"{units.counted(limits.run_minutes, 'minute')} per run",
        limits.sweeps_per_visitor is not None and f"{units.counted(limits.sweeps_per_visitor, 'sweep')} at once",
    ]
    paid = ""
    if login_is_on():  # the account that pays
        steps = units.counted(paid_limits(limits).steps, "step")
        paid = f"On Hugging Face Jobs, which you pay for: {steps} per run, and no limit on base, batch and minutes."
    return html.paragraphs(f"This page is shared. It allows at most: {', '.join(filter(None, known))}.", paid)


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
    if not where.is_asked(api):
        return View(box=gr.Column(visible=False), engine=gr.Radio(value=LOCAL), terms=gr.Column(visible=False))
    chosen = next((place for place in offered if place.name == engine), offered[0])
    moved = {} if chosen.name == engine else {"value": chosen.name}
    return View(
        box=gr.Column(visible=True),
        engine=gr.Radio(where.choices(offered), **moved),
        about=where.about_html(chosen.about),
        terms=gr.Column(visible=chosen.name == HF_JOBS),
    )


def queue(api: Api, *, engine: str) -> View:
    """On a shared page, what waits on an engine already, for who waits for nothing yet: of a sweep of one's own, its
    state says it. With when to look again."""
    return View(queue="", asks=gr.Timer(IDLE_SECONDS))


def before_start(
    api: Api, *, engine: str = LOCAL, flavor: str | None = None, spend: float | None = None, **values: Any
) -> View:
    """What stands around the button: time, memory and cost of these values where they are to run, or what to correct at
    which field. The button is off where nothing can be trained, and where these settings are refused."""
    shown = View(
        **dict.fromkeys(BEFORE, ""),
        trainer=cannot_train_html(api),
        embedded=gr.Button(visible=False),
        notebook=gr.Button(visible=False),
        start=gr.Button(interactive=True),
        again=gr.Timer(active=False),
    )
    if problem := problem_in(values):
        _refuse(shown, *problem)
    elif engine == LOCAL:
        _here(api, shown, request_of(values))
    else:
        _there(api, shown, request_of(values), engine, flavor, spend)
    if api.engines.why_none():
        shown.start = gr.Button(interactive=False)
    return shown


def _refuse(shown: View, field: str, error: RankVizError) -> None:
    """What is wrong, above the button, which is off unless it may pass, and in the line under its field where that is
    always open."""
    shown.notice = notice_html(str(error), kind="error")
    if field in NOTED:
        setattr(shown, f"{field}_problem", shown.notice)
    shown.start = gr.Button(interactive=where.may_pass(error))
    shown.again = gr.Timer(where.BUSY_SECONDS, active=isinstance(error, BusyError))


def _field_of(error: RankVizError) -> str:
    """Where to change what a valid request is refused for."""
    return LIMITED.get(error.limit, "more") if isinstance(error, LimitError) else "more"


def _here(api: Api, shown: View, request: SweepRequest) -> None:
    field = "base"
    try:
        api.workspace.references.base(request.base)
        api.models.get(request.base)
        field = ""
        request.training.settle(api.workspace.here())
        api.runs.preview(request.data)
        expected = api.runs.expected(request)
    except RankVizError as error:
        return _refuse(shown, field or _field_of(error), error)
    checks = api.preflight.before(request.training, request.base)
    sentence = obstacle(api, request, expected, checks)
    cut = truncation(replace(request.training, data=api.data.measure(request.data).training_data()))
    noted = [check.sentence for check in warnings(checks) if check.name != HUB] + ([str(cut)] if cut else [])
    shown.expected = notice_html(*noted, expected.warning) + expected_html(expected)
    shown.breakdown = breakdown_html(expected)
    shown.notice = notice_html(sentence, kind="error")
    never = bool(api.workspace.why_not_train())
    if request.base != EMBEDDED and (sentence or never):
        shown.embedded = gr.Button(visible=not never)
        label = f"Notebook for Colab: {base_name(request.base)}, r = {max(request.ranks)}"
        shown.notebook = gr.Button(label, visible=True)
    return None


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
        _refuse(shown, _field_of(found.error), found.error)
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


def instead(values: Mapping[str, Any]) -> dict[str, Any]:
    """The form with the embedded model, and with the settings that this one asked for."""
    changed = ("precision", "optim", "learning_rates", "parts", *SIZES, *LORA[2:])
    targets = {} if values["preset"] != CUSTOM else {"preset": DEFAULTS["preset"], "names": ""}
    return {**values, **{name: DEFAULTS[name] for name in changed}, **targets, "base": EMBEDDED}


def trainable(api: Api, values: dict[str, Any], engine: str = LOCAL) -> tuple[dict[str, Any], str]:
    """The form as it is, or one that this machine can train where it is to train and cannot train that: with the usual
    sizes, or with the embedded model; then with the reason, as a notice."""
    sentence = _obstacle_of(api, values) if engine == LOCAL and not api.workspace.why_not_train() else ""
    smaller = {**values, **{name: DEFAULTS[name] for name in SIZES}}
    embedded = f"the embedded model {base_name(EMBEDDED)} instead, with its own rates, batch, length and precision"
    for form, what in ((smaller, "the usual batch and length instead"), (instead(values), embedded)):
        if sentence and form != values and not _obstacle_of(api, form):
            return form, notice_html(f"{sentence} The form has {what}.")
    return values, ""


def _obstacle_of(api: Api, values: Mapping[str, Any]) -> str:
    """Why the base of these values cannot be trained here. A wrong setting is none: it is said at its field."""
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


def notebook(api: Api, **values: Any) -> str:
    """A file with a notebook that trains the highest rank of the form on a GPU of Colab."""
    request = request_of(values)
    gpu = next(gpu for gpu in api.workspace.gpus if gpu.id == COLAB_GPU)
    r, training = max(request.ranks), request.training.without_auto(card(gpu))
    if values["data"] in (OWN_FILE, KEPT_FILE):
        training = replace(training, data=api.data.measure(request.data).training_data())
    question = Question(
        model_id=request.base, ranks=(r,), lora=request.lora, alpha=request.alpha, training=training, gpu=gpu.id
    )
    written = api.exports.write(question, r, "colab", learning_rate=request.learning_rates[0])
    target = api.workspace.download(written.file_name, lambda path: path.write_text(written.text, encoding="utf-8"))
    return str(target)
