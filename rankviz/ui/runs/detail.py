"""Shows one run in full: configuration, measured values beside the estimate, environment, end of the log."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

from rankviz import units
from rankviz.api import Api
from rankviz.core.quantity import Range
from rankviz.core.runs.estimate import RunEstimate
from rankviz.core.runs.metric import LOSS, measured_metrics
from rankviz.core.runs.record import RunRecord, RunState
from rankviz.core.runs.words import base_name, data_name
from rankviz.ui.parts import html
from rankviz.ui.parts.html import NATS, PER_TOKEN, Cell, Row, exact, rounded
from rankviz.ui.parts.live import estimated
from rankviz.ui.parts.place import place_in_sentences


def detail_html(api: Api, run: RunRecord) -> str:
    """The section of one run: measured beside estimated, then configuration and environment, folded."""
    request, estimate = run.request, api.runs.expected_run(run)
    heading = f"r = {request.r}: {base_name(request.base)} on {data_name(request.data)}"
    parts = [
        f'<section class="rv-detail" aria-label="Run {escape(run.run_id)}"><h2>{escape(heading)}</h2>',
        html.paragraphs(_when(run)),
    ]
    if place := place_in_sentences(api, run):
        parts.append(html.paragraphs(place))
    if run.error:
        parts.append(f'<div class="rv-notice rv-error" role="alert"><p>{html.prose(run.error)}</p></div>')
    if run.state is RunState.FAILED and run.log_tail:
        parts.append(html.preformatted(run.log_tail, title="Last lines of the worker's log"))
    parts.append(
        html.table(
            ["Quantity", "Measured", "Estimated", "Measured / estimated"],
            _compared(run, estimate),
            label="Measured and estimated",
        )
    )
    if estimate and estimate.calibrated_by:
        parts.append(html.paragraphs("The memory estimate is calibrated with probes of this base model here."))
    if estimate and estimate.timed_in_words:
        parts.append(html.paragraphs(f"The time is estimated {estimate.timed_in_words}."))
    parts.append(facts_html("Configuration", request_facts([run])))
    parts.append(facts_html("Environment", environment_facts(run.environment)))
    return "".join(parts) + "</section>"


def _when(run: RunRecord) -> Cell:
    requested = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.request.created_at))
    text = f"Requested: {requested}."
    if not (run.ended_at and run.started_at):
        return Cell(text)
    seconds = max(0.0, run.ended_at - run.started_at)
    return Cell(f"{text} Duration: {units.duration(seconds)}.", title=exact(seconds, "seconds"))


def _compared(run: RunRecord, estimate: RunEstimate | None) -> Sequence[Row]:
    done = run.completed
    rows = [
        (
            "Trainable parameters",
            run.trainable_parameters,
            estimate and estimate.adapter_parameters,
            "{:,}".format,
            "parameters",
        ),
        ("Adapter file", run.adapter_bytes, estimate and estimate.adapter_bytes, "{:,} bytes".format, "bytes"),
        (
            f"Peak memory, {done.peak_memory_kind}" if done else "Peak memory",
            done and done.peak_memory_bytes,
            estimate and estimate.memory_bytes,
            units.memory_size,
            "bytes",
        ),
        ("Training time", done and done.train_seconds, estimate and estimate.seconds, units.duration, "seconds"),
        ("Held-out loss of the base", run.loss_before and run.loss_before.loss, None, NATS, PER_TOKEN),
        ("Held-out loss after training", run.loss_after and run.loss_after.loss, None, NATS, PER_TOKEN),
    ]
    rows += [
        (f"{metric.label} {when}", metric.of(measured), None, metric.text, metric.units)
        for metric in measured_metrics([run])
        if metric is not LOSS
        for when, measured in (("of the base", run.loss_before), ("after training", run.loss_after))
    ]
    return [Row(cells=_comparison(*row)) for row in rows]


def _comparison(
    name: str, measured: float | None, estimate: float | Range | None, text: Callable[[float], str], unit: str
) -> Sequence[Cell]:
    middle = estimate.expected if isinstance(estimate, Range) else estimate
    return (
        Cell(name),
        rounded(text, measured, unit),
        estimated(estimate, text, unit),
        rounded("{:.3f}".format, measured / middle if measured and middle else None, ""),
    )


def request_facts(runs: Sequence[RunRecord]) -> Sequence[tuple[str, str]]:
    """The settings of one run, or of all runs of a sweep: what differs from run to run is listed."""
    requests = [run.request for run in runs]
    first = requests[0]
    lora, training = first.lora, first.training
    targets = lora.target_modules

    def each(values: Iterable[float]) -> str:
        return ", ".join(f"{value:g}" for value in dict.fromkeys(values))

    lower = next((request.cut_ranks for request in requests if request.cut_ranks), ())
    return [
        ("Rank", each(request.r for request in requests)),
        *([("Truncated to", each(sorted(lower)))] if lower else []),
        ("Targets", targets if isinstance(targets, str) else ", ".join(targets)),
        ("Alpha", ", ".join((each(request.lora.lora_alpha for request in requests), *lora.variants))),
        ("Learning rate", each(request.learning_rate for request in requests)),
        ("Seed", each(request.seed for request in requests)),
        ("Steps", f"{first.max_steps:,}"),
        ("Batch", f"{training.per_device_train_batch_size}, accumulation {training.gradient_accumulation_steps}"),
        ("Maximum tokens per example", f"{training.max_length:,}"),
        ("Held-out examples", f"{first.held_out_examples:,}"),
        *([("Exact match on", f"{first.exact_match_examples:,} of them")] if first.exact_match_examples else []),
        ("Precision", training.precision),
        ("Optimizer", training.optim),
    ]


def environment_facts(environment: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    """What the worker wrote about the machine, in its order; libraries one line each."""
    facts = []
    for name, value in environment.items():
        if isinstance(value, bool):
            facts.append((name.replace("_", " "), "yes" if value else "no"))
        elif isinstance(value, Mapping):
            facts += [(str(k), str(v)) for k, v in value.items()]
        elif isinstance(value, list | tuple):
            facts.append((name.replace("_", " "), ", ".join(map(str, value))))
        elif value not in (None, ""):
            facts.append((name.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value)))
    return facts


def facts_html(title: str, pairs: Sequence[tuple[str, str]]) -> str:
    """Names and values, folded under the title."""
    if not pairs:
        return ""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs)
    return html.folded(title, f'<div class="rv-facts"><dl>{rows}</dl></div>')
