"""A sweep as it goes and as it ended: where it stands, loss by step, what was measured beside what was estimated.

Reads what the worker wrote and owns nothing: the page may be closed and finds the sweep again.
"""

import time
from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

from rankviz import units
from rankviz.api import Api
from rankviz.core.runs.record import RunRecord, RunState, Sweep
from rankviz.figures import LossCurve, loss_figure
from rankviz.ui.parts import html
from rankviz.ui.parts.charts import chart_value
from rankviz.ui.parts.html import Cell, Row

EVENTS_SHOWN = 60


class Fingerprint(NamedTuple):
    """What has been seen of a sweep; as long as it stays the same there is nothing to draw."""

    sweep_id: str
    seen: tuple[tuple[str, str, int, int, float], ...]


def fingerprint(sweep: Sweep) -> Fingerprint:
    return Fingerprint(
        sweep.sweep_id,
        tuple((run.state.value, run.stage, len(run.steps), len(run.cuts), run.ended_at or 0.0) for run in sweep.runs),
    )


def title(sweep: Sweep) -> str:
    """ "SmolLM2-135M-Instruct on phonemes, r = 4, 16, 64"; with cuts, "r = 64 cut to 1, 2, 4"."""
    request = sweep.runs[0].request
    ranks = ", ".join(str(r) for r in dict.fromkeys(run.request.r for run in sweep.runs))
    cut = next((run.request.cut_ranks for run in sweep.runs if run.request.cut_ranks), ())
    cuts = f" cut to {', '.join(map(str, sorted(cut)))}" if cut else ""
    return f"{base_name(request.base)} on {data_name(request.data)}, r = {ranks}{cuts}"


def base_name(base: str) -> str:
    return "SmolLM2-135M-Instruct" if base == "embedded" else base.rstrip("/").rsplit("/", 1)[-1]


def data_name(data: str) -> str:
    """The sample's id, or the file's name without the fingerprint that the store puts before it."""
    name = data.rsplit("/", 1)[-1]
    digest, _, rest = name.partition("-")
    return rest if rest and len(digest) == 16 else name


def run_label(run: RunRecord, sweep: Sweep) -> str:
    """The rank, and what else differs within the sweep."""
    parts = [f"r = {run.request.r}"]
    if len({other.request.learning_rate for other in sweep.runs}) > 1:
        parts.append(f"lr {run.request.learning_rate:g}")
    if len({other.request.seed for other in sweep.runs}) > 1:
        parts.append(f"seed {run.request.seed}")
    return ", ".join(parts)


def status_html(sweep: Sweep) -> str:
    """One line that says where the sweep stands, a bar, and the numbers of the run that is going."""
    runs = sweep.runs
    done = sum(run.request.max_steps if run.state.ended else _steps(run) for run in runs)
    total = sum(run.request.max_steps for run in runs)
    running = next((run for run in runs if run.state is RunState.RUNNING), None)
    parts = [
        f'<div class="rv-status"><h2>{escape(title(sweep))}</h2>',
        f'<p role="status">{escape(_where(sweep, running))}</p>',
    ]
    last = running.steps[-1] if running and running.steps else None
    pace = running.tokens_per_second if running else None
    left = _seconds_left(sweep, running)
    if not sweep.ended:
        parts.append(html.progress(done / total if total else 0, label="Steps of the whole sweep"))
        parts.append(
            html.stats(
                [
                    ("Step", f"{last.step} of {running.request.max_steps}" if last else "–"),
                    ("Training loss", f"{last.loss:.4f}" if last else "–"),
                    ("Tokens a second", f"{pace:,.0f}" if pace else "–"),
                    ("Memory in use", units.memory_size(last.memory_bytes) if last else "–"),
                    ("Time left", "about " + units.duration(left) if left is not None else "–"),
                ]
            )
        )
    failed = next((run for run in runs if run.state is RunState.FAILED), None)
    if failed:
        parts.append(f'<div class="rv-notice rv-error" role="alert"><p>{escape(failed.error)}</p></div>')
    return "".join(parts) + "</div>"


def _steps(run: RunRecord) -> int:
    return run.steps[-1].step if run.steps else 0


def _where(sweep: Sweep, running: RunRecord | None) -> str:
    runs = sweep.runs
    if sweep.ended:
        counts = {state: sum(run.state is state for run in runs) for state in RunState}
        said = [f"{n} {state.value}" for state, n in counts.items() if n]
        # Each run's own time: between runs the sweep may have waited, or stood still until it was resumed.
        seconds = sum(run.ended_at - run.started_at for run in runs if run.started_at and run.ended_at)
        took = f" in {units.duration(seconds)}" if seconds else ""
        recorded = "Recorded by RankViz and shipped with it. " if sweep.recorded else ""
        return f"{recorded}{', '.join(said)}{took}."
    if running is None:
        return "Queued: it starts as soon as the worker is free."
    number = runs.index(running) + 1
    doing = running.stage if not running.steps or _steps(running) >= running.request.max_steps else "training"
    return f"Run {number} of {len(runs)}, {run_label(running, sweep)}: {doing or 'starting'}."


def _seconds_left(sweep: Sweep, running: RunRecord | None) -> float | None:
    """Of the whole sweep: this run's steps and the runs to come at the pace so far. None before there is a pace."""
    if running is None or running.seconds_left is None:
        return None
    a_step = running.steps[-1].seconds / running.steps[-1].step
    to_come = sum(run.request.max_steps for run in sweep.runs if run.state is RunState.QUEUED)
    return running.seconds_left + to_come * a_step


def loss_chart(sweeps: Sequence[Sweep], shown: Sequence[str] | None = None) -> str:
    """Training loss by step of every run, or of the runs named."""
    many = len(sweeps) > 1
    pairs = [
        (run, f"{data_name(run.request.data)}: {run_label(run, sweep)}" if many else run_label(run, sweep))
        for sweep in sweeps
        for run in sweep.runs
        if shown is None or run.run_id in shown
    ]
    curves = [
        LossCurve(
            run_id=run.run_id,
            label=label,
            r=run.request.r,
            steps=[step.step for step in run.steps],
            losses=[step.loss for step in run.steps],
            final=run.loss_after.loss if run.loss_after else None,
        )
        for run, label in pairs
    ]
    longest = max((run.request.max_steps for run, _ in pairs), default=1)
    rows = [
        {
            "run": run.run_id,
            "r": run.request.r,
            "step": step.step,
            "loss": step.loss,
            "learning_rate": step.learning_rate,
        }
        for run, _ in pairs
        for step in run.steps
    ]
    ended = all(run.state.ended for run, _ in pairs)
    empty = "No step was logged." if pairs and ended else ""
    source = "Measured: " + "; ".join(title(sweep) for sweep in sweeps) + "." if pairs else ""
    return chart_value(loss_figure(curves, max_steps=longest, empty=empty), rows, file="loss", source=source)


def events_html(api: Api, sweep: Sweep) -> str:
    """What happened, newest first, in words."""
    lines = [
        (event.time, run_label(run, sweep), words)
        for run in sweep.runs
        if run.state is not RunState.QUEUED
        for event in api.runs.events(run.run_id)
        if (words := in_words(event))
    ]
    lines.sort(key=lambda line: line[0], reverse=True)
    items = "".join(
        f"<li><time>{time.strftime('%H:%M:%S', time.localtime(at))}</time> <b>{escape(label)}</b> {escape(words)}</li>"
        for at, label, words in lines[:EVENTS_SHOWN]
    )
    return f'<ol class="rv-events">{items}</ol>' if items else html.paragraphs("Nothing has happened yet.")


def in_words(event: Any) -> str:
    """A sentence for what happened; nothing for a step, which the loss curve shows."""
    match type(event).__name__:
        case "RunStarted":
            env = event.environment
            return f"started on {env.get('device_name') or env.get('device') or 'an unnamed device'}"
        case "StageReached":
            return event.stage
        case "AdapterAttached":
            return f"adapter attached, {event.trainable_parameters:,} parameters train"
        case "Evaluated":
            when = "the base" if event.when == "before" else "the adapter"
            return f"held-out loss of {when}: {event.loss:.4f} over {event.examples} examples"
        case "AdapterCut":
            more = f" and trained {event.recovery_steps} steps more" if event.recovery_steps else ""
            return f"cut to r = {event.r}{more}: held-out loss {event.loss:.4f}"
        case "AdapterSaved":
            return f"adapter saved, {event.file_bytes:,} bytes"
        case "RunCompleted":
            return f"completed, {units.duration(event.train_seconds)} of training"
        case "RunFailed":
            return f"failed: {event.error}"
        case "RunCancelled":
            return "cancelled"
        case "RunRequeued":
            return "asked for again"
    return ""


MEASURED_HEADERS = (
    "Rank", "State", "Learning rate", "Seed", "Held-out loss", "Gain", "Parameters", "Adapter file", "Peak memory",
    "Time",
)  # fmt: skip


def results_table(api: Api, sweep: Sweep, *, chosen: str = "") -> str:
    """A row a run: what was measured, and under it what had been estimated."""
    return "<h2>Measured, and estimated under it</h2>" + html.table(
        MEASURED_HEADERS,
        [Row(cells=measured_cells(api, run), pick=run.run_id, chosen=run.run_id == chosen) for run in sweep.runs],
        label="Runs of this sweep, measured and estimated",
        left=2,
    )


def measured_cells(api: Api, run: RunRecord) -> Sequence[Cell]:
    estimate = api.runs.expected_run(run)
    memory, seconds = (estimate.memory_bytes, estimate.seconds) if estimate else (None, None)
    done = run.completed
    return (
        Cell(f"r = {run.request.r}"),
        Cell(run.state.value, kind="left"),
        Cell(f"{run.request.learning_rate:g}"),
        Cell(str(run.request.seed)),
        Cell(
            f"{run.loss_after.loss:.4f}" if run.loss_after else "–",
            sub=f"base {run.loss_before.loss:.4f}" if run.loss_before else "",
        ),
        Cell(f"{run.gain:.4f}" if run.gain is not None else "–"),
        beside(run.trainable_parameters, estimate and estimate.adapter_parameters, "{:,}".format),
        beside(run.adapter_bytes, estimate and estimate.adapter_bytes, units.file_size, exact="bytes"),
        beside(
            done and done.peak_memory_bytes,
            memory and (memory.low, memory.high),
            units.memory_size,
            exact=f"bytes, {done.peak_memory_kind}" if done else "",
        ),
        beside(done and done.train_seconds, seconds and (seconds.low, seconds.high), units.duration),
    )


def beside(measured: float | None, estimated: Any, text, *, exact: str = "") -> Cell:
    """A measurement with its estimate under it; a pair is a range."""
    if isinstance(estimated, tuple):
        sub = f"est. {text(estimated[0])} – {text(estimated[1])}"
    else:
        sub = "" if estimated is None else f"est. {text(estimated)}"
    if measured is None:
        return Cell("–", sub=sub)
    return Cell(text(measured), title=f"{measured:,} {exact}" if exact else "", sub=sub)
