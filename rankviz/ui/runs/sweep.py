"""Shows one sweep and each of its runs: quality by rank, what follows from it, and the details."""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.core.quantity import Range
from rankviz.core.runs.estimate import RunEstimate
from rankviz.core.runs.metric import LOSS, METRICS, Metric, measured_metrics
from rankviz.core.runs.record import RunRecord, RunState, Sweep
from rankviz.core.runs.words import base_name, data_name
from rankviz.errors import InvalidSettingError, UserError
from rankviz.ui.parts import again, charts, html, live
from rankviz.ui.parts.again import add_button, add_run
from rankviz.ui.parts.curve import Curve, curve, verdict_chart
from rankviz.ui.parts.html import NATS, PER_TOKEN, Cell, Row, exact, rounded
from rankviz.ui.parts.live import estimated
from rankviz.ui.parts.where import cancel as cancel_runs
from rankviz.ui.parts.where import may_change, place_html, place_in_sentences, share_box, words_on_owner
from rankviz.ui.runs.publish import box_of
from rankviz.ui.wiring import notice_html
from rankviz.units import counted
from rankviz.verdict import Shipped


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


HEIGHT = 340
SURE = "Delete this sweep, with its runs, losses and adapters? This cannot be undone."

NOT_ASKING = ("", gr.Row(visible=False), "")
"""What the question before another's is cancelled shows otherwise."""


class SweepView(NamedTuple):
    """Everything that the tab shows of one sweep, by the names of its widgets, and whether it lacks its verdict as the
    server is busy."""

    sweep_box: Any
    metric: Any
    """What the sweep can be judged by; hidden where that is the loss alone."""
    tolerance: Any
    status: str
    resume: Any
    cancel: Any
    add: Any
    ship: Any
    export: Any
    share: Any
    delete: Any
    sure: Any
    """This question and the next stay as they are: they go when they are answered, and with their buttons."""
    again_box: Any
    publish: Any
    owner: str
    by_rank: str
    summary: str
    above_best: str
    tradeoff: str
    loss: str
    words: str
    results: str
    facts: str
    is_busy: bool


def default_tolerance(metric: str) -> str:
    """Of a metric by its key, as it stands in the box."""
    return f"{METRICS[metric].tolerance:g}"


USUAL = json.dumps({key: default_tolerance(key) for key in METRICS})


def tolerance_label(metric: Metric) -> str:
    return f"Tolerance: counts as equal within ({metric.units}, or 2% of the gain over the base)"


def sweep_view(
    api: Api, sweep: Sweep, *, tolerance: str, metric: str = LOSS.key, standing: str | None = None
) -> SweepView:
    """The sweep as far as it has got, judged by a metric (its key) within a tolerance (as written in the box).

    standing: standing_html of it, where it is known.
    """
    offered, by = measured_metrics(sweep.runs), METRICS[metric]
    known = by in offered or not any(run.loss_after for run in sweep.runs)
    unknown = ""
    if not known:
        unknown = notice_html(f"{by.label} was not measured in this sweep. {LOSS.label} is shown.")
        by, tolerance = LOSS, default_tolerance(LOSS.key)
    shown, problem = curve_within(api, sweep, tolerance, by)
    mine = may_change(api, sweep)
    readable = mine or sweep.recorded
    compares = shown.verdict is not None and len(shown.verdict.ranks) > 1
    is_unwanted = api.runs.are_unwanted(sweep.runs)
    can_resume, can_delete = bool(sweep.resumable) and mine and not is_unwanted, mine and sweep.ended
    points_there = any(run.loss_after for run in sweep.runs)
    return SweepView(
        sweep_box=gr.Column(visible=True),
        metric=gr.Dropdown(
            choices=[(m.label, m.key) for m in METRICS.values() if m in offered or m is by],
            visible=len(offered) > 1,
            **({} if known else {"value": by.key}),  # an answer that comes late must not undo a later choice
        ),
        tolerance=gr.Textbox(label=tolerance_label(by), **({} if known else {"value": tolerance})),
        status=standing_html(api, sweep) if standing is None else standing,
        resume=gr.Button(again.label(api, sweep), visible=can_resume),
        cancel=gr.Button(visible=mine and not sweep.ended and not is_unwanted),
        add=add_button(api, sweep, shown.decision),
        ship=gr.Button(ship_label(shown.ship) if shown.ship else "", visible=readable and shown.ship is not None),
        export=gr.Button(visible=readable and any(run.state.ended for run in sweep.runs)),
        share=share_box(api, sweep, mine),
        delete=gr.Button(visible=can_delete),
        sure=gr.skip() if can_delete else gr.Row(visible=False),
        again_box=gr.skip() if can_resume else gr.Column(visible=False),
        publish=box_of(api, sweep),
        owner=words_on_owner(api, sweep, mine),
        by_rank=shown.chart if points_there else "",
        summary=unknown + problem + shown.summary,
        above_best=verdict_chart(shown.verdict, height=HEIGHT) if compares else "",
        tradeoff=_tradeoff(sweep, shown, by) if compares else "",
        loss=live.loss_chart([sweep]) if any(run.steps for run in sweep.runs) else "",
        words=shown.details + shown.truncated,
        results=live.results_table(api, sweep),
        facts=facts_of(sweep),
        is_busy=shown.is_busy,
    )


def _tradeoff(sweep: Sweep, shown: Curve, by: Metric) -> str:
    verdicts = {sweep.sweep_id: shown.verdict}
    within = {"tolerance": shown.within, "verdicts": verdicts}
    return charts.tradeoff_chart([sweep], x="adapter", y=by.key, **within, height=HEIGHT).chart


def standing_html(api: Api, sweep: Sweep) -> str:
    """Its state, why it waits, and what it has cost so far: all that changes while nothing happens."""
    progress = None if sweep.ended else api.runs.progress(sweep)
    return live.status_html(sweep, progress, api.runs.why_sweep_waits(sweep)) + place_html(api, sweep)


def facts_of(sweep: Sweep) -> str:
    """The configuration, as far as it is the same for all runs, and the environment of the first; both folded."""
    environment = next((run.environment for run in sweep.runs if run.environment), {})
    return facts_html("Configuration", request_facts(sweep.runs)) + facts_html(
        "Environment", environment_facts(environment)
    )


def curve_within(api: Api, sweep: Sweep, tolerance: str, metric: Metric = LOSS) -> tuple[Curve, str]:
    """The curve, and a notice as HTML if the tolerance is not one: then the default tolerance is used."""
    try:
        return curve(api, sweep, tolerance, height=HEIGHT, metric=metric), ""
    except InvalidSettingError as error:
        usual = default_tolerance(metric.key)
        problem = notice_html(f"{error} Shown with {metric.amount(metric.tolerance, 'g')}.", kind="error")
        return curve(api, sweep, usual, height=HEIGHT, metric=metric), problem


def ship_label(ship: Shipped) -> str:
    """Of the button that downloads what the answer on shipping names."""
    if ship.r == ship.trained_r:
        return f"Download the adapter of r = {ship.r} (zip)"
    return f"Download the adapter truncated to r = {ship.r} (zip)"


def shipped_adapter(
    api: Api, sweep_id: str, tolerance: str = default_tolerance(LOSS.key), metric: str = LOSS.key
) -> str:
    """The adapter that the answer on shipping names, as a zip that PEFT's loader takes once unpacked."""
    shown, _ = curve_within(api, api.runs.sweep(sweep_id), tolerance, METRICS[metric])
    if shown.ship is None:
        none = "This sweep has no adapter to download here: none was saved, or it was imported without it."
        raise UserError(shown.why_not or none)
    return str(api.adapters.zip_of_rank(shown.ship.run_id, shown.ship.r))


def cancel_or_ask(api: Api, run_or_sweep_id: str) -> tuple[str, Any, str]:
    """Cancel one's own; of another's, ask first: what is asked about, the row that asks, and its words."""
    if not (owner := api.runs.owner_of(run_or_sweep_id)):
        return cancel(api, run_or_sweep_id)
    return run_or_sweep_id, gr.Row(visible=True), html.paragraphs(f"{run_or_sweep_id} belongs to {owner}. Cancel it?")


def cancel(api: Api, run_or_sweep_id: str) -> tuple[str, Any, str]:
    cancel_runs(api, run_or_sweep_id)
    return NOT_ASKING


def add(api: Api, sweep_id: str) -> None:
    add_run(api, sweep_id)


def share(api: Api, sweep_id: str, is_open: bool) -> None:
    api.runs.open_to_all(sweep_id, is_open)


def delete(api: Api, sweep_id: str) -> tuple[str, str, str]:
    """Nothing is chosen afterwards."""
    gr.Info(f"{counted(len(api.runs.delete(sweep_id)), 'run')} deleted.")
    return "", "", ""


def delete_uploads(api: Api) -> Any:
    """The button that offers it, hidden."""
    gr.Info(f"{counted(api.uploads.delete().files, 'upload')} deleted.")
    return gr.Button(visible=False)


def delete_unreadable(api: Api, run_id: str | None) -> None:
    """Delete a folder in the place of a run that cannot be read."""
    if not run_id:
        raise UserError("Choose the run to delete.")
    api.runs.delete(run_id)
