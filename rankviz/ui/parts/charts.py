"""The chart component with its downloads, downloads of tables, and the charts and verdict of a sweep."""

import json
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import gradio as gr

from rankviz import __version__
from rankviz.api import Api
from rankviz.core.cells import csv_text
from rankviz.core.forecast.decision import Decision
from rankviz.core.runs.metric import LOSS, Metric
from rankviz.core.runs.record import Sweep
from rankviz.core.runs.words import still_training
from rankviz.endpoints.gate import finite
from rankviz.errors import BusyError, LimitError, UserError
from rankviz.exports.tables import Table, file_name, runs_table, write_table
from rankviz.figures import sweep_figure, sweep_info
from rankviz.figures.style import Drawing
from rankviz.figures.sweep import BEST, MARKS, WHAT_A_FAST_CURVE_IS
from rankviz.ui.parts import html
from rankviz.ui.parts.controls import file_button, handed, pickable, scripted
from rankviz.ui.parts.html import Cell, Row, exact
from rankviz.ui.wiring import View, action, of_click
from rankviz.verdict import Answer, Verdict, sentences, shipped, summary

MENU = html.markup("menu")
"""Markup of a chart's download menu, for the chart's title; the page's script enables the available downloads."""
TEMPLATE = html.markup("chart")
DOWNLOADS = html.markup("downloads")


def chart(title: str, *, height: int, elem_id: str, optional: bool = False) -> gr.HTML:
    """Return a chart component with title and downloads. Its value comes from chart_value; a click on a point is
    `select`. Without a value it shows nothing, but keeps the figure's room (with `optional`, no room either). A figure
    without data has no downloads."""
    title, css = escape(title), " rv-optional" if optional else ""
    template = TEMPLATE.format(title=title, menu=MENU.format(title=title), height=height, css=css)
    return scripted(template, "RankViz.chart(element, props, trigger, watch); // 'select'", elem_id=elem_id)


def chart_value(figure: Any, info: Any, *, file: str, source: str = "", **how: Any) -> str:
    """Return a figure and its data as the JSON value of a chart component.

    Args:
        figure: A function of rankviz.figures that draws `info`.
        file: Name of downloaded files, without rankviz- and suffix.
        source: Sentences on the origin of the numbers, in every download with the address of the view; info's if empty.
        how: More arguments of the figure.
    """
    return json_text(chart_json(figure.drawing(info, **how), info.rows, file=file, source=source or info.source))


def chart_json(drawing: Drawing, rows: Sequence[Mapping[str, object]], *, file: str, source: str) -> dict[str, object]:
    """Return a drawing and its data as a dict, for the page's script."""
    about = {"file": f"rankviz-{file}", "source": source, "by": f"RankViz {__version__}"}
    return {**drawing, "csv": csv_text(rows), **about}


def json_text(value: object, **how: object) -> str:
    """Return the value as JSON for a browser; a NaN or infinity, such as the loss of a diverged run, becomes null."""
    try:
        return json.dumps(value, allow_nan=False, **how)
    except ValueError:
        return json.dumps(finite(value), allow_nan=False, **how)


def sweep_chart(judged: Sequence[tuple[Sweep, Verdict | None]], *, height: int, **how: Any) -> tuple[str, str]:
    """Return a figure of sweeps as a chart's value, and its source as plain text. Arguments as for sweep_info."""
    info = sweep_info(judged, **how)
    return chart_value(sweep_figure, info, file="quality", height=height), info.source


def table_download(
    api: Api, table: Callable[..., Table], inputs: Mapping[str, Any], *, label: str, elem_id: str
) -> None:
    """Build a menu that downloads a table as CSV or Parquet. table: called with the values of `inputs`, by name."""
    menu, file = pickable(DOWNLOADS.format(label=label), elem_id=elem_id), file_button(f"{elem_id}-file")

    def write(kind: str, *values: Any) -> str:
        return written_table(api, table(**dict(zip(inputs, values, strict=True))), kind)

    writing = {"inputs": list(inputs.values()), "outputs": file, **action(of_click(write))}
    menu.select(**writing).success(**handed(file))


def written_table(api: Api, table: Table, kind: str) -> str:
    """Write the table to a file for download; return its path. kind: "csv" or "parquet"."""
    name = file_name(table, kind)
    return str(api.workspace.download(name, lambda target: write_table(table, kind, target.parent)))


def sweep_runs(api: Api, *, sweep_id: str) -> Table:
    """Return the runs of a sweep as a table; the sweep must be recorded or belong to the visitor."""
    if not sweep_id:
        raise UserError("No sweep yet: train one to download its runs.")
    sweep = api.runs.sweep(sweep_id)
    if not sweep.recorded:
        api.workspace.rights.required(sweep_id)
    return runs_table(zip(sweep.runs, api.runs.rows(sweep.runs), strict=True), name=f"sweep-{sweep_id}")


def curve(
    api: Api, sweep: Sweep, tolerance: float | str | None = None, *, height: int = 320, metric: Metric = LOSS
) -> View:
    """Return a sweep's held-out quality by rank and its verdict, as far as the sweep has got. tolerance: as for
    api.verdicts.of_sweep. Fast curves are judged by loss, with the default tolerance if another metric is shown.

    The view has `chart`; `summary`, what to train and to ship, and how sure that is; `details`, all sentences;
    `verdict` on independent runs; `decision` by loss; `ship`, the adapter to ship if its files are here; `why_not`, why
    runs cannot be compared, and `is_busy`, if that may pass.
    """
    try:
        return _judged(api, sweep, tolerance, height, metric)
    except LimitError as error:
        notice = html.notice_html(str(error), kind="error")
        nothing = dict.fromkeys(("verdict", "decision", "ship"))
        is_busy = isinstance(error, BusyError)
        return View(chart="", summary=notice, details="", why_not=str(error), is_busy=is_busy, **nothing)


def _judged(api: Api, sweep: Sweep, tolerance: float | str | None, height: int, metric: Metric) -> View:
    verdict = api.verdicts.of_sweep(sweep.sweep_id, tolerance, metric.key)
    reading = api.verdicts.fast_curve(sweep.sweep_id, tolerance if metric is LOSS else None)
    compares = verdict is not None and (len(verdict.ranks) > 1 or reading is None)
    decision = api.verdicts.decide(sweep.sweep_id, tolerance) if metric is LOSS else None
    ship = shipped(verdict, decision, reading)
    score = api.verdicts.score_look(sweep.sweep_id, metric)
    judged_by_seeds = compares and not verdict.unknown
    details = [
        _decision(decision) if decision else "",
        html.verdict(html.headlined([*reading.sentences, WHAT_A_FAST_CURVE_IS])) if reading else "",
        html.verdict(html.headlined(sentences(verdict))) if compares else "",
    ]
    picked = score.pick if score else decision.train.r if decision and not judged_by_seeds else None
    forecast = decision.forecast if decision else None
    chart, _ = sweep_chart([(sweep, verdict)], height=height, metric=metric, forecast=forecast, picked=picked)
    steps = min((run.request.max_steps for run in sweep.runs if run.loss_after), default=0)
    rate = api.verdicts.rate_look(sweep.sweep_id)
    return View(
        chart=chart,
        summary=_summary(sweep, summary(verdict, decision, reading, steps=steps, rate=rate, score=score)),
        details="".join(reversed(details) if judged_by_seeds else details),
        verdict=verdict if compares else None,
        decision=decision,
        ship=ship if ship and api.adapters.is_here(ship.run_id, ship.r) else None,
        why_not="",
        is_busy=False,
    )


def _summary(sweep: Sweep, answers: Sequence[Answer]) -> str:
    """Return the answers side by side, each with its sentence; a note in place of answers while the sweep trains."""
    if not sweep.ended:
        return html.paragraphs(still_training(sweep)) if any(run.loss_after for run in sweep.runs) else ""
    sizes = ("" if each.file_bytes is None else exact(each.file_bytes, "bytes") for each in answers)
    values = (Cell(each.value, title=next(sizes)) for each in answers)
    figures = [html.NamedNumber(each.about, next(values), each.sentence) for each in answers]
    return html.figures(figures) if figures else ""


def _decision(decision: Decision) -> str:
    answers = [("What to train", decision.train_sentences), ("What to ship", decision.ship_sentences)]
    columns = "".join(f"<div>{html.titled(title, html.headlined(words))}</div>" for title, words in answers if words)
    forecast = html.titled("Forecast between the runs", html.bullet_list(decision.forecast.sentences))
    return html.verdict(f'<div class="rv-halves">{columns}</div>{forecast}')


def verdict_table(verdict: Verdict) -> str:
    """Return a table of each rank's difference from the best rank, paired by seed, with its 95 % interval."""
    metric, rows = verdict.metric, []
    digits, side = (1, "Below") if metric.higher_is_better else (4, "Above")
    for rank in verdict.ranks:
        low, high, is_best = rank.above_best_low, rank.above_best_high, rank.r == verdict.best
        span = "not known" if low is None else f"{low:+.{digits}f} to {high:+.{digits}f}"
        _, words = MARKS[BEST if is_best else rank.call]
        cells = [f"r = {rank.r}", f"{rank.above_best:+.{digits}f}", "" if is_best else span, Cell(words, kind="left")]
        rows.append(Row(cells, chosen=is_best))
    headers = ["Rank", f"{side} r = {verdict.best}, {metric.units}", "95 % interval", "Verdict"]
    title = "Difference from the best rank"
    return html.titled(title, html.table(headers, rows, label=title))
