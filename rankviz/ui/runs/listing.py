"""Lists sweeps, one row each, which opens onto its runs; recorded ones stand at the end."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from rankviz import units
from rankviz.api import Api
from rankviz.api.json.runs import listed_run_json
from rankviz.core.runs.record import RunRecord, RunState, Sweep
from rankviz.core.runs.words import base_name, data_name, sweep_title
from rankviz.export.tables import Table
from rankviz.export.tables import runs_table as measured_table
from rankviz.ui.parts import html
from rankviz.ui.parts.html import NATS, PER_TOKEN, Cell, Row, rounded
from rankviz.ui.runs.selection import NOTHING, Choice

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
