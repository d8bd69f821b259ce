"""Makes what the Runs tab shows: the list of sweeps, the selected runs on one chart, the chosen sweep and run."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.api.runs.runs import listed_run_json
from rankviz.core.runs.record import RunRecord, RunState, Sweep
from rankviz.core.runs.words import base_name, data_name, sweep_title
from rankviz.errors import BusyError, LimitError, RankVizError, UserError, quoted
from rankviz.export.tables import Table
from rankviz.export.tables import runs_table as measured_table
from rankviz.store.temp import Usage
from rankviz.ui.parts import charts, html, live, where
from rankviz.ui.parts.html import NATS, PER_TOKEN, Cell, Row, rounded
from rankviz.ui.parts.where import not_here, telling, uploads_button
from rankviz.ui.runs.sweep import HEIGHT, detail_html, standing_html, sweep_view
from rankviz.ui.wiring import notice_html
from rankviz.units import counted


class Choice(NamedTuple):
    """What is shown, by ids; an empty text where there is none."""

    sweep_id: str
    run_id: str = ""
    """A run of it."""
    open_id: str = ""
    """The sweep whose runs are in the list."""


NOTHING = Choice("")


def choice_of(api: Api, clicked: str, now: Choice) -> Choice:
    """After a click on a sweep or a run, by its id. A second click on it closes it."""
    if api.runs.is_sweep(clicked):
        return Choice(clicked, open_id="" if clicked == now.open_id else clicked)
    sweep_id = api.runs.get(clicked).request.sweep_id
    return Choice(sweep_id, "" if clicked == now.run_id else clicked, sweep_id)


class Overlay(NamedTuple):
    """The selected runs on one chart each."""

    heading: str
    curve: str
    loss: str
    caption: str
    qualities: list[tuple[str, str]]
    y: str


def overlay(api: Api, sweeps: Sequence[Sweep], selected: Collection[str], *, x: str, y: str, height: int) -> Overlay:
    """x, y: axes of the chart of quality and cost; a quality that these runs lack becomes the loss."""
    selected = frozenset(selected)  # each run of the folder is looked up in it
    drawn = [sweep for sweep in sweeps if any(run.run_id in selected for run in sweep.runs)]
    runs = [run for sweep in drawn for run in sweep.runs if run.run_id in selected]
    qualities = charts.quality_choices(runs)
    y = y if y in dict(qualities).values() else "loss"
    with api.verdicts.comparing(runs):
        tradeoff = charts.tradeoff_chart(drawn, x=x, y=y, run_ids=selected, height=height)
    return Overlay(
        heading=f"{counted(len(runs), 'selected run')} of {counted(len(drawn), 'sweep')}",
        curve=tradeoff.chart,
        loss=live.loss_chart(drawn, selected),
        caption=tradeoff.caption,
        qualities=qualities,
        y=y,
    )


def zip_of(api: Api, ids: Sequence[str]) -> str:
    """Runs or sweeps as another RankViz imports them. In a folder of its own: two visitors never share a file."""
    if not ids:
        raise UserError("Select at least one run: tick its box in the table.")
    return str(api.runs.zip_of(ids))


def imported(api: Api, file: str | None) -> Choice:
    """The sweep of the first run of the zip, opened."""
    if not file:
        raise UserError("Choose a zip of runs.")
    run_ids = list(api.runs.import_(Path(file)))
    gr.Info(f"{counted(len(run_ids), 'run')} imported.")
    sweep_id = api.runs.get(run_ids[0]).request.sweep_id
    return Choice(sweep_id, open_id=sweep_id)


ANY_STATE = "any state"
HEADERS = ("Sweep or run", "State", "α", "Learning rate", "Seed", "Loss", "Gain", "Adapter file", "Memory")
HEADERS += ("Run time", "Requested")
MOST_ROWS = 500
"""Of one's own: a browser takes seconds to draw thousands."""
INDENT = "\u2003\u2003"


class Places(NamedTuple):
    """What is said of them, in words; empty where nothing is."""

    of_sweep: Callable[[Sweep], str]
    of_run: Callable[[RunRecord], str]


NO_PLACES = Places(lambda sweep: "", lambda run: "")


def all_sweeps(api: Api) -> list[Sweep]:
    """One's own, newest first, then the recorded ones."""
    return [*api.runs.sweeps(), *api.runs.recorded()]


def list_html(
    sweeps: Sequence[Sweep],
    *,
    text: str,
    state: str,
    selected: Collection[str],
    choice: Choice = NOTHING,
    unreadable: Mapping[str, str] | None = None,
    owners: Mapping[str, str] | None = None,
    places: Places = NO_PLACES,
    note: str = "",
) -> str:
    """A row per sweep, and under the open one a row per run; with a filter, all runs that it lets through.

    Args:
        sweeps: In the order of the list.
        text: Words that a run must have.
        state: Of a run, or ANY_STATE.
        selected: Ids of the runs whose boxes are ticked.
        choice: The sweep and the run that are shown, and the sweep that is open.
        unreadable: Folders that hold no run, with the reason of each; listed where nothing is filtered.
        owners: Whose each sweep is, where that is said.
        places: Where sweeps and runs are.
        note: A sentence above the list.
    """
    selected = frozenset(selected)  # each run of the folder is looked up in it
    filtering = bool(text) or state != ANY_STATE
    own, recorded = [], []
    left_out = 0
    for sweep in sweeps:
        if matching := matching_of(sweep, text=text, state=state):
            if len(own) >= MOST_ROWS and not sweep.recorded:
                left_out += 1
                continue
            is_open = filtering or sweep.sweep_id == choice.open_id
            rows = recorded if sweep.recorded else own
            owner, chosen = (owners or {}).get(sweep.sweep_id, ""), sweep.sweep_id == choice.sweep_id
            place = f"on {words}" if (words := places.of_sweep(sweep)) else ""
            rows.append(_sweep_row(sweep, selected, is_open=is_open, chosen=chosen, owner=owner, place=place))
            rows += [_run_row(sweep, run, selected, choice.run_id, places) for run in matching if is_open]
    broken = [] if filtering else [Row(cells=_unreadable_cells(*each)) for each in (unreadable or {}).items()]
    above = html.paragraphs(note, css="rv-empty") if note else ""
    if not (rows := [*own, *broken, *recorded]):
        return above + html.paragraphs("No run matches the filter.", css="rv-empty")
    more = f"Not listed: {units.counted(left_out, 'older sweep')}. Use the filter to find them." if left_out else ""
    below = html.paragraphs(more, css="rv-empty") if more else ""
    return above + html.table(HEADERS, rows, label="Sweeps and runs", left=2) + below


def matching_of(sweep: Sweep, *, text: str, state: str) -> list[RunRecord]:
    words = (text or "").lower().split()
    if state == ANY_STATE and not words:
        return list(sweep.runs)
    return [run for run in sweep.runs if state in (ANY_STATE, run.state) and _matches(run, words)]


def matching_runs(api: Api, *, text: str, state: str) -> Table:
    """The runs that the filter lets through, as a file has them."""
    records = [run for sweep in all_sweeps(api) for run in matching_of(sweep, text=text, state=state)]
    return measured_table((each.record, listed_run_json(each)) for each in api.runs.summaries(records))


def _matches(run: RunRecord, words: Sequence[str]) -> bool:
    request = run.request
    names = f"{run.run_id} {request.sweep_id} {base_name(request.base)} {request.data} r={request.r} r = {request.r}"
    return all(word in names.lower() for word in words)


def _sweep_row(sweep: Sweep, selected: Collection[str], *, is_open: bool, chosen: bool, owner: str, place: str) -> Row:
    runs = sweep.runs
    losses = [run.loss_after.loss for run in runs if run.loss_after]
    gains = [run.gain for run in runs if run.gain is not None]
    sizes = [run.adapter_bytes for run in runs if run.adapter_bytes]
    peaks = [run.completed.peak_memory_bytes for run in runs if run.completed]
    cells = (
        Cell(sweep_title(sweep), title=sweep.sweep_id, kind="wrap", sub=_setting(sweep, owner)),
        Cell(_sweep_state(sweep), kind="narrow", sub=place),
        Cell(_each(runs, lambda run: run.request.lora.lora_alpha)),
        Cell(_each(runs, lambda run: run.request.learning_rate)),
        Cell(_each(runs, lambda run: run.request.seed)),
        rounded(NATS, min(losses, default=None), PER_TOKEN, sub="lowest" if len(losses) > 1 else ""),
        rounded(NATS, max(gains, default=None), PER_TOKEN, sub="largest" if len(gains) > 1 else ""),
        Cell(_span(sizes), title=f"{min(sizes):,} to {max(sizes):,} bytes" if sizes else ""),
        rounded(units.memory_size, max(peaks, default=None), "bytes", sub="highest peak" if len(peaks) > 1 else ""),
        _time(sweep),
        Cell(_when(runs[0])),
    )
    ids = [run.run_id for run in runs]
    ticked = all(run_id in selected for run_id in ids)
    return Row(cells=cells, pick=sweep.sweep_id, chosen=chosen, ticks=ids, ticked=ticked, opened=is_open)


def _time(sweep: Sweep) -> Cell:
    """Of its runs; while they have not ended, to the last line of each."""
    seconds = sum(run.attempt_seconds or 0.0 for run in sweep.runs)
    return rounded(units.duration, seconds or None, "seconds", sub="" if sweep.ended or not seconds else "so far")


def _setting(sweep: Sweep, owner: str) -> str:
    """What sweeps with the same title may differ by."""
    request = sweep.runs[0].request
    targets = request.lora.target_modules
    named = targets if isinstance(targets, str) else ", ".join(targets)
    runs, steps = units.counted(len(sweep.runs), "run"), units.counted(request.max_steps, "step")
    return ", ".join(filter(None, [f"{runs}, {steps}, targets {named}", owner]))


def _span(sizes: Sequence[int]) -> str:
    """The smallest and the largest file."""
    if not sizes:
        return "–"
    low, high = units.file_size(min(sizes)), units.file_size(max(sizes))
    return low if low == high else f"{low} – {high}"


def _each(runs: Sequence[RunRecord], value: Callable[[RunRecord], float]) -> str:
    """The values of all runs, in order."""
    return ", ".join(f"{each:g}" for each in sorted({value(run) for run in runs}))


def _sweep_state(sweep: Sweep) -> str:
    if sweep.recorded:
        return "recorded"
    counts = Counter(run.state for run in sweep.runs)
    return ", ".join(f"{counts[state]} {state.value}" for state in RunState if state in counts)


def _run_row(sweep: Sweep, run: RunRecord, selected: Collection[str], run_id: str, places: Places) -> Row:
    mine, cells = run.run_id, _run_cells(sweep, run, "" if sweep.recorded else places.of_run(run))
    return Row(cells=cells, pick=mine, chosen=mine == run_id, ticks=[mine], ticked=mine in selected)


def _run_cells(sweep: Sweep, run: RunRecord, place: str) -> Sequence[Cell]:
    request, done = run.request, run.completed
    state = "recorded" if sweep.recorded else run.state.value
    if run.state is RunState.RUNNING and run.steps:
        state = f"running, step {run.steps[-1].step} of {request.max_steps}"
    return (
        Cell(f"{INDENT}r = {request.r}", title=f"{run.run_id}: {base_name(request.base)} on {data_name(request.data)}"),
        Cell(state, kind="narrow", sub=place, title=run.waits.replace("`", "")),
        Cell(f"{request.lora.lora_alpha:g}"),
        Cell(f"{request.learning_rate:g}"),
        Cell(str(request.seed)),
        rounded(NATS, run.loss_after and run.loss_after.loss, PER_TOKEN),
        rounded(NATS, run.gain, PER_TOKEN),
        rounded(units.file_size, run.adapter_bytes or None, "bytes"),
        rounded(units.memory_size, done and done.peak_memory_bytes, "bytes"),
        rounded(units.duration, run.attempt_seconds, "seconds"),
        Cell(_when(run)),
    )


def _when(run: RunRecord) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(run.request.created_at))


def _unreadable_cells(run_id: str, reason: str) -> Sequence[Cell]:
    return (Cell(run_id), Cell(f"unreadable: {reason}", kind="wrap"), *[Cell("–")] * (len(HEADERS) - 2))


NOTHING_OF_YOURS = (
    "You have no runs yet. The recorded sweeps below ship with RankViz: click one to read it, or train your own."
)
POLL_SECONDS = 2.0
NO_UPLOADS = Usage(0, 0)
NO_QUESTIONS = {"sure": gr.Row(visible=False), "again_box": gr.Column(visible=False), "published_base": ""}
"""They, and what was answered, are about the chosen sweep. A drawing of the same sweep leaves them as they are."""
CHOOSE = "Click a sweep in the list to read it."


class Seen(NamedTuple):
    """What each part was last drawn of, as a hash; a part that is the same is not drawn again.

    The browser has it as a text beside what is drawn: an answer that comes too late changes neither.
    """

    listed: str = ""
    unreadable: str = str(hash(()))
    uploads: str = str(hash(NO_UPLOADS))
    overlaid: str = ""
    chosen: str = ""
    sweep: str = ""
    standing: str = ""
    run: str = ""

    @classmethod
    def of(cls, text: str) -> "Seen":
        """Nothing drawn yet, where it is no such text."""
        parts = text.split()
        return cls(*parts) if len(parts) == len(cls._fields) else cls()

    @property
    def text(self) -> str:
        return " ".join(self)


class RunsView(SimpleNamespace):
    """What changed, by the names of the tab's widgets; a widget that is not named stays as it is."""

    def _asdict(self) -> dict[str, Any]:
        return dict(vars(self))


def runs_view(
    api: Api,
    *,
    showing: str,
    text: str,
    state: str,
    x: str,
    y: str,
    selected: Sequence[str],
    sweep_id: str,
    run_id: str,
    open_id: str,
    metric: str,
    tolerance: str,
    seen: str,
) -> RunsView:
    """What changed since the parts were last drawn. Nothing while another tab is open, when `showing` is empty."""
    if not showing:
        return RunsView(timer=gr.Timer(active=False))
    before, choice = Seen.of(seen), Choice(sweep_id, run_id, open_id)
    reading, sweeps, unreadable = api.runs.reading(), all_sweeps(api), api.runs.unreadable()
    prints = tuple(live.fingerprint(sweep) for sweep in sweeps)
    chosen = next((sweep for sweep in sweeps if sweep.sweep_id == sweep_id), None) or _of_another(api, sweep_id)
    state_of_it = _state_of(api, chosen) if chosen else None
    of = {
        "listed": (text, state, tuple(selected), choice, tuple(unreadable), prints, reading),
        "unreadable": tuple(unreadable),
        "uploads": (uploads := api.uploads.usage()),
        "overlaid": (x, y, tuple(selected), prints if selected else ()),
        "chosen": sweep_id,
        "sweep": (sweep_id, tolerance, metric, state_of_it),
        "standing": (sweep_id, standing := standing_html(api, chosen) if chosen else ""),
        "run": (run_id, state_of_it),
    }
    now = Seen(**{name: str(hash(each)) for name, each in of.items()})
    drawn: dict[str, Any] = {}
    if now.listed != before.listed:
        own = bool(unreadable or reading) or any(not sweep.recorded for sweep in sweeps)
        owners = {sweep.sweep_id: api.runs.owner_of(sweep.runs[0].run_id) for sweep in sweeps}
        told, there = telling(api), api.locations
        places = Places(lambda sweep: told(there.of_sweep(sweep)), lambda run: told(there.in_words(run)))
        filters = {"text": text, "state": state, "unreadable": unreadable, "owners": owners, "note": reading}
        filters |= {"places": places}
        drawn["empty_box"] = gr.Row(visible=not own)
        drawn["table"] = list_html(sweeps, **filters, selected=selected, choice=choice)
    if now.unreadable != before.unreadable:
        drawn["unreadable_box"] = gr.Row(visible=bool(unreadable))
        drawn["unreadable"] = gr.Dropdown(choices=list(unreadable), value=None)
    if now.uploads != before.uploads:
        drawn["uploads"] = uploads_button(uploads)
    if now.overlaid != before.overlaid:
        drawn |= _overlaid(api, sweeps, selected, x, y)
        if drawn.pop("is_busy", False):
            now = now._replace(overlaid=where.BUSY)
    if now.sweep != before.sweep:
        drawn |= _sweep(api, chosen, sweep_id, tolerance, metric, standing)
        if drawn.pop("is_busy", False):
            now = now._replace(sweep=where.BUSY)
    if now.chosen != before.chosen:
        drawn |= NO_QUESTIONS
    if now.standing != before.standing:
        drawn["status"] = standing
    if now.run != before.run:
        drawn |= _run(api, run_id)
    seconds = where.BUSY_SECONDS if where.BUSY in now else POLL_SECONDS
    return RunsView(**drawn, seen=now.text, timer=gr.Timer(seconds, active=True))


def _state_of(api: Api, sweep: Sweep) -> tuple[int, bool, str]:
    """All that changes what is shown of it."""
    is_open = not sweep.recorded and api.runs.is_open(sweep.sweep_id)
    return live.fingerprint(sweep), is_open, api.runs.why_sweep_waits(sweep)


def _of_another(api: Api, sweep_id: str) -> Sweep | None:
    """A sweep that is not listed here, since another visitor shares it by its address."""
    try:
        return api.runs.sweep(sweep_id)
    except RankVizError:
        return None


def _overlaid(api: Api, sweeps: Sequence[Sweep], selected: Sequence[str], x: str, y: str) -> dict[str, Any]:
    if not selected:
        return {"selected_box": gr.Column(visible=False)}
    try:
        over = overlay(api, sweeps, selected, x=x, y=y, height=HEIGHT)
    except LimitError as error:
        nothing = dict.fromkeys(("selected_title", "curve", "selected_loss"), "")
        notice = notice_html(str(error), kind="error")
        is_busy = isinstance(error, BusyError)
        return {"selected_box": gr.Column(visible=True), **nothing, "caption": notice, "is_busy": is_busy}
    return {
        "selected_box": gr.Column(visible=True),
        "selected_title": html.titled(over.heading, ""),
        "curve": over.curve,
        "selected_loss": over.loss,
        "caption": html.paragraphs(over.caption),
        "y": gr.Dropdown(choices=over.qualities, **({} if over.y == y else {"value": over.y})),
    }


def _sweep(api: Api, chosen: Sweep | None, sweep_id: str, tolerance: str, metric: str, standing: str) -> dict[str, Any]:
    if chosen is None:
        reason = api.runs.unreadable().get(sweep_id)
        words = f"Run {quoted(sweep_id)} cannot be read: {reason}" if reason else not_here(api, sweep_id)
        gone = notice_html(words, kind="error") if sweep_id else ""
        message = gone or html.paragraphs(CHOOSE, css="rv-empty")
        return {"message": message, "sweep_box": gr.Column(visible=False)}
    view = sweep_view(api, chosen, tolerance=tolerance, metric=metric, standing=standing)
    return {"message": "", **view._asdict()}


def _run(api: Api, run_id: str) -> dict[str, Any]:
    if not run_id:
        return {"detail": "", "cancel_run": gr.Button(visible=False)}
    try:
        run = api.runs.get(run_id)
    except RankVizError as error:
        return {"detail": notice_html(str(error), kind="error"), "cancel_run": gr.Button(visible=False)}
    can_end = not run.state.ended and api.runs.is_mine(run_id) and not api.runs.are_unwanted([run])
    return {"detail": detail_html(api, run), "cancel_run": gr.Button(visible=can_end)}
