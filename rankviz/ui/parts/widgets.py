"""Widgets that Gradio lacks: HTML that the page's script fills or that reports clicks, hidden values, charts with their
downloads, and downloads of tables."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
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
from rankviz.ui.link import CHOICES
from rankviz.ui.parts import html
from rankviz.ui.wiring import action, of_click
from rankviz.verdict import Verdict

STOPS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def scripted(template: str, script: str | None, *, elem_id: str | None = None, value: Any = "") -> gr.HTML:
    """Return markup that a script of the page fills or draws, in the page's own styles."""
    return gr.HTML(value=value, html_template=template, js_on_load=script, apply_default_css=False, elem_id=elem_id)


def hidden(script: str | None = None, *, value: Any = "", elem_id: str | None = None) -> gr.HTML:
    """Return an invisible widget for a value that the browser keeps, or for an event that the script triggers."""
    return gr.HTML(
        value=value,
        html_template="<span hidden></span>",
        js_on_load=script,
        apply_default_css=False,
        visible="hidden",
        elem_id=elem_id,
    )


def plain(value: str = "", *, elem_id: str | None = None, script: str | None = None) -> gr.HTML:
    """Return HTML in the page's own styles, not Gradio's. script: JavaScript that makes it report events."""
    return gr.HTML(value=value, js_on_load=script, apply_default_css=False, elem_id=elem_id)


pickable = partial(plain, script="RankViz.pick(element, props, trigger, watch); // 'select'")
"""HTML whose rows with data-pick report a click (`select`), and whose boxes with data-tick change the selected ids. An
update keeps scroll position and focus."""
copyable = partial(plain, script="RankViz.copyable(element)")
"""HTML with boxes from html.code_html, whose buttons copy and save their text."""


def slot(name: str) -> gr.HTML:
    """Return an empty place that the page's script fills with the part of an answer that has this name."""
    return scripted(f'<div id="slot-{name}"></div>', "RankVizExplore.place(element)")


def file_button(elem_id: str) -> gr.DownloadButton:
    """Return an invisible button that downloads a file through `handed`. A CSS class hides it too, since Gradio shows
    hidden widgets again in an accordion that is built later."""
    return gr.DownloadButton("file", visible="hidden", elem_id=elem_id, elem_classes="rv-unseen")


def handed(file: gr.DownloadButton) -> dict[str, Any]:
    """Return an event that runs only in the browser: download the file that this button was just given."""
    return {"fn": None, "js": f"() => {{ setTimeout(() => document.querySelector('#{file.elem_id}').click(), 60); }}"}


def busy_line(line_id: str) -> gr.HTML:
    """Return the line in which `busy` shows that work takes a while."""
    return plain(f'<div id="{line_id}" class="rv-busy" role="status"></div>')


def busy(line_id: str, text: str) -> dict[str, Any]:
    """Return an event that runs only in the browser: show this text if the work takes more than half a second. It must
    be built before the event that works: Gradio awaits the events of a click in the order in which they were built."""
    return {"fn": None, "js": f"() => RankViz.busy({json.dumps(line_id)}, {json.dumps(text)})"}


def done(line_id: str) -> dict[str, Any]:
    return {"fn": None, "js": f"() => RankViz.done({json.dumps(line_id)})"}


PAIR = {"elem_classes": "rv-pair"}
"""Arguments of a gr.Row whose widgets stand side by side."""
TEXT = partial(gr.Textbox, max_lines=1, min_width=100)
CHECK = partial(gr.Checkbox, min_width=100)
CHOICE = partial(gr.Dropdown, interactive=True)
NUMBER = partial(gr.Number, precision=0, step=1, min_width=120, interactive=True)
"""Box for a whole number. It has no minimum: Gradio would drop the event, and the core's error says what to change."""
LISTS = (CHOICE, gr.Radio, gr.CheckboxGroup)
EXPERT_RANK = {"label": "Rank of each expert: choose, or enter a number", "allow_custom_value": True}
"""Arguments of the dropdown for the rank of experts (PEFT's rank_pattern): a rule, or a number that the user types."""
PARTS_LABEL = "Trained parts (Unsloth's finetune_ flags)"


def field(
    w: dict[str, Any], defaults: Mapping[str, Any], kind: Callable[..., Any], name: str, label: str, **more: Any
) -> None:
    """Build a widget with its default value, and store it in `w` by its name. A list offers the choices of link.CHOICES
    unless `more` has others. kind: widget class."""
    choices = {"choices": CHOICES[name]} if kind in LISTS and name in CHOICES else {}
    w[name] = kind(**{"value": defaults[name], "label": label, **choices, **more})


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
) -> str:
    """Return a figure of sweeps as a chart's value. top: Upper end of the quality axis; None to fit the values. Other
    arguments as for sweep_info."""
    drawing = sweep_figure(sweep_info(judged, **how), height=height)
    if top is not None:
        drawing.layout["yaxis"]["range"] = [0, top]
    return chart_value(drawing, file="quality")


def table_download(
    api: Api, table: Callable[..., Table], inputs: Mapping[str, Any], *, label: str, elem_id: str
) -> None:
    """Build a menu that downloads a table as CSV or Parquet. table: called with the values of `inputs`, by name."""
    menu, file = pickable(DOWNLOADS.format(label=label), elem_id=elem_id), file_button(f"{elem_id}-file")

    def write(kind: str, *values: Any) -> str:
        content = table(**dict(zip(inputs, values, strict=True)))
        return str(api.workspace.download(file_name(content, kind), lambda to: write_table(content, kind, to.parent)))

    writing = {"inputs": list(inputs.values()), "outputs": file, **action(of_click(write))}
    menu.select(**writing).success(**handed(file))


def sweep_runs(api: Api, *, sweep_id: str) -> Table:
    """Return the runs of a sweep as a table; the sweep must be recorded or belong to the visitor."""
    if not sweep_id:
        raise UserError("No sweep yet: train one to download its runs.")
    sweep = api.runs.sweep(sweep_id)
    if not sweep.recorded:
        api.workspace.rights.required(sweep_id)
    return runs_table(zip(sweep.runs, api.runs.rows(sweep.runs), strict=True), name=f"sweep-{sweep_id}")
