"""The Sweep tab shows one sweep at its own address: figures, verdict, runs, configuration, environment, downloads.

As Train, it reads the store and owns nothing; what is shown here survives reloads and restarts.
"""

from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NamedTuple

import gradio as gr

from rankviz.api import Api
from rankviz.core.runs.metric import LOSS, METRICS, Metric, measured_metrics
from rankviz.core.runs.record import Sweep
from rankviz.errors import InvalidSettingError, RankVizError, UserError
from rankviz.figures.labels import sweep_label
from rankviz.ui.parts import html, live, points, tables
from rankviz.ui.parts.added_run import add_button, add_run
from rankviz.ui.parts.charts import chart
from rankviz.ui.parts.controls import pickable, plain
from rankviz.ui.parts.curve import Curve, curve
from rankviz.ui.parts.verdict import verdict_chart
from rankviz.ui.runs.detail import environment_facts, facts_html, request_facts
from rankviz.ui.wiring import action, notice_html, on_any, quiet, unchanged, wire
from rankviz.units import counted

POLL_SECONDS = 2.0
HEIGHT = 340
METRIC_CHOICES = [(metric.label, metric.key) for metric in METRICS.values()]
NOT_CHOSEN = "Choose a sweep in the list above."
EMPTY = "No sweep yet. Train one, or import a zip of runs on the Runs tab."


class Sweeping(NamedTuple):
    """What the rest of the page needs of this tab."""

    sweep_id: gr.Dropdown
    metric: gr.Dropdown
    judged: Any
    """The event after which metric and tolerance belong together."""
    tolerance: gr.Textbox
    choices: dict[str, Any]
    """The event that fills the list of sweeps and keeps the choice."""
    draw: dict[str, Any]
    seen: gr.State
    timer: gr.Timer
    curve: gr.HTML
    results: gr.HTML


class SweepView(NamedTuple):
    """Everything that the tab shows of one sweep."""

    metric: Any
    """What the sweep can be judged by."""
    tolerance: Any
    status: str
    resume: Any
    cancel: Any
    add: Any
    ship: Any
    export: Any
    words: str
    by_rank: str
    above_best: str
    tradeoff: str
    truncated: str
    results: str
    facts: str
    seen: Any
    """What was drawn, so that the next look can see whether anything changed."""
    timer: Any


def build(api: Api) -> Sweeping:
    with gr.Row(elem_classes="rv-bar"):
        sweep_id = gr.Dropdown(
            sweep_choices(api), value=None, label="Sweep", interactive=True, scale=4, elem_id="sweep-choice"
        )
        metric = gr.Dropdown(
            METRIC_CHOICES, value=LOSS.key, label="Quality", interactive=True, min_width=150, elem_id="sweep-metric"
        )
        tolerance = gr.Textbox(
            default_tolerance(LOSS.key),
            label=_tolerance_label(LOSS),
            max_lines=1,
            max_length=20,
            scale=2,
            min_width=220,
            elem_id="sweep-tolerance",
        )
    w: dict[str, Any] = {"metric": metric, "tolerance": tolerance, "status": plain(elem_id="sweep-status")}
    with gr.Row(elem_classes="rv-bar"):
        w["resume"] = gr.Button("Run failed and cancelled runs again", visible=False, size="sm", elem_id="sweep-resume")
        w["cancel"] = gr.Button("Cancel this sweep", visible=False, size="sm", elem_id="sweep-cancel")
        w["add"] = gr.Button("", visible=False, size="sm", elem_id="sweep-add")
        w["ship"] = gr.Button("Download the truncated adapter", visible=False, size="sm", elem_id="sweep-ship")
        w["export"] = gr.Button("Download this sweep (zip)", size="sm", elem_id="sweep-export")
    shipped = gr.DownloadButton("adapter", visible="hidden", elem_id="sweep-adapter-file")
    zipped = gr.DownloadButton("zip", visible="hidden", elem_id="sweep-zip")
    w["words"] = plain(elem_id="sweep-words")
    with gr.Row(elem_classes="rv-charts"):
        w["by_rank"] = chart("Quality by rank", height=HEIGHT, elem_id="sweep-curve")
        w["above_best"] = chart("Difference from the best rank", height=HEIGHT, elem_id="sweep-verdict", optional=True)
    w["tradeoff"] = chart("Quality against adapter size", height=HEIGHT, elem_id="sweep-tradeoff", optional=True)
    w["truncated"] = plain(elem_id="sweep-truncated")
    results_file = tables.download_widgets("runs of this sweep", elem_id="sweep-results-download")
    w["results"] = pickable(elem_id="sweep-results")
    w["facts"] = plain(elem_id="sweep-facts")
    w["timer"], w["seen"] = gr.Timer(POLL_SECONDS, active=False), gr.State(None)

    drawing = wire(
        partial(sweep_view, api),
        inputs={"sweep_id": sweep_id, "metric": metric, "tolerance": tolerance, "seen": w["seen"]},
        outputs={name: w[name] for name in SweepView._fields},
    )
    w["timer"].tick(**drawing)
    on_any(sweep_id.input, tolerance.input).then(**drawing)
    judged = metric.input(_tolerance_of, metric, tolerance, **quiet())
    judged.then(**drawing)
    w["resume"].click(inputs=sweep_id, **action(partial(_resume, api))).then(**drawing)
    w["cancel"].click(inputs=sweep_id, **action(partial(_cancel, api))).then(**drawing)
    w["add"].click(inputs=sweep_id, **action(partial(_add, api))).then(**drawing)
    for button, file, make, inputs in (
        (w["ship"], shipped, truncated_adapter, [sweep_id, tolerance, metric]),
        (w["export"], zipped, zip_of, [sweep_id]),
    ):
        button.click(inputs=inputs, outputs=file, **action(partial(make, api))).success(
            None, js=f"() => {{ setTimeout(() => document.querySelector('#{file.elem_id}').click(), 60); }}"
        )
    tables.offer(results_file, partial(tables.sweep_runs, api), {"sweep_id": sweep_id})

    def choices(chosen: str | None) -> Any:
        known = sweep_choices(api)
        ids = [value for _, value in known]
        return gr.Dropdown(known, value=chosen if chosen in ids else (ids[0] if ids else None))

    filling = {"fn": choices, "inputs": sweep_id, "outputs": sweep_id, **quiet()}
    return Sweeping(
        sweep_id, metric, judged, tolerance, filling, drawing, w["seen"], w["timer"], w["by_rank"], w["results"]
    )


def default_tolerance(metric: str) -> str:
    """Of a metric by its key, as it stands in the box."""
    return f"{METRICS[metric].tolerance:g}"


def _tolerance_label(metric: Metric) -> str:
    return f"Tolerance: counts as equal within ({metric.units}, or 2% of the gain over the base)"


def _tolerance_of(metric: str) -> Any:
    """The usual one of a metric that was just chosen: nats say nothing of points."""
    return gr.Textbox(default_tolerance(metric), label=_tolerance_label(METRICS[metric]))


def sweep_view(api: Api, *, sweep_id: str | None, tolerance: str, seen: Any, metric: str = LOSS.key) -> SweepView:
    """What changed since it was last looked at."""
    if not sweep_id:
        return _blank(html.paragraphs(NOT_CHOSEN if sweep_choices(api) else EMPTY, css="rv-empty"))
    try:
        sweep = api.runs.sweep(sweep_id)
    except RankVizError as error:
        return _blank(notice_html(str(error), kind="error"))
    now = (live.fingerprint(sweep), tolerance, metric)
    if now == seen:
        return unchanged(SweepView, timer=gr.Timer(active=not sweep.ended))
    offered, by = measured_metrics(sweep.runs), METRICS[metric]
    known = by in offered or not any(run.loss_after for run in sweep.runs)
    unknown = ""
    if not known:
        unknown = notice_html(f"{by.label} was not measured in this sweep. {LOSS.label} is shown.")
        by, tolerance = LOSS, default_tolerance(LOSS.key)
    shown, problem = curve_within(api, sweep, tolerance, by)
    again = len(sweep.resumable)
    compares = len({run.request.r for run in sweep.runs}) > 1
    shippable = shown.reading.shippable if shown.reading else None
    own = not sweep.recorded
    return SweepView(
        metric=gr.Dropdown(
            choices=[(m.label, m.key) for m in METRICS.values() if m in offered or m is by], value=by.key
        ),
        tolerance=gr.Textbox(label=_tolerance_label(by), **({} if known else {"value": tolerance})),
        status=live.status_html(sweep),
        resume=gr.Button(f"Run {counted(again, 'failed or cancelled run')} again", visible=bool(again) and own),
        cancel=gr.Button(visible=not sweep.ended),
        add=add_button(api, sweep, shown.decision),
        ship=gr.Button(
            f"Download the adapter truncated to r = {shippable.r} (zip)" if shippable else "",
            visible=shippable is not None and own,
        ),
        export=gr.Button(visible=any(run.state.ended for run in sweep.runs)),
        words=unknown + problem + shown.words,
        by_rank=shown.chart,
        above_best=verdict_chart(shown.verdict, height=HEIGHT) if compares else "",
        tradeoff=points.tradeoff_chart([sweep], x="adapter", y=by.key, tolerance=shown.within, height=HEIGHT).chart
        if compares
        else "",
        truncated=shown.truncated,
        results=live.results_table(api, sweep),
        facts=facts_of(sweep),
        seen=now,
        timer=gr.Timer(active=not sweep.ended),
    )


def _blank(message: str) -> SweepView:
    hidden = dict.fromkeys(("resume", "cancel", "add", "ship", "export"), gr.Button(visible=False))
    empty = dict.fromkeys(SweepView._fields, "") | {
        "metric": gr.skip(),
        "tolerance": gr.skip(),
        "seen": None,
        "timer": gr.Timer(active=False),
    }
    return SweepView(**{**empty, **hidden, "status": message})


def sweep_choices(api: Api) -> list[tuple[str, str]]:
    """One's own, newest first, then the recorded ones."""
    return [(sweep_label(sweep), sweep.sweep_id) for sweep in (*api.runs.sweeps(), *api.runs.recorded())]


def facts_of(sweep: Sweep) -> str:
    """The configuration, as far as it is the same for all runs, and the environment of the first."""
    environment = next((run.environment for run in sweep.runs if run.environment), {})
    return (
        '<div class="rv-columns">'
        + facts_html("Configuration", request_facts(sweep.runs))
        + facts_html("Environment", environment_facts(environment))
        + "</div>"
    )


def curve_within(api: Api, sweep: Sweep, tolerance: str, metric: Metric = LOSS) -> tuple[Curve, str]:
    """The curve, and a notice as HTML if the tolerance is not one: then the default tolerance is used."""
    try:
        return curve(api, sweep, tolerance, height=HEIGHT, metric=metric), ""
    except InvalidSettingError as error:
        usual = default_tolerance(metric.key)
        problem = notice_html(f"{error} Shown with {metric.amount(metric.tolerance, 'g')}.", kind="error")
        return curve(api, sweep, usual, height=HEIGHT, metric=metric), problem


def truncated_adapter(
    api: Api, sweep_id: str | None, tolerance: str = default_tolerance(LOSS.key), metric: str = LOSS.key
) -> str:
    """The adapter of a fast curve at that rank, as a zip that PEFT's loader takes once unpacked."""
    sweep = api.runs.sweep(sweep_id or "")
    # As on the page: a tolerance in points says nothing of the loss by which a fast curve is read.
    reading = curve_within(api, sweep, tolerance if metric == LOSS.key else default_tolerance(LOSS.key))[0].reading
    if reading is None or reading.shippable is None:
        raise UserError("This sweep has no truncated adapter to download: no lower rank is within the tolerance.")
    return str(api.adapters.zip_truncated(reading.curve.run_id, reading.shippable.r))


def zip_of(api: Api, sweep_id: str | None) -> str:
    """The journals and a CSV, as another RankViz imports them."""
    return str(api.runs.export([sweep_id or ""], Path(mkdtemp(prefix="rankviz-")) / f"sweep-{sweep_id}.zip"))


def _resume(api: Api, sweep_id: str | None) -> None:
    api.runs.resume(sweep_id or "")


def _cancel(api: Api, sweep_id: str | None) -> None:
    api.runs.cancel(sweep_id or "")


def _add(api: Api, sweep_id: str | None) -> None:
    add_run(api, sweep_id or "")
