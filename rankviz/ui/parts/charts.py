"""Draws every figure with one component, with its downloads, and gives tables a download menu."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import gradio as gr

from rankviz import __version__
from rankviz.api import Api
from rankviz.api.runs import listed_run_json
from rankviz.core.cells import csv_text
from rankviz.core.runs.record import Sweep
from rankviz.endpoints.gate import finite
from rankviz.errors import UserError
from rankviz.exports.tables import Table, file_name, runs_table, write_table
from rankviz.figures import tradeoff_figure, tradeoff_info
from rankviz.figures.style import Drawing
from rankviz.figures.sweep_tradeoff import NONE_KNOWN
from rankviz.ui.parts.controls import file_button, handed, pickable, scripted
from rankviz.ui.wiring import action, of_click, quiet
from rankviz.verdict import Verdict

MENU = """
<details class="rv-menu"><summary aria-label="Download: {title}">Download</summary>
    <div class="rv-tools"><button type="button" data-do="png" disabled>PNG</button>
    <button type="button" data-do="svg" disabled>SVG</button>
    <button type="button" data-do="html" disabled title="One file that opens without a network">HTML</button>
    <button type="button" data-do="csv" disabled title="The data of this figure">CSV</button></div></details>
""".strip()
"""The downloads of a figure with this title; its script enables those that there are."""
TEMPLATE = """
<figure class="rv-chart rv-none{css}">
  <figcaption><h2>{title}</h2>{menu}
  </figcaption>
  <div class="rv-plot" role="group" aria-label="{title}" style="height:{height}px"></div>
</figure>
"""
DOWNLOADS = (
    '<div class="rv-table-tools"><details class="rv-menu"><summary aria-label="Download: {label}">Download</summary>'
    '<div class="rv-tools"><button type="button" data-pick="csv">CSV</button>'
    '<button type="button" data-pick="parquet">Parquet</button></div></details></div>'
)


def chart(title: str, *, height: int, elem_id: str, optional: bool = False) -> gr.HTML:
    """A figure with title and downloads. Its value is what chart_value makes; a click on a point is `select`.

    Without a value it has neither title nor downloads, and keeps the room of the figure to come; a figure without data
    has no downloads. optional: without a value it takes no room.
    """
    title, css = escape(title), " rv-optional" if optional else ""
    template = TEMPLATE.format(title=title, menu=MENU.format(title=title), height=height, css=css)
    return scripted(template, "RankViz.chart(element, props, trigger, watch); // 'select'", elem_id=elem_id)


def chart_value(drawing: Drawing, rows: Sequence[Mapping[str, object]], *, file: str, source: str = "") -> str:
    """A figure and its data, as chart() draws them and offers them for download.

    source: what it rests on, in a sentence or two; it goes into every file beside the address of the view.
    """
    return json_text(chart_json(drawing, rows, file=file, source=source))


def chart_json(
    drawing: Drawing, rows: Sequence[Mapping[str, object]], *, file: str, source: str = ""
) -> dict[str, object]:
    """The same, before it is written as text."""
    about = {"file": f"rankviz-{file}", "source": source, "by": f"RankViz {__version__}"}
    return {**drawing, "csv": csv_text(rows), **about}


def json_text(value: object, **how: object) -> str:
    """The value as JSON that a browser reads: a number that is none, as of a run that diverged, is null."""
    try:
        return json.dumps(value, allow_nan=False, **how)
    except ValueError:
        return json.dumps(finite(value), allow_nan=False, **how)


def tradeoff_chart(
    sweeps: Sequence[Sweep],
    *,
    x: str,
    y: str,
    height: int,
    run_ids: Collection[str] | None = None,
    tolerance: float | None = None,
    verdicts: Mapping[str, Verdict] = NONE_KNOWN,
) -> tuple[str, str]:
    """(the figure with its data, what it shows in sentences as plain text). Arguments as for tradeoff_info."""
    info = tradeoff_info(sweeps, x=x, y=y, run_ids=run_ids, tolerance=tolerance, verdicts=verdicts)
    caption = " ".join(info.notes)
    drawing = tradeoff_figure.drawing(info, height=height)
    return chart_value(drawing, info.rows, file="tradeoff", source=caption), caption


class DownloadMenu(NamedTuple):
    """The menu, its markup, and the button behind it that hands the file to the browser."""

    menu: gr.HTML
    markup: str
    file: gr.DownloadButton


def download_widgets(label: str, *, elem_id: str, may_be_empty: bool = False) -> DownloadMenu:
    """The menu where it stands on the page; `offer` connects it later, when its inputs exist.

    may_be_empty: the table may have no rows; then `offer` shows the menu once it has some.
    """
    markup = DOWNLOADS.format(label=label)
    return DownloadMenu(
        pickable("" if may_be_empty else markup, elem_id=elem_id), markup, file_button(f"{elem_id}-file")
    )


def offer(
    api: Api,
    download: DownloadMenu,
    table: Callable[..., Table],
    inputs: Mapping[str, Any],
    *,
    of: gr.HTML | None = None,
) -> None:
    """A choice in the menu writes the table of these inputs, passed by name, and downloads it.

    of: a table that may be empty; while it has no rows there is no menu.
    """
    if of is not None:
        shown = f"(html) => html?.includes('<td') ? {json.dumps(download.markup)} : ''"
        of.change(None, of, download.menu, js=shown, **quiet())

    def write(kind: str, *values: Any) -> str:
        return written_table(api, table(**dict(zip(inputs, values, strict=True))), kind)

    widgets = {"inputs": list(inputs.values()), "outputs": download.file}
    download.menu.select(**widgets, **action(of_click(write))).success(**handed(download.file))


def written_table(api: Api, table: Table, kind: str) -> str:
    """The path of the table as a file to download. kind: "csv" or "parquet"."""
    name = file_name(table, kind)
    return str(api.workspace.download(name, lambda target: write_table(table, kind, target.parent)))


def sweep_runs(api: Api, *, sweep_id: str) -> Table:
    """The runs of one sweep, of one's own or of a recorded one."""
    if not sweep_id:
        raise UserError("No sweep yet: train one to download its runs.")
    sweep = api.runs.sweep(sweep_id)
    if not sweep.recorded:
        api.workspace.rights.required(sweep_id)
    rows = ((each.record, listed_run_json(each)) for each in api.runs.summaries(sweep.runs))
    return runs_table(rows, name=f"sweep-{sweep_id}")
