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


def fingerprint(sweep: Sweep) -> int:
    """Of what is shown of a sweep; while it stays the same there is nothing to draw. A number, since each open page
    keeps some."""
    runs = [
        (
            *(str(run.state), run.attempt, run.place and (run.place.engine, run.place.where, run.place.waits)),
            *(run.stage, len(run.steps), len(run.cuts), run.ended_at),
        )
        for run in sweep.runs
    ]
    return hash((sweep.sweep_id, *runs))


def status_html(sweep: Sweep, progress: SweepProgress | None = None, waiting: str = "") -> str:
    """The sweep's state in one line; while it runs how far it is, its time left and the numbers of the current run.

    progress: as api.runs.progress has it, from earlier runs too; None takes it from this sweep alone.
    waiting: why it waits, as api.runs.why_sweep_waits has it.
    """
    parts = [
        f'<div class="rv-status"><h2>{escape(sweep_title(sweep))}</h2>',
        f'<p role="status">{html.prose(" ".join(filter(None, [_where(sweep), waiting])))}</p>',
    ]
    if not sweep.ended:
        parts.append(_how_far(sweep, progress or progress_of(sweep, time.time())))
    failed = next((run for run in sweep.runs if run.state is RunState.FAILED and run.error), None)
    if failed:
        parts.append(f'<div class="rv-notice rv-error" role="alert"><p>{html.prose(failed.error)}</p></div>')
    return "".join(parts) + "</div>"


def one_line(sweep: Sweep) -> str:
    """Title and state in one line, as HTML."""
    return f"Newest sweep: <b>{escape(sweep_title(sweep))}</b>. {escape(_where(sweep))}"


def again_label(count: int) -> str:
    """Of the button that queues what did not complete."""
    return f"Train {units.counted(count, 'failed or cancelled run')} again"


def _how_far(sweep: Sweep, progress: SweepProgress) -> str:
    """A bar, the time left, and what is known of the current run. The bar is the stage's while no more is known. With a
    trouble nobody knows how far it is."""
    running, whole = sweep.running, progress.share
    last = running.steps[-1] if running and running.steps else None
    pace = running.tokens_per_second if running else None
    words, left = progress.left_in_words, progress.seconds_left
    shares = (whole, progress.stage_share, sweep.share_done or None if running else sweep.share_done)
    share = None if progress.trouble else next((known for known in shares if known is not None), None)
    of_stage = whole is None and progress.stage_share is not None
    known = [
        ("Time left", "" if progress.trouble else Cell(words, title="" if left is None else exact(left, "seconds"))),
        ("This stage", _stage_so_far(progress) if running else ""),
        ("Step", f"{last.step} of {running.request.max_steps}" if last and running.stage != TRAINING else ""),
        ("Training loss", rounded(NATS, last.loss, PER_TOKEN) if last else ""),
        ("Tokens per second", f"{pace:,.0f}" if pace else ""),
        ("Memory in use", rounded(units.memory_size, last.memory_bytes, "bytes") if last else ""),
    ]
    bar = html.progress(share, label="Share of this stage" if of_stage else "Share of the whole sweep")
    return bar + html.stats([(name, value) for name, value in known if value])


def _stage_so_far(progress: SweepProgress) -> str:
    """ "16 of 64 examples, 3 s": what the stage has done, and its time so far."""
    counted, seconds = progress.stage.partition(", ")[2], progress.stage_seconds
    so_far = units.duration(round(seconds)) if seconds is not None and seconds >= 1 else ""
    return ", ".join(part for part in (counted, so_far) if part)


def _where(sweep: Sweep) -> str:
    runs, running = sweep.runs, sweep.running
    if sweep.ended:
        counts = {state: sum(run.state is state for run in runs) for state in RunState}
        of_each = [(n, state.value) for state, n in counts.items() if n]
        (first, state), *others = of_each
        ended = ", ".join([f"{units.counted(first, 'run')} {state}", *(f"{n} {state}" for n, state in others)])
        if any(run.cancelled_by_admin for run in runs):
            ended += " (cancelled by the admin)"
        recorded = "Recorded by RankViz and shipped with it: " if sweep.recorded else ""
        return f"{recorded}{ended}{_took(sweep)}."
    if running is None:
        return "Queued."
    number = runs.index(running) + 1
    doing = running.stage if running.steps_done in (0, running.request.max_steps) else "training"
    return f"Run {number} of {len(runs)}, {run_label(running, sweep)}: {doing or 'starting'}."


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
    labels = run_labels(sweep)
    lines = []
    for run in sweep.runs:
        before = ""
        for event in api.runs.events(run.run_id) if run.state is not RunState.QUEUED else ():
            if (words := in_words(event)) and words != before:  # a place is written anew with its job
                lines.append((event.time, labels[run.run_id], words))
                before = words
    lines.sort(key=lambda line: line[0], reverse=True)
    at_time = time.strftime
    items = "".join(
        f"<li><time>{at_time('%H:%M:%S', time.localtime(at))}</time> <b>{escape(label)}</b> {html.prose(words)}</li>"
        for at, label, words in lines[:EVENTS_SHOWN]
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
            return (
                f"held-out loss of the {'base' if when == 'before' else 'adapter'}: {loss:.4f} on "
                f"{units.counted(examples, 'example')}{accuracies_in_words(event)}"
            )
        case events.AdapterCut(r=r, recovery_steps=steps, loss=loss):
            more = f" and trained for {units.counted(steps, 'more step')}" if steps else ""
            return f"truncated to r = {r}{more}: held-out loss {loss:.4f}{accuracies_in_words(event)}"
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
            place = f"given to {Place(engine, where).in_words}"
            return f"{place}. {waits}" if waits else place
    return ""


def accuracies_in_words(measured: events.HeldOut) -> str:
    """Those that were measured."""
    known = [(m.noun, value) for m in METRICS.values() if m is not LOSS and (value := m.of(measured)) is not None]
    return "".join(f", {noun} {value:.1f} %" for noun, value in known)


QUALITY_HEADERS = ("Rank", "State", "Learning rate", "Seed", "Held-out loss", "Gain")
COST_HEADERS = ("Parameters", "Adapter file", "Peak memory", "Training time")


def results_table(api: Api, sweep: Sweep, *, chosen: str = "") -> str:
    """A row per run: what was measured, and under it the estimate."""
    accuracies = [metric for metric in measured_metrics(sweep.runs) if metric is not LOSS]
    return "<h2>Measured (estimate below)</h2>" + html.table(
        (*QUALITY_HEADERS, *(metric.label for metric in accuracies), *COST_HEADERS),
        [
            Row(cells=_measured_cells(run, estimate, accuracies), pick=run.run_id, chosen=run.run_id == chosen)
            for run, estimate in zip(sweep.runs, api.runs.expected_runs(sweep.runs), strict=True)
        ],
        label="Runs of this sweep, measured and estimated",
        left=2,
    )


def accuracy_cell(run: RunRecord, metric: Metric) -> Cell:
    """After training, with the base's under it."""
    after, before = metric.of(run.loss_after), metric.of(run.loss_before)
    return Cell(
        "–" if after is None else metric.text(after), sub="" if before is None else f"base {metric.text(before)}"
    )


def _measured_cells(run: RunRecord, estimate: RunEstimate | None, accuracies: Sequence[Metric]) -> Sequence[Cell]:
    done = run.completed
    return (
        Cell(f"r = {run.request.r}"),
        Cell(run.state.value, kind="left"),
        Cell(f"{run.request.learning_rate:g}"),
        Cell(str(run.request.seed)),
        rounded(
            NATS,
            run.loss_after and run.loss_after.loss,
            PER_TOKEN,
            sub=rounded("base {:.4f}".format, run.loss_before.loss, PER_TOKEN) if run.loss_before else "",
        ),
        rounded(NATS, run.gain, PER_TOKEN),
        *(accuracy_cell(run, metric) for metric in accuracies),
        beside(run.trainable_parameters, estimate and estimate.adapter_parameters, "{:,}".format, "parameters"),
        beside(run.adapter_bytes, estimate and estimate.adapter_bytes, units.file_size, "bytes"),
        beside(
            done and done.peak_memory_bytes,
            estimate and estimate.memory_bytes,
            units.memory_size,
            "bytes",
            kind=done.peak_memory_kind if done else "",
        ),
        beside(done and done.train_seconds, estimate and estimate.seconds, units.duration, "seconds"),
    )


def beside(
    measured: float | None,
    estimate: float | Range | None,
    text: Callable[[float], str],
    unit: str,
    *,
    kind: str = "",
) -> Cell:
    """A measurement with its estimate under it. unit: of the exact values on hover. kind: what was measured."""
    expected = estimated(estimate, text, unit)
    sub = expected._replace(text=f"est. {expected.text}") if estimate is not None else ""
    return rounded(text, measured, f"{unit}, {kind}" if kind else unit, sub=sub)


def estimated(estimate: float | Range | None, text: Callable[[float], str], unit: str) -> Cell:
    """A number, or a range as low – high, with the exact values on hover; a dash where there is none."""
    if not isinstance(estimate, Range):
        return rounded(text, estimate, unit)
    return Cell(f"{text(estimate.low)} – {text(estimate.high)}", title=exact_span(estimate, unit))
