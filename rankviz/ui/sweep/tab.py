"""Sweep: one sweep on a page with an address of its own. Curve, verdict, runs, configuration, environment, downloads.

As Train, it reads the store and owns nothing; what is shown here survives reloads and restarts.
"""

from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NamedTuple

import gradio as gr

from rankviz.api import Api
from rankviz.core.runs.fast_curve import fast_curves, shippable
from rankviz.core.runs.record import RunState, Sweep
from rankviz.core.runs.tradeoff import TOLERANCE_NATS
from rankviz.errors import InvalidSettingError, RankVizError, UserError
from rankviz.ui.parts import html, live, points, tables
from rankviz.ui.parts.charts import chart
from rankviz.ui.parts.controls import pickable, plain
from rankviz.ui.parts.curve import Curve, curve
from rankviz.ui.parts.verdict import verdict_chart
from rankviz.ui.runs.detail import asked_facts, environment_facts, facts_html
from rankviz.ui.wiring import action, notice_html, on_any, quiet

POLL_SECONDS = 2.0
HEIGHT = 340
TOLERANCE = f"{TOLERANCE_NATS:g}"
EMPTY = "No sweep yet: train one, or import a zip of runs on the Runs tab."


class Sweeping(NamedTuple):
    """What the rest of the page needs of this tab."""

    sweep_id: gr.Dropdown
    tolerance: gr.Textbox
    choices: dict[str, Any]
    """The event that fills the list of sweeps and keeps the choice."""
    draw: dict[str, Any]
    seen: gr.State
    timer: gr.Timer
    curve: gr.HTML
    results: gr.HTML


def build(api: Api) -> Sweeping:
    with gr.Row(elem_classes="rv-bar"):
        sweep_id = gr.Dropdown(
            sweep_choices(api), value=None, label="Sweep", interactive=True, scale=4, elem_id="sweep-choice"
        )
        tolerance = gr.Textbox(
            TOLERANCE,
            label="Counts as equal within (nats, or 2% of the gain over the base)",
            max_lines=1,
            max_length=20,
            scale=2,
            min_width=220,
            elem_id="sweep-tolerance",
        )
    status = plain(elem_id="sweep-status")
    with gr.Row(elem_classes="rv-bar"):
        resume = gr.Button("Run again what failed or was cancelled", visible=False, size="sm", elem_id="sweep-resume")
        cancel = gr.Button("Cancel this sweep", visible=False, size="sm", elem_id="sweep-cancel")
        ship = gr.Button("Take the cut adapter", visible=False, size="sm", elem_id="sweep-ship")
        export = gr.Button("Download this sweep (zip)", size="sm", elem_id="sweep-export")
    shipped = gr.DownloadButton("adapter", visible="hidden", elem_id="sweep-adapter-file")
    zipped = gr.DownloadButton("zip", visible="hidden", elem_id="sweep-zip")
    words = plain(elem_id="sweep-words")
    with gr.Row(elem_classes="rv-charts"):
        by_rank = chart("Held-out loss by rank", height=HEIGHT, elem_id="sweep-curve")
        above = chart("How far above the best", height=HEIGHT, elem_id="sweep-verdict", optional=True)
    tradeoff = chart("Quality against adapter size", height=HEIGHT, elem_id="sweep-tradeoff", optional=True)
    cuts = plain(elem_id="sweep-cuts")
    results_file = tables.download_widgets("runs of this sweep", elem_id="sweep-results-download")
    results = pickable(elem_id="sweep-results")
    facts = plain(elem_id="sweep-facts")
    timer, seen = gr.Timer(POLL_SECONDS, active=False), gr.State(None)
    outputs = [
        status, resume, cancel, ship, export, words, by_rank, above, tradeoff, cuts, results, facts, seen, timer,
    ]  # fmt: skip

    def draw(sweep_id: str | None, tolerance: str, seen: Any) -> list[Any]:
        """What changed since it was last looked at; nothing to draw is nothing sent."""
        if not sweep_id:
            return _blank(html.paragraphs(EMPTY, css="rv-empty"))
        try:
            sweep = api.runs.sweep(sweep_id)
        except RankVizError as error:
            return _blank(notice_html(str(error), kind="error"))
        now = (live.fingerprint(sweep), tolerance)
        if now == seen:
            return [gr.skip()] * (len(outputs) - 1) + [gr.Timer(active=not sweep.ended)]
        drawn, wrong = curve_within(api, sweep, tolerance)
        again = sum(run.state in (RunState.FAILED, RunState.CANCELLED) for run in sweep.runs)
        compares = len({run.request.r for run in sweep.runs}) > 1
        rank = ship_rank(sweep, drawn.tolerance_nats)
        return [
            live.status_html(sweep),
            gr.Button(
                f"Run again the {again} that failed or {'was' if again == 1 else 'were'} cancelled",
                visible=bool(again) and not sweep.recorded,
            ),
            gr.Button(visible=not sweep.ended),
            gr.Button(f"Take the adapter cut to r = {rank} (zip)", visible=rank is not None and not sweep.recorded),
            gr.Button(visible=not sweep.recorded and any(run.state.ended for run in sweep.runs)),
            wrong + drawn.words,
            drawn.chart,
            verdict_chart(drawn.verdict, height=HEIGHT) if compares else "",
            points.tradeoff_chart([sweep], x="adapter", y="loss", height=HEIGHT).chart if compares else "",
            drawn.cuts,
            live.results_table(api, sweep),
            facts_of(sweep),
            now,
            gr.Timer(active=not sweep.ended),
        ]

    drawing = {"fn": draw, "inputs": [sweep_id, tolerance, seen], "outputs": outputs, **quiet()}
    timer.tick(**drawing)
    on_any(sweep_id.input, tolerance.input).then(**drawing)
    resume.click(inputs=sweep_id, **action(partial(_resume, api))).then(**drawing)
    cancel.click(inputs=sweep_id, **action(partial(_cancel, api))).then(**drawing)
    for button, file, made, asked in (
        (ship, shipped, cut_adapter, [sweep_id, tolerance]),
        (export, zipped, zip_of, [sweep_id]),
    ):
        button.click(inputs=asked, outputs=file, **action(partial(made, api))).success(
            None, js=f"() => {{ setTimeout(() => document.querySelector('#{file.elem_id}').click(), 60); }}"
        )
    tables.offer(results_file, partial(tables.sweep_runs, api), {"sweep_id": sweep_id})

    def choices(chosen: str | None) -> Any:
        known = sweep_choices(api)
        ids = [value for _, value in known]
        return gr.Dropdown(known, value=chosen if chosen in ids else (ids[0] if ids else None))

    filling = {"fn": choices, "inputs": sweep_id, "outputs": sweep_id, **quiet()}
    return Sweeping(sweep_id, tolerance, filling, drawing, seen, timer, by_rank, results)


def sweep_choices(api: Api) -> list[tuple[str, str]]:
    """One's own, newest first, then the recorded ones."""
    return [(points.sweep_label(sweep), sweep.sweep_id) for sweep in (*api.runs.sweeps(), *api.runs.recorded())]


def facts_of(sweep: Sweep) -> str:
    """What was asked, as far as it is the same for all runs, and where the first of them ran."""
    environment = next((run.environment for run in sweep.runs if run.environment), {})
    return (
        '<div class="rv-columns">'
        + facts_html("Configuration", asked_facts(sweep.runs))
        + facts_html("Where it ran", environment_facts(environment))
        + "</div>"
    )


def curve_within(api: Api, sweep: Sweep, tolerance: str) -> tuple[Curve, str]:
    """The curve, and what is wrong with the tolerance as HTML: then it is drawn with the usual one."""
    try:
        return curve(api, sweep, tolerance, height=HEIGHT), ""
    except InvalidSettingError as error:
        said = notice_html(f"{error} Shown with {TOLERANCE} nats.", kind="error")
        return curve(api, sweep, TOLERANCE, height=HEIGHT), said


def ship_rank(sweep: Sweep, tolerance_nats: float = TOLERANCE_NATS) -> int | None:
    """The rank at which the best fast curve's adapter is offered."""
    found = next(iter(fast_curves(sweep.runs)), None)
    point = shippable(found, tolerance_nats) if found else None
    return point.r if point else None


def cut_adapter(api: Api, sweep_id: str | None, tolerance: str = TOLERANCE) -> str:
    """The adapter of a fast curve at that rank, as a zip that PEFT's loader takes once unpacked."""
    sweep = api.runs.sweep(sweep_id or "")
    if (rank := ship_rank(sweep, curve_within(api, sweep, tolerance)[0].tolerance_nats)) is None:
        raise UserError("Nothing to cut: this sweep has no fast curve with a lower rank that would do.")
    return str(api.adapters.zip_truncated(fast_curves(sweep.runs)[0].run_id, rank))


def zip_of(api: Api, sweep_id: str | None) -> str:
    """The journals and a CSV, as another RankViz imports them."""
    return str(api.runs.export([sweep_id or ""], Path(mkdtemp(prefix="rankviz-")) / f"sweep-{sweep_id}.zip"))


def _resume(api: Api, sweep_id: str | None) -> None:
    api.runs.resume(sweep_id or "")


def _cancel(api: Api, sweep_id: str | None) -> None:
    api.runs.cancel(sweep_id or "")


def _blank(said: str) -> list[Any]:
    hidden = [gr.Button(visible=False) for _ in range(4)]
    return [said, *hidden, "", "", "", "", "", "", "", None, gr.Timer(active=False)]
