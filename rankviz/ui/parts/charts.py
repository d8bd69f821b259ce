"""The chart component with its downloads, downloads of tables, and the chart of sweeps."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import gradio as gr
import orjson

from rankviz import __version__
from rankviz.api import Api
from rankviz.core.cells import csv_text
from rankviz.core.runs.record import Sweep
from rankviz.errors import UserError
from rankviz.exports.tables import Table, file_name, runs_table, write_table
from rankviz.figures import sweep_figure, sweep_info
from rankviz.figures.style import Drawing
from rankviz.ui.parts import html
from rankviz.ui.parts.controls import file_button, handed, pickable, scripted
from rankviz.ui.wiring import action, of_click
from rankviz.verdict import Verdict

MENU = html.markup("menu")
"""Markup of a chart's download menu, for the chart's title; the page's script enables the available downloads."""
TEMPLATE = html.markup("chart")
PANEL_HEIGHT = 320
DOWNLOADS = html.markup("downloads")


def chart(title: str, *, height: int, elem_id: str, optional: bool = False) -> gr.HTML:
    """Return a chart component with title and downloads. Its value comes from chart_value; a click on a point is
    `select`. Without a value it keeps the figure's room (with `optional`, none)."""
    title, css = escape(title), " rv-optional" if optional else ""
    template = TEMPLATE.format(title=title, menu=MENU.format(title=title), height=height, css=css)
    return scripted(template, "RankViz.chart(element, props, trigger, watch); // 'select'", elem_id=elem_id)


def panels(script: str = "RankViz.panels(element, props, trigger, watch); // 'select'", **looks: Any) -> gr.HTML:
    """Return a component with a chart for each figure of a list, all equally high. Its value is JSON, a list of
    chart_json dicts with a `title` each; a click on a point is `select`. script: draws the list otherwise."""
    figure = TEMPLATE.format(title="", menu=MENU.format(title=""), height=PANEL_HEIGHT, css="")
    return scripted(html.markup("panels").format(chart=figure), script, **looks)


def chart_value(drawing: Drawing, *, file: str, source: str = "") -> str:
    """Return a figure and its data as the JSON value of a chart component. Arguments as for chart_json."""
    return json_text(chart_json(drawing, file=file, source=source))


def chart_json(drawing: Drawing, *, file: str, source: str = "") -> dict[str, object]:
    """Return a figure and its data as a dict, for the page's script. file: name of downloads, without rankviz- and
    suffix. source: origin of the numbers, in every download; the drawing's if empty."""
    about = {"file": f"rankviz-{file}", "source": source or drawing.source, "by": f"RankViz {__version__}"}
    return {"data": drawing.data, "layout": drawing.layout, "csv": csv_text(drawing.rows), **about}


def json_text(value: object) -> str:
    """Return the value as JSON for a browser; a NaN or infinity, such as the loss of a diverged run, becomes null."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def sweep_chart(
    judged: Sequence[tuple[Sweep, Verdict | None]], *, height: int, top: float | None = None, **how: Any
) -> tuple[str, str]:
    """Return a figure of sweeps as a chart's value, and its source as plain text. top: Upper end of the quality axis;
    None to fit the values. Other arguments as for sweep_info."""
    drawing = sweep_figure(sweep_info(judged, **how), height=height)
    if top is not None:
        drawing.layout["yaxis"]["range"] = [0, top]
    return chart_value(drawing, file="quality"), drawing.source


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
