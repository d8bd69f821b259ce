"""Shows a sweep during and after training: state, loss by step, and measured values beside the estimates.

Reads what the worker wrote and owns nothing: the page may be closed and finds the sweep again.
"""

import time
from collections.abc import Callable, Collection, Sequence
from html import escape

from rankviz import units
from rankviz.api import Api
from rankviz.core.quantity import Range
from rankviz.core.runs import events
from rankviz.core.runs.estimate import RunEstimate
from rankviz.core.runs.events import TRAINING
from rankviz.core.runs.metric import LOSS, METRICS, Metric, measured_metrics
from rankviz.core.runs.record import RunRecord, RunState, Sweep
from rankviz.core.runs.sweep_time import SweepProgress, progress_of
from rankviz.core.runs.words import Place, run_label, run_labels, sweep_title
from rankviz.figures import training_figure, training_info
from rankviz.ui.parts import html
from rankviz.ui.parts.charts import chart_value
from rankviz.ui.parts.html import NATS, PER_TOKEN, Cell, Row, exact, exact_span, rounded

EVENTS_SHOWN = 60
HEADERS = ("Rank", "State", "Learning rate", "Seed", "Held-out loss", "Gain")
COST_HEADERS = ("Parameters", "Adapter file", "Peak memory", "Training time")


def fingerprint(sweep: Sweep) -> int:
    """Of what is shown of a sweep; while it stays the same there is nothing to draw."""
    places = [run.place and (run.place.engine, run.place.where, run.place.waits) for run in sweep.runs]
    runs = [(str(run.state), run.attempt, run.stage, len(run.steps), len(run.cuts), run.ended_at) for run in sweep.runs]
    return hash((sweep.sweep_id, *places, *runs))


def status_html(sweep: Sweep, progress: SweepProgress | None = None, waiting: str = "") -> str:
    """The sweep's state in one line; while it runs how far it is, its time left and the numbers of the current run.

    progress: as api.runs.progress has it, from earlier runs too; None takes it from this sweep alone.
    waiting: why it waits, as api.runs.why_sweep_waits has it.
    """
    state = html.prose(f"{_state(sweep)} {waiting}".strip())
    far = "" if sweep.ended else _how_far(sweep, progress or progress_of(sweep, time.time()))
    failed = next((run.error for run in sweep.runs if run.state is RunState.FAILED and run.error), "")
    return (
        f'<div class="rv-status"><h2>{escape(sweep_title(sweep))}</h2><p role="status">{state}</p>{far}'
        f"{html.notice_html(failed, kind='error')}</div>"
    )


def one_line(sweep: Sweep) -> str:
    """Title and state in one line, as HTML."""
    return f"Newest sweep: <b>{escape(sweep_title(sweep))}</b>. {escape(_state(sweep))}"


def _how_far(sweep: Sweep, progress: SweepProgress) -> str:
    """A bar, the time left, and what is known of the current run. The bar is the stage's while no more is known. With a
    trouble nobody knows how far it is."""
    running = sweep.running
    last = running.steps[-1] if running and running.steps else None
    pace = running.tokens_per_second if running else None
    words, left = progress.left_in_words, progress.seconds_left
    shares = (progress.share, progress.stage_share, sweep.share_done or None if running else sweep.share_done)
    share = None if progress.trouble else next((known for known in shares if known is not None), None)
    label = "this stage" if progress.share is None and progress.stage_share is not None else "the whole sweep"
    known = [
        ("Time left", "" if progress.trouble else Cell(words, title="" if left is None else exact(left, "seconds"))),
        ("This stage", _stage(progress) if running else ""),
        ("Step", f"{last.step} of {running.request.max_steps}" if last and running.stage != TRAINING else ""),
        ("Training loss", rounded(NATS, last.loss, PER_TOKEN) if last else ""),
        ("Tokens per second", f"{pace:,.0f}" if pace else ""),
        ("Memory in use", rounded(units.memory_size, last.memory_bytes, "bytes") if last else ""),
    ]
    return html.progress(share, label=f"Share of {label}") + html.stats([pair for pair in known if pair[1]])


def _stage(progress: SweepProgress) -> str:
    """ "16 of 64 examples, 3 s": what the stage has done, and its time so far."""
    counted, seconds = progress.stage.partition(", ")[2], progress.stage_seconds
    so_far = units.duration(round(seconds)) if seconds is not None and seconds >= 1 else ""
    return ", ".join(filter(None, [counted, so_far]))


def _state(sweep: Sweep) -> str:
    runs, running = sweep.runs, sweep.running
    if sweep.ended:
        counts = {state: sum(run.state is state for run in runs) for state in RunState}
        (first, state), *others = [(n, state.value) for state, n in counts.items() if n]
        ended = ", ".join([f"{units.counted(first, 'run')} {state}", *(f"{n} {state}" for n, state in others)])
        by_admin = " (cancelled by the admin)" if any(run.cancelled_by_admin for run in runs) else ""
        recorded = "Recorded by RankViz and shipped with it: " if sweep.recorded else ""
        return f"{recorded}{ended}{by_admin}{_took(sweep)}."
    if running is None:
        return "Queued."
    doing = running.stage if running.steps_done in (0, running.request.max_steps) else "training"
    return f"Run {runs.index(running) + 1} of {len(runs)}, {run_label(running, sweep)}: {doing or 'starting'}."


def _took(sweep: Sweep) -> str:
    """The time of its runs. "Cancelled in 7 min" would be how long it took to cancel them."""
    if not sweep.seconds_in_runs:
        return ""
    took, begun = units.duration(sweep.seconds_in_runs), sum(run.started_at is not None for run in sweep.runs)
    if all(run.state is RunState.COMPLETED for run in sweep.runs):
        return f" in {took}"
    return f". {'The run' if len(sweep.runs) == 1 else units.counted(begun, 'run')} took {took}"


def loss_chart(sweeps: Sequence[Sweep], run_ids: Collection[str] | None = None) -> str:
    """Training loss by step of every run, or of these runs."""
    info = training_info(sweeps, run_ids=run_ids)
    return chart_value(training_figure.drawing(info), info.rows, file="loss", source=info.source)


def events_html(api: Api, sweep: Sweep) -> str:
    """What happened, newest first, in words."""
    labels, lines = run_labels(sweep), []
    for run in sweep.runs:
        before = ""
        for event in api.runs.events(run.run_id) if run.state is not RunState.QUEUED else ():
            if (words := in_words(event)) and words != before:  # a place is written again with its job
                lines.append((event.time, labels[run.run_id], words))
                before = words
    items = "".join(
        f"<li><time>{time.strftime('%H:%M:%S', time.localtime(at))}</time> <b>{escape(label)}</b> "
        f"{html.prose(words)}</li>"
        for at, label, words in sorted(lines, key=lambda line: line[0], reverse=True)[:EVENTS_SHOWN]
    )
    return f'<ol class="rv-events">{items}</ol>' if items else html.paragraphs("No events yet.")


def in_words(event: events.RunEvent) -> str:
    """A sentence for what happened; nothing for a step, which the loss curve shows."""
    match event:
        case events.RunStarted(environment=environment):
            device = environment.get("device_name") or environment.get("device") or "an unnamed device"
            return f"started on {device}"
        case events.StageReached(stage=stage):
            return stage
        case events.AdapterAttached(trainable_parameters=parameters):
            return f"adapter attached, {parameters:,} trainable parameters"
        case events.Evaluated(when=when, loss=loss, examples=examples):
            of, on = "base" if when == "before" else "adapter", units.counted(examples, "example")
            return f"held-out loss of the {of}: {loss:.4f} on {on}{_accuracies(event)}"
        case events.AdapterCut(r=r, recovery_steps=steps, loss=loss):
            more = f" and trained for {units.counted(steps, 'more step')}" if steps else ""
            return f"truncated to r = {r}{more}: held-out loss {loss:.4f}{_accuracies(event)}"
        case events.AdapterSaved(file_bytes=size):
            return f"adapter saved, {size:,} bytes"
        case events.RunCompleted(train_seconds=seconds):
            return f"completed, {units.duration(seconds)} of training"
        case events.RunFailed(error=error):
            return f"failed: {error}"
        case events.RunCancelled():
            return "cancelled by the admin" if event.by_admin else "cancelled"
        case events.RunRequeued(lost=lost):
            return f"queued again: {lost}" if lost else "queued again"
        case events.AttemptPlaced(engine=engine, where=where, waits=waits):
            return ". ".join(filter(None, [f"given to {Place(engine, where).in_words}", waits]))
    return ""


def _accuracies(measured: events.HeldOut) -> str:
    known = [(m.noun, value) for m in METRICS.values() if m is not LOSS and (value := m.of(measured)) is not None]
    return "".join(f", {noun} {value:.1f} %" for noun, value in known)


def results_table(api: Api, runs: Sequence[RunRecord], *, picks: bool = True) -> str:
    """A row per run: what was measured, and under it the estimate. picks: whether a click on a row reports its run."""
    accuracies = [metric for metric in measured_metrics(runs) if metric is not LOSS]
    rows = [
        Row(_measured(run, estimate, accuracies), pick=run.run_id if picks else "")
        for run, estimate in zip(runs, api.runs.expected_runs(runs), strict=True)
    ]
    headers = (*HEADERS, *(metric.label for metric in accuracies), *COST_HEADERS)
    table = html.table(headers, rows, label="Runs, measured and estimated", left=2)
    return f"<h2>Measured (estimate below)</h2>{table}"


def _measured(run: RunRecord, estimate: RunEstimate | None, accuracies: Sequence[Metric]) -> Sequence[Cell]:
    request, done, before, after = run.request, run.completed, run.loss_before, run.loss_after
    of_base = rounded("base {:.4f}".format, before.loss, PER_TOKEN) if before else ""
    memory, kind = done and done.peak_memory_bytes, f"bytes, {done.peak_memory_kind}" if done else "bytes"
    parameters, file_bytes = estimate and estimate.adapter_parameters, estimate and estimate.adapter_bytes
    return (
        Cell(f"r = {request.r}"),
        Cell(run.state.value, kind="left"),
        Cell(f"{request.learning_rate:g}"),
        Cell(str(request.seed)),
        rounded(NATS, after and after.loss, PER_TOKEN, sub=of_base),
        rounded(NATS, run.gain, PER_TOKEN),
        *(_accuracy(run, metric) for metric in accuracies),
        beside(run.trainable_parameters, parameters, "{:,}".format, "parameters"),
        beside(run.adapter_bytes, file_bytes, units.file_size, "bytes"),
        beside(memory, estimate and estimate.memory_bytes, units.memory_size, "bytes", measured_unit=kind),
        beside(done and done.train_seconds, estimate and estimate.seconds, units.duration, "seconds"),
    )


def _accuracy(run: RunRecord, metric: Metric) -> Cell:
    """After training, with the base's under it."""
    after, before = metric.of(run.loss_after), metric.of(run.loss_before)
    sub = "" if before is None else f"base {metric.text(before)}"
    return Cell("–" if after is None else metric.text(after), sub=sub)


def beside(
    measured: float | None,
    estimate: float | Range | None,
    text: Callable[[float], str],
    unit: str,
    measured_unit: str = "",
) -> Cell:
    """A measurement with its estimate, a number or a range, under it. unit: of the exact values on hover."""
    expected: str | Cell = ""
    if isinstance(estimate, Range):
        words = f"est. {text(estimate.low)} – {text(estimate.high)}"
        expected = Cell(words, title=exact_span(estimate, unit))
    elif estimate is not None:
        expected = Cell(f"est. {text(estimate)}", title=exact(estimate, unit))
    return rounded(text, measured, measured_unit or unit, sub=expected)
