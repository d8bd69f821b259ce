"""The form of the Train tab: its widgets, their sweep request, and the estimate and checks before a start."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from html import escape
from types import SimpleNamespace
from typing import Any

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.api.engines import Plan
from rankviz.api.workspace import EMBEDDED
from rankviz.catalog.models import close_names
from rankviz.core.cost.notes import data_cautions
from rankviz.core.preflight import problems
from rankviz.core.runs.events import HF_JOBS, LOCAL
from rankviz.core.runs.record import base_name, data_name
from rankviz.core.runs.request import FAST_RANKS, MODE_RANKS, MODE_SEEDS, MODE_SIZE, RunRequest, SweepRequest
from rankviz.dataset import SUFFIXES
from rankviz.errors import (
    BusyError,
    EngineUnavailableError,
    HubUnavailableError,
    InvalidSettingError,
    RankVizError,
    StorageError,
    UnknownModelError,
    WorkerError,
)
from rankviz.options import TRAIN_OPTIONS, sweep_of
from rankviz.shared.identity import login_is_on
from rankviz.ui.explore.answer import goal_of
from rankviz.ui.link import CHOICES, CUSTOM, DEFAULT_PARTS, PARTS, alpha_of, file_in, flags_of, targets_of
from rankviz.ui.parts import html, question
from rankviz.ui.parts.html import Cell, exact_span, notice_html
from rankviz.ui.parts.sweep import BUSY_SECONDS
from rankviz.ui.parts.widgets import (
    CHECK,
    CHOICE,
    EXPERT_RANK,
    NUMBER,
    PAIR,
    PARTS_LABEL,
    STOPS,
    TEXT,
    busy_line,
    field,
    plain,
)
from rankviz.ui.wiring import View

OWN_FILE, KEPT_FILE = "own", "kept"
OWN_CHOICE = "Own file", OWN_FILE
"""Data choices: an uploaded file, and the file of the shown run or of Explore's question, whose path is in `kept`."""
FORM_RANKS, FORM_SIZE = {**MODE_RANKS, "single": (16,)}, {**MODE_SIZE, "single": MODE_SIZE["sweep"]}
MAX_TEXT = 2000
OWN = (
    *("model", "rslora", "dora", "unsloth_class", "expert_rank", "text_only", "batch", "accumulation", "max_length"),
    *("precision", "optim", "held_out", "exact_match", "answers", "steps", "columns"),
)
"""Widgets with the name of the option that they hold. Options of the adapter come first; an empty one gets its
default."""
DEFAULTS: dict[str, Any] = {
    **{name: TRAIN_OPTIONS[name].default for name in OWN},
    **FORM_SIZE["quick"],
    "data": TRAIN_OPTIONS["data"].default,
    "file": None,
    "hub_data": "",
    "kept": "",
    "mode": "quick",
    "ranks": [str(r) for r in FORM_RANKS["quick"]],
    "other_ranks": "",
    "independent": "",
    "repeat": True,
    "alpha_rule": "fixed",
    "alpha_fixed": float(TRAIN_OPTIONS["alpha"].default),
    "learning_rates": "1e-3",
    "seeds": 1,
    "preset": TRAIN_OPTIONS["targets"].default,
    "names": "",
    "parts": DEFAULT_PARTS[TRAIN_OPTIONS["unsloth_class"].default],
}
"""Initial values of the form's widgets, by name."""
PRECISIONS = [("Automatic: NF4 on a GPU, fp32 on a CPU", "auto"), *CHOICES["precision"]]
WHY_FIXED_ALPHA = (
    "Why fixed: with α = r and one learning rate, a short sweep measures the step size more than the rank. For your "
    "final adapter, use α = r or 2r and tune the learning rate."
)
MODES = {
    "quick": (
        "Quick look",
        "Trains a low and a high rank and forecasts the loss between. The band comes from a repeat of the low rank.",
    ),
    "rate": (
        "Rate first",
        "Trains one rank at the given learning rate and at three times as much: what the rate is worth, before you "
        "ask for the rank.",
    ),
    "fast": (
        "Fast curve",
        "Trains the highest rank once and truncates its adapter to the lower ranks. A run at a lower rank may learn "
        "something else.",
    ),
    "sweep": (
        "Sweep",
        "Trains each rank with every learning rate and seed. A verdict needs three or more seeds.",
    ),
    "single": ("Single run", "Trains one rank with one learning rate and one seed."),
}
"""Label and explanation of each mode."""


def form_widgets(samples: list[tuple[str, str]], *, shared: bool = False) -> dict[str, Any]:
    """Build the form; return widgets by the names of DEFAULTS, and its notes. shared: True refuses local folders."""
    w: dict[str, Any] = {"kept": gr.State(DEFAULTS["kept"])}
    add = partial(field, w, DEFAULTS)
    number = partial(NUMBER, min_width=80)
    looks = {"allow_custom_value": True, "elem_classes": ["rv-search", "rv-any"], "elem_id": "train-base"}
    looks["info"] = f"Embedded model, or enter a Hub id{'' if shared else ' or a folder'}"
    add(CHOICE, "model", "Base model", choices=[("SmolLM2-135M-Instruct (embedded)", EMBEDDED)], **looks)
    busy_line("base-busy")
    add(gr.Radio, "data", "Data", choices=[*samples, OWN_CHOICE], elem_id="train-data")
    looks = {"visible": False, "height": 80, "elem_id": "train-file"}
    add(gr.File, "file", "JSONL, JSON, CSV or Parquet", file_types=list(SUFFIXES), **looks)
    add(TEXT, "hub_data", "Or a data set on the Hub", placeholder="owner/name", visible=False, elem_id="train-hub-data")
    w["preview"] = plain(elem_id="train-preview")
    w["columns"] = question.COLUMNS()
    add(gr.Radio, "mode", "Mode", choices=[(label, mode) for mode, (label, _) in MODES.items()], elem_id="train-mode")
    w["mode_note"] = plain(html.paragraphs(MODES[DEFAULTS["mode"]][1]))
    add(gr.CheckboxGroup, "ranks", "Ranks", choices=[str(r) for r in STOPS], elem_id="train-ranks")
    with gr.Row(**PAIR):
        add(TEXT, "learning_rates", "Learning rates", elem_id="train-rates")
        add(number, "seeds", "Seeds", visible=False)
        add(number, "steps", "Steps per run", elem_id="train-steps")
    with gr.Row(**PAIR):
        add(TEXT, "other_ranks", "Other ranks", placeholder="24, 512")
        looks = {"placeholder": "2", "visible": False, "elem_id": "train-independent"}
        add(TEXT, "independent", "Independent runs at", **looks)
    add(CHECK, "repeat", "Repeat the lower rank once", elem_id="train-repeat")
    with gr.Row(**PAIR):
        rules = [("Fixed", "fixed"), ("α = r", "r"), ("α = 2r", "2r")]
        add(gr.Radio, "alpha_rule", "Alpha", choices=rules, scale=3, min_width=180, elem_id="train-alpha")
        add(gr.Number, "alpha_fixed", "Fixed alpha", scale=1, min_width=70)
    with gr.Accordion("Targets, batch, precision and more", open=False):
        plain(html.paragraphs(WHY_FIXED_ALPHA))
        add(CHOICE, "preset", "Target modules")
        add(TEXT, "names", "Other module names", placeholder="q_proj, v_proj")
        with gr.Row(**PAIR):
            add(CHECK, "rslora", "rsLoRA")
            add(CHECK, "dora", "DoRA")
        with gr.Row(**PAIR):
            add(number, "batch", "Batch")
            add(number, "accumulation", "Accumulation")
        with gr.Row(**PAIR):
            add(number, "max_length", "Max length (tokens)")
            add(number, "held_out", "Held-out examples")
        with gr.Row(**PAIR):
            add(number, "answers", "Answers to show (0: off)")
            greedy = "Held-out prompts that each adapter answers greedily; counts if equal to the reference"
            add(number, "exact_match", "Exact match on (0: off)", info=greedy)
        add(CHOICE, "precision", "Base model precision", choices=PRECISIONS)
        add(CHOICE, "optim", "Optimizer", choices=[("Automatic", "auto"), *CHOICES["optim"]])
        add(CHOICE, "unsloth_class", "Unsloth class", info="Matters on a GPU, as the parts do")
        add(CHOICE, "expert_rank", **EXPERT_RANK)
        add(CHECK, "text_only", "Text model only (Unsloth's text_only)")
        add(gr.CheckboxGroup, "parts", PARTS_LABEL)
    return w


def mode_chosen(*, mode: str, ranks: Sequence[str] | None = None, **size: float | None) -> View:
    """Return ranks, seeds, steps and held-out examples of the mode, and its other updates. Values that are no mode's
    default stay, since the visitor chose them. size: Steps and held-out examples, by widget name."""
    usual = {"ranks": [str(r) for r in FORM_RANKS[mode]], "seeds": MODE_SEEDS.get(mode, 1), **FORM_SIZE[mode]}
    updates = filled({**DEFAULTS, "mode": mode, **usual})
    own = (name for name, value in size.items() if value not in [each[name] for each in FORM_SIZE.values()])
    updates |= dict.fromkeys(own, gr.skip())
    if ranks and sorted(map(int, ranks)) not in map(sorted, FORM_RANKS.values()):
        updates["ranks"] = gr.skip()
    return View(**updates)


def filled(values: Mapping[str, Any], samples: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
    """Return updates that put these values into the form, by widget name."""
    mode, kept = values["mode"], values["kept"]
    data = [*samples, *([(data_name(kept), KEPT_FILE)] if kept else []), OWN_CHOICE]
    return {
        **values,
        "data": gr.Radio(choices=data, value=values["data"]),
        "file": gr.File(value=None, visible=values["data"] == OWN_FILE),
        "hub_data": gr.Textbox(value="", visible=values["data"] == OWN_FILE),
        "alpha_fixed": gr.Number(values["alpha_fixed"], visible=values["alpha_rule"] == "fixed"),
        "ranks": gr.CheckboxGroup(value=list(values["ranks"])),
        "independent": gr.Textbox(visible=mode == "fast", value=values["independent"]),
        "repeat": gr.Checkbox(visible=mode == "quick", value=values["repeat"]),
        "seeds": gr.Number(visible=mode != "quick", value=values["seeds"]),
        "mode_note": html.paragraphs(MODES[mode][1]),
    }


def values_of(runs: Sequence[RunRequest], samples: Sequence[str]) -> dict[str, Any]:
    """Return the form's values for the runs of one sweep. samples: ids of the shipped data."""
    first, lora, targets = runs[0], runs[0].lora, runs[0].lora.target_modules
    mode, ranks, independent = _mode_of(runs)
    fields = {name: TRAIN_OPTIONS[name].field or name for name in OWN}
    holders = [first, lora, first.training]
    own = {
        name: next(getattr(each, field) for each in holders if hasattr(each, field)) for name, field in fields.items()
    }
    alphas = {run.r: run.lora.lora_alpha for run in runs}
    rules = {"r": 1, "2r": 2} if len(set(alphas.values())) > 1 else {}
    rule = next((rule for rule, n in rules.items() if all(a == n * r for r, a in alphas.items())), "fixed")
    is_sample, custom = first.data in samples, not isinstance(targets, str)
    ticked = [part for (_, part), flag in zip(PARTS, lora.flags, strict=True) if flag]
    has_flags = any(flag is not None for flag in lora.flags)
    return {
        **DEFAULTS,
        **own,
        "expert_rank": str(lora.expert_rank),
        "data": first.data if is_sample else KEPT_FILE,
        "kept": "" if is_sample else first.data,
        "mode": mode,
        "ranks": [str(r) for r in ranks if r in STOPS],
        "other_ranks": ", ".join(str(r) for r in ranks if r not in STOPS),
        "independent": ", ".join(map(str, independent)),
        "repeat": mode != "quick" or sum(run.r == ranks[0] for run in runs) > 1,
        "alpha_rule": rule,
        "alpha_fixed": float(lora.lora_alpha) if rule == "fixed" else DEFAULTS["alpha_fixed"],
        "learning_rates": ", ".join(f"{rate:g}" for rate in dict.fromkeys(run.learning_rate for run in runs)),
        "seeds": len({run.seed for run in runs}),
        "preset": CUSTOM if custom else targets,
        "names": ", ".join(targets) if custom else "",
        "parts": ticked if has_flags else DEFAULT_PARTS[lora.unsloth_class],
    }


def _mode_of(runs: Sequence[RunRequest]) -> tuple[str, Sequence[int], Sequence[int]]:
    """Return (mode, ranks, ranks of a fast curve's independent runs). A quick look's own runs precede added runs."""
    trained = sorted({run.r for run in runs})
    top = next((run for run in runs if run.cut_ranks), None)
    if top is None:
        at_two_rates = len(trained) == 1 and len({run.learning_rate for run in runs}) == 2
        return ("single" if len(runs) == 1 else "rate" if at_two_rates else "sweep"), trained, ()
    low, cuts = runs[0].r, set(top.cut_ranks)
    between = {low, *(r for r in FAST_RANKS if low < r < top.r)}
    older = between | {r for r in FAST_RANKS if r < low}  # of versions that truncated below the lower rank too
    if low < top.r and (cuts == between or (cuts == older and len(runs) > len(trained))):
        return "quick", (low, top.r), ()
    return "fast", sorted({*top.cut_ranks, top.r}), [r for r in trained if r < top.r]


def data_of(values: Mapping[str, Any]) -> str:
    """Return the sample's id or the file's path; empty until a file is uploaded."""
    own = {OWN_FILE: values.get("file") or (values.get("hub_data") or "").strip(), KEPT_FILE: values.get("kept")}
    return own.get(values["data"], values["data"]) or ""


def columns_of(values: Mapping[str, Any]) -> str:
    """Return the columns of the visitor's file that were chosen; empty for a sample."""
    return (values["columns"] or "") if values["data"] in (OWN_FILE, KEPT_FILE) else ""


def request_of(values: Mapping[str, Any]) -> SweepRequest:
    """Return the sweep request of these widget values; raise InvalidSettingError for a wrong value."""
    mode = values["mode"]
    ticked = {int(r) for r in values["ranks"] or ()} | set(numbers(values["other_ranks"], int, "Ranks", "24, 512"))
    if not (data := data_of(values)):
        raise InvalidSettingError(UPLOAD)
    if mode == "single" and len(ticked) > 1:
        raise InvalidSettingError(
            f"A single run takes one rank (got {len(ticked)}): clear the others, or choose Sweep."
        )
    own = {name: DEFAULTS[name] if name in OWN[1:6] and values[name] in ("", None) else values[name] for name in OWN}
    own |= {name: values[name] or 0 for name in FORM_SIZE["quick"]}  # an emptied box is refused, not filled
    request = sweep_of(
        {
            **own,
            **flags_of(values["parts"], values["unsloth_class"]),
            "model": (values["model"] or "").strip(),
            "data": data,
            "columns": columns_of(values),
            "mode": "sweep" if mode == "single" else mode,
            "ranks": sorted(ticked),
            "independent": numbers(values["independent"], int, "Independent runs", "2, 8") if mode == "fast" else (),
            "repeat": values["repeat"],
            "alpha": alpha_of(values),
            "learning_rates": numbers(values["learning_rates"], float, "Learning rates", "1e-3, 3e-4"),
            "seeds": 1 if mode == "quick" else values["seeds"] or 0,
            "targets": targets_of({"modules": (), **values}),
        }
    )
    request.validate()
    return request


def numbers(text: str | None, kind: Callable[[str], Any], what: str, example: str) -> tuple[Any, ...]:
    """Parse numbers such as "1e-3, 3e-4"; raise InvalidSettingError for other text or above MAX_TEXT characters."""
    text = text or ""
    if len(text) > MAX_TEXT:
        raise InvalidSettingError(f"{what} can have at most {MAX_TEXT:,} characters (got {len(text):,}).")
    try:
        return tuple(kind(part) for part in text.replace(";", ",").split(",") if part.strip())
    except ValueError:
        raise InvalidSettingError(
            f"{what} must be numbers separated by commas, such as {example} (got {text!r})."
        ) from None


def measuring(api: Api, values: Mapping[str, Any], engine: str = LOCAL, mode: str = "quick") -> dict[str, Any]:
    """Return the values of the Train form that measure the settings of Explore at the recommended learning rate.

    With DoRA, or with another rank for experts, an adapter cannot be truncated: a quick look becomes a plain sweep of
    its two ranks. Precision and optimizer become "auto" where this machine trains without a GPU.

    Args:
        values: Settings by the names of link.DEFAULTS, and `data_file`, the file that was measured in Explore.
        engine: Where to train.
        mode: "quick" (a low and a high rank, the high one truncated to those between) or "rate" (one rank at two
            learning rates).
    """
    kept, targets = values["data_file"] or "", targets_of(values)
    custom = not isinstance(targets, str)
    gpu = engine != LOCAL or api.workspace.here().cuda
    advice = api.advice.advise(question.ask(values), goal_of(values)).advice
    return {
        **DEFAULTS,
        **{name: values[name] for name in (*OWN[1:9], "parts")},
        "model": (values["model"] or "").strip(),
        "data": KEPT_FILE if kept else DEFAULTS["data"],
        "kept": str(kept),
        "columns": file_in(values["measured_file"]).columns if kept and values["measured_file"] else "",
        "mode": "sweep" if mode == "quick" and (values["dora"] or values["expert_rank"] != "r") else mode,
        "ranks": [str(r) for r in FORM_RANKS[mode]],
        **FORM_SIZE[mode],
        "learning_rates": f"{advice.learning_rate:g}",
        "preset": CUSTOM if custom else targets,
        "names": ", ".join(targets) if custom else "",
        "precision": values["precision"] if gpu else "auto",
        "optim": values["optim"] if gpu else "auto",
    }


MAY_PASS = BusyError, EngineUnavailableError, HubUnavailableError, StorageError, WorkerError
"""Errors after which a later try may succeed without any change, as when a service is down for a moment."""
NAMES = ("engine", "flavor", "spend")
ASK_AGAIN_SECONDS = 0.7
BOX = "rv-where"
"""CSS class of the widgets of the engine choice; a script drops answers to an older choice (assets/js/newest.js)."""
ASKING = '<div class="rv-caption" role="status"><p>Asking{} for time, memory and cost {}…</p></div>'
HUB = "Hub"
"""Name of the check that warns only where the base must be downloaded and the Hub cannot be reached."""
SHORT_ROWS = 240
"""Most characters of a preview's examples that are shown unfolded; longer ones are folded."""
FORMS = (
    "Columns are found by usual names, such as question and answer, prompt and completion, messages or text; or you "
    "choose them."
)
UPLOAD = "Upload a file with your data, or choose one of the samples."
BEFORE = ("expected", "notice")
"""Outputs above the button: the estimate, and the reason why training cannot start."""


def cannot_train_html(api: Api) -> str:
    """Say why training is impossible on every engine, and which login would help; empty where it is possible."""
    why = api.engines.why_none()
    can_log_in = why and (login_is_on() or not api.workspace.shared)
    # The same sentence twice where the disk is full.
    return notice_html(*dict.fromkeys([why, api.engines.why_not(HF_JOBS) if can_log_in else ""]))


def preview(api: Api, **values: Any) -> View:
    """Show the first three examples of the data with counts, or the error of a wrong row."""
    data = data_of(values)
    if not data:
        return View(preview=html.paragraphs(FORMS), columns=question.choice_after(""))
    chosen = columns_of(values)
    try:
        measured = api.data.measure(data, chosen)
    except RankVizError as error:
        return question.unread(error, "preview")
    rows = [[Cell(text, kind="wrap") for text in example] for example in measured.first]
    table = html.table(["Prompt", "Completion (trained on)"], rows, label="First examples", left=2)
    words, first = html.paragraphs(measured.in_words), f"First {units.counted(len(rows), 'example')}"
    if values["data"] not in (OWN_FILE, KEPT_FILE):  # a sample's are well known, so that the ranks are in sight
        folded = html.folded(f"{first} of {measured.training.examples:,}", words + table)
        return View(preview=folded, columns=question.choice_after(""))
    short = sum(len(text) for example in measured.first for text in example) <= SHORT_ROWS
    preview = words + html.folded(first, table, is_open=short)
    return View(preview=preview, columns=question.choice_after(chosen))


def engine_widgets(api: Api) -> dict[str, Any]:
    """Build the choice of an engine, the machine and spending limit of a rented one, and the description of the chosen
    engine."""
    known = [api.engines.choice(engine.name) for engine in api.engines.known()]
    initial = {"engine": known[0].name, "flavor": None, "spend": api.workspace.settings.jobs_spend}
    w: dict[str, Any] = {}
    add = partial(field, w, initial, elem_classes=BOX)
    choices = [(each.title, each.name) for each in known]
    add(gr.Radio, "engine", "Runs on", choices=choices, elem_id="train-engine-choice")
    with gr.Column(visible=False) as w["terms"], gr.Row(**PAIR):
        add(CHOICE, "flavor", "Machine", choices=[], min_width=160, elem_id="train-engine-flavor")
        add(gr.Number, "spend", "Spending limit (US dollars)", min_width=100, elem_id="train-engine-spend")
    w["about"] = plain(elem_id="train-engine-about")
    return w


def choice(api: Api, *, engine: str) -> View:
    """Show the engines that the visitor can use. An unchanged choice is not sent, since the browser's may be newer."""
    offered = api.engines.offered()
    names = [place.name for place in offered]
    if HF_JOBS in names:
        api.engines.background.ask(("back", api.workspace.visitor.id), "", api.engines.bring_back)
    if names in ([], [LOCAL]):
        return View(box=gr.Column(visible=False), engine=gr.Radio(value=LOCAL), terms=gr.Column(visible=False))
    chosen = next((place for place in offered if place.name == engine), offered[0])
    moved = {} if chosen.name == engine else {"value": chosen.name}
    return View(
        box=gr.Column(visible=True),
        engine=gr.Radio([(place.title, place.name) for place in offered], **moved),
        about=html.paragraphs(chosen.about) if chosen.about else "",
        terms=gr.Column(visible=chosen.name == HF_JOBS),
    )


def engine_of(api: Api, sweep_id: str) -> dict[str, Any]:
    """Return updates that choose a sweep's engine, machine and limit; empty where the visitor may not."""
    there = api.runs.destination(sweep_id)
    engine = api.engines.name(there.engine)
    if engine not in [place.name for place in api.engines.offered()]:
        return {}
    if engine != HF_JOBS:
        return {"engine": engine}
    flavor, spend = there.options["flavor"], float(there.options["spend"])
    return {"engine": engine, "flavor": gr.Dropdown([(flavor, flavor)], value=flavor), "spend": spend}


def before_start(
    api: Api, *, engine: str = LOCAL, flavor: str | None = None, spend: float | None = None, **values: Any
) -> View:
    """Show time, memory and cost of these values on the chosen engine, or what to correct. The button is disabled
    where training is impossible, and where the settings are refused unless a retry may succeed."""
    shown = View(
        **dict.fromkeys(BEFORE, ""),
        trainer=cannot_train_html(api),
        start=gr.Button(interactive=True),
        again=gr.Timer(active=False),
    )
    if not data_of(values):  # nothing was done yet, so nothing is wrong
        shown.expected = html.paragraphs(UPLOAD)
        return shown
    try:
        request, why = request_of(values), ""
        if engine == LOCAL:
            plan, why = _local_plan(api, request)
        else:
            plan = _remote_plan(api, shown, request, engine, flavor, spend)
        if plan:
            cost = f'<div id="train-cost">{html.paragraphs(*plan.offer.sentences)}</div>' if plan.offer else ""
            takes = html.paragraphs(plan.not_known)
            if expected := plan.expected:
                memory = [run.memory_bytes for run in expected.ranks.values()]
                ends = SimpleNamespace(low=min(each.low for each in memory), high=max(each.high for each in memory))
                time = exact_span(expected.seconds, "seconds") if expected.seconds else ""
                first = " ".join(filter(None, [expected.sentences[0], plan.not_known, expected.too_long]))
                words = Cell(f"Memory: {units.memory_span(ends)}.", title=exact_span(ends, "bytes"))
                takes = html.paragraphs(Cell(first, title=time), words)
            shown.expected = cost + notice_html(*plan.notes) + takes
            shown.notice = notice_html(why, kind="error")
    except RankVizError as error:
        near = close_names(api.models.all(), values["model"]) if isinstance(error, UnknownModelError) else ()
        words = "Choose the columns of your data first." if getattr(error, "columns", ()) else str(error)
        shown.notice = notice_html(words, kind="error", models=near)
        shown.start = gr.Button(interactive=isinstance(error, MAY_PASS))
        shown.again = gr.Timer(BUSY_SECONDS, active=isinstance(error, BusyError))
    if api.engines.why_none():
        shown.start = gr.Button(interactive=False)
    return shown


def _local_plan(api: Api, request: SweepRequest) -> tuple[Plan, str]:
    """Return the plan of a sweep on this machine, and why it cannot run now (empty where no reason is known)."""
    name, device = base_name(request.base), api.workspace.here()
    base = api.workspace.references.base(request.base)
    api.models.get(request.base)
    measured = api.data.measure(request.data, request.columns)
    request.training.settle(device)
    expected, checks = api.runs.expected(request), api.machine.checks(request.training, request.base)
    noted = [check.sentence for check in problems(checks, "warning") if check.name != HUB]
    on_data = replace(request.training, data=measured.training)
    plan = Plan(expected=expected, notes=[*noted, *filter(None, [base.note]), *map(str, data_cautions(on_data))])
    room = device.usable_bytes if device.cuda else api.machine.facts().memory_bytes
    least = min(run.memory_bytes.low for run in expected.ranks.values())
    why = " ".join(check.sentence for check in problems(checks))
    if not why and any(check.name == HUB for check in problems(checks, "warning")):
        why = f"{name} cannot be trained here now: its weights are not on this machine, and the Hub cannot be reached."
    if not why and room is not None and least > room:
        needs = f"training needs at least {units.memory_size(least)}, and {'its GPU' if device.cuda else 'it'} has"
        why = f"{name} does not fit on this machine: {needs} {units.memory_size(room)}."
    return plan, why


def _remote_plan(
    api: Api, shown: View, request: SweepRequest, engine: str, flavor: str | None, spend: float | None
) -> Plan | None:
    """Return the plan of a sweep on an engine elsewhere, and show its machines. The engine may need seconds: until it
    answers, return None; the page asks again. Raise the RankVizError that the engine answers."""

    def ask() -> tuple[list[tuple[str, str]], Plan | RankVizError]:
        machines = []
        with suppress(RankVizError):  # as the plan reports
            flavors = api.engines.flavors() if engine == HF_JOBS else ()
            machines = [(f"{each.name}, {units.usd(each.usd_per_hour)}/h", each.name) for each in flavors]
        try:
            there = api.engines.destination(engine, **terms(engine, flavor, spend))
            return machines, api.runs.plan(request, there)
        except RankVizError as error:
            return machines, error

    answer = api.engines.ask(engine, (engine, flavor, spend, repr(request)), ask)
    if answer is None:
        shown.expected = ASKING.format(f" {escape(api.engines.choice(engine).title)}", "")
        shown.start = gr.Button(interactive=engine != HF_JOBS)  # nobody pays what they have not read
        shown.again = gr.Timer(ASK_AGAIN_SECONDS, active=True)
        return None
    machines, plan = answer.result()
    if names := [name for _, name in machines]:
        value = next(name for name in (flavor, api.workspace.settings.jobs_flavor, names[0]) if name in names)
        # A valid choice is not sent back, as the user may have changed it.
        shown.flavor = gr.Dropdown(machines, **({} if value == flavor else {"value": value}))
    if isinstance(plan, RankVizError):
        raise plan
    return plan


def terms(engine: str, flavor: str | None, spend: float | None) -> dict[str, Any]:
    """Return machine and spending limit for a rented machine; empty for other engines."""
    return {"flavor": flavor or "", "spend": spend} if engine == HF_JOBS else {}


def trainable(api: Api, values: dict[str, Any], engine: str = LOCAL) -> tuple[dict[str, Any], str]:
    """Return the form and an empty notice; if this machine trains but cannot train this base, the form with the
    embedded model and the reason as a notice."""
    can_train = engine == LOCAL and not api.workspace.why_not_train()
    if not can_train or not (sentence := _obstacle_of(api, values)):
        return values, ""
    changed = ("precision", "optim", "learning_rates", "parts", *OWN[3:9])
    targets = {} if values["preset"] != CUSTOM else {"preset": DEFAULTS["preset"], "names": ""}
    embedded = {**values, **{name: DEFAULTS[name] for name in changed}, **targets, "model": EMBEDDED}
    if _obstacle_of(api, embedded):
        return values, ""
    words = f"the embedded model {base_name(EMBEDDED)} instead, with its own rates, batch, length and precision"
    return embedded, notice_html(f"{sentence} The form has {words}.")


def _obstacle_of(api: Api, values: Mapping[str, Any]) -> str:
    """Return why this machine cannot train the form's sweep; empty where it can, or may be able to soon."""
    try:
        return _local_plan(api, request_of(values))[1]
    except RankVizError as error:
        return "" if isinstance(error, MAY_PASS) else str(error)
