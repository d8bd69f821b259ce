"""Shows what a training will take before it starts: what is allowed, data, time, memory, and what is in its way."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.api.workspace import EMBEDDED
from rankviz.core.cost.notes import truncation
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import card
from rankviz.core.preflight.checks import Check, problems, warnings
from rankviz.core.runs.events import HF_JOBS, LOCAL
from rankviz.core.runs.request import SweepRequest
from rankviz.core.runs.sweep_time import ExpectedSweep
from rankviz.core.runs.words import base_name
from rankviz.errors import BusyError, LimitError, NoWeightsError, RankVizError, UserError
from rankviz.settings import paid_limits
from rankviz.shared.identity import login_is_on
from rankviz.ui.parts import html, where
from rankviz.ui.parts.html import Cell, Row, exact, exact_span, rounded, rounded_span
from rankviz.ui.parts.question import CUSTOM
from rankviz.ui.train.form import NOTED
from rankviz.ui.train.request import DEFAULTS, KEPT_FILE, OWN_FILE, data_of, problem_in, request_of
from rankviz.ui.wiring import notice_html


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
    shared = f"This page is shared. It allows at most: {', '.join(part for part in known if part)}."
    return html.paragraphs(shared, *_where_you_pay(api))


def _where_you_pay(api: Api) -> Iterator[str]:
    if login_is_on():  # the account that pays
        steps = units.counted(paid_limits(api.workspace.limits).steps, "step")
        yield f"On Hugging Face Jobs, which you pay for: {steps} per run, and no limit on base, batch and minutes."


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


class Preview(NamedTuple):
    preview: str


class Before(NamedTuple):
    """What stands around the button, and under each field what is wrong there."""

    expected: str = ""
    notice: str = ""
    """Why it cannot start, in the same sight as the button."""
    breakdown: str = ""
    """What the estimate is made of, folded."""
    base_problem: str = ""
    data_problem: str = ""
    ranks_problem: str = ""
    alpha_problem: str = ""
    numbers_problem: str = ""
    embedded: Any = gr.Button(visible=False)
    notebook: Any = gr.Button(visible=False)
    trainer: str = ""
    """Why nothing at all can be trained here, at the top."""
    start: Any = gr.Button(interactive=True)
    flavor: Any = gr.skip()
    """The machines that can be rented."""
    again: Any = gr.Timer(active=False)
    """Runs while another place is being asked, and slowly where others have all places."""


def preview(api: Api, **values: Any) -> Preview:
    """The first three examples of the data, with counts; or which row is wrong."""
    data = data_of(values)
    if not data:
        return Preview(html.paragraphs(FORMS))
    try:
        seen, measured = api.runs.preview(data), api.data.measure(data)
    except RankVizError as error:
        return Preview(notice_html(str(error), kind="error"))
    rows = [Row(cells=[Cell(prompt, kind="wrap"), Cell(answer, kind="wrap")]) for prompt, answer in seen.examples]
    table = html.table(["Prompt", "Completion (trained on)"], rows, label="First examples", left=2)
    short = sum(len(text) for example in seen.examples for text in example) <= SHORT_ROWS
    first = f"First {units.counted(len(rows), 'example')}"
    return Preview(html.paragraphs(measured.in_words) + html.folded(first, table, is_open=short))


def before(api: Api, **values: Any) -> Before:
    """Time and memory of these values, or what to correct, at the field where it is; and what holds of any values."""
    return _of_values(api, values)._replace(trainer=cannot_train_html(api))


def _of_values(api: Api, values: Mapping[str, Any]) -> Before:
    if problem := problem_in(values):
        return wrong(*problem)
    request = request_of(values)
    try:
        api.workspace.references.base(request.base)
        api.models.get(request.base)
    except RankVizError as error:
        return wrong("base", error)
    try:
        request.training.settle(api.workspace.here())
        api.runs.preview(request.data)
        expected = api.runs.expected(request)
    except RankVizError as error:
        return wrong(field_of(error), error)
    checks = api.preflight.before(request.training, request.base)
    sentence = obstacle(api, request, expected, checks)
    data = api.data.measure(request.data).training_data()
    cut = truncation(replace(request.training, data=data))
    noted = [check.sentence for check in warnings(checks) if check.name != HUB] + ([str(cut)] if cut else [])
    shown = {
        "expected": notice_html(*noted, expected.warning) + expected_html(expected),
        "breakdown": breakdown_html(expected),
        "notice": notice_html(sentence, kind="error"),
    }
    never = bool(api.workspace.why_not_train())
    if request.base == EMBEDDED or not (sentence or never):
        return Before(**shown)
    notebook = gr.Button(_notebook_label(request), visible=True)
    return Before(**shown, embedded=gr.Button(visible=not never), notebook=notebook)


def wrong(field: str, error: RankVizError) -> Before:
    """What is wrong, above the button, which is off unless it may pass, and in the line under its field where that is
    always open."""
    sentence = notice_html(str(error), kind="error")
    start = gr.Button(interactive=where.may_pass(error))
    again = gr.Timer(where.BUSY_SECONDS, active=isinstance(error, BusyError))
    beneath = {f"{field}_problem": sentence} if field in NOTED else {}
    return Before(notice=sentence, start=start, again=again, **beneath)


def field_of(error: RankVizError) -> str:
    """Where to change what a valid request is refused for."""
    return LIMITED.get(error.limit, "more") if isinstance(error, LimitError) else "more"


def expected_html(expected: ExpectedSweep, not_known: str = "") -> str:
    """Estimated time and memory in two sentences, and that a run may be ended before it is done. not_known: of the
    time, as a sentence."""
    memory = [run.memory_bytes for run in expected.ranks.values()]
    low, high = min(memory, key=lambda each: each.low), max(memory, key=lambda each: each.high)
    time = exact_span(expected.seconds, "seconds") if expected.seconds else ""
    words = f"Memory: {units.memory_size(low.low)} to {units.memory_size(high.high)}."
    bytes_ = f"{exact(low.low)} to {exact(high.high, 'bytes')}"
    first = " ".join(filter(None, [expected.sentences[0], not_known, expected.too_long]))
    return html.paragraphs(Cell(first, title=time), Cell(words, title=bytes_))


def breakdown_html(expected: ExpectedSweep) -> str:
    """Each part of the time and each rank, folded."""
    rows = [
        Row(
            cells=[
                f"r = {r}",
                Cell(f"{run.adapter_parameters:,}"),
                rounded(units.file_size, run.adapter_bytes, "bytes"),
                rounded_span(units.memory_span, run.memory_bytes, "bytes"),
            ]
        )
        for r, run in expected.ranks.items()
    ]
    elsewhere = (expected.warning, expected.too_long)
    return html.folded(
        "Parts and ranks",
        html.paragraphs(*(sentence for sentence in expected.sentences[1:] if sentence not in elsewhere))
        + html.table(["Rank", "Parameters", "Adapter", "Memory"], rows, label="Estimate for each rank"),
    )


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
    of = "its GPU" if device.cuda else "it"
    return (
        f"{name} does not fit on this machine: training needs at least {units.memory_size(least)}, and {of} has "
        f"{units.memory_size(room)}."
    )


def instead(values: Mapping[str, Any]) -> dict[str, Any]:
    """The form with the embedded model, and with the settings that this one asked for."""
    changed = (
        "precision",
        "optim",
        "learning_rates",
        "unsloth_class",
        "expert_rank",
        "text_only",
        "parts",
        "max_length",
        "batch",
        "accumulation",
    )
    targets = {} if values["preset"] != CUSTOM else {"preset": DEFAULTS["preset"], "names": ""}
    return {**values, **{name: DEFAULTS[name] for name in changed}, **targets, "base": EMBEDDED}


class Replaced(NamedTuple):
    """What stands above the button where the form has the embedded model in place of the one that was asked for."""

    original: dict[str, Any] | None = None
    """The form as it was asked for; None where nothing was replaced."""
    replaced: str = ""
    asked_notebook: Any = gr.Button(visible=False)


def trainable(api: Api, values: dict[str, Any], engine: str = LOCAL) -> tuple[dict[str, Any], Replaced]:
    """The form as it is, or with the embedded model where this machine is to train and can train that, and not the base
    of the form; then with the reason, and a notebook for that base where others have it."""
    sentence = _obstacle_of(api, values) if engine == LOCAL else ""
    if not sentence or api.workspace.why_not_train():
        return values, Replaced()
    smaller, embedded = {**values, **{name: DEFAULTS[name] for name in SIZES}}, instead(values)
    here = f"the embedded model {base_name(EMBEDDED)} instead, with its own rates, batch, length and precision"
    for form, what in ((smaller, "the usual batch and length instead"), (embedded, here)):
        if form != values and not _obstacle_of(api, form):
            why = notice_html(f"{sentence} The form has {what}.")
            asked = request_of(values)
            elsewhere = api.workspace.references.model(asked.base).path is None
            return form, Replaced(values, why, gr.Button(_notebook_label(asked), visible=elsewhere))
    return values, Replaced()


def _obstacle_of(api: Api, values: Mapping[str, Any]) -> str:
    """Why the base of these values cannot be trained here. A wrong setting is none: it is said at its field."""
    try:
        request = request_of(values)
        api.runs.check_limits(request)
        expected = api.runs.expected(request)
    except BusyError:
        return ""
    except (LimitError, NoWeightsError) as error:
        return str(error)
    except RankVizError:
        return ""
    try:
        request.training.settle(api.workspace.here())
    except RankVizError as error:
        return str(error)
    return obstacle(api, request, expected, api.preflight.before(request.training, request.base))


def _notebook_label(request: SweepRequest) -> str:
    return f"Notebook for Colab: {base_name(request.base)}, r = {max(request.ranks)}"


def replaced_notebook(api: Api, original: Mapping[str, Any] | None) -> str:
    """The notebook of the form as it was before its base was replaced."""
    if original is None:
        raise UserError("No base model was replaced. Press Notebook beside Train.")
    return notebook(api, **original)


def notebook(api: Api, **values: Any) -> str:
    """A file with a notebook that trains the highest rank of the form on a GPU of Colab."""
    request = request_of(values)
    gpu = next(gpu for gpu in api.workspace.gpus if gpu.id == COLAB_GPU)
    r, training = max(request.ranks), request.training.without_auto(card(gpu))
    if values["data"] in (OWN_FILE, KEPT_FILE):
        training = replace(training, data=api.data.measure(request.data).training_data())
    question = Question(
        model_id=request.base,
        ranks=(r,),
        lora=request.lora,
        alpha=request.alpha,
        training=training,
        gpu=gpu.id,
    )
    written = api.exports.write(question, r, "colab", learning_rate=request.learning_rates[0])
    target = api.workspace.download(written.file_name, lambda path: path.write_text(written.text, encoding="utf-8"))
    return str(target)
