"""Draws every figure with one component: Plotly in our own script, which keeps zoom and reports clicks.

gr.Plot is not used: it mounts a figure anew on every change (zoom lost), ignores the dark theme and knows no clicks.
"""

import json
import math
from collections.abc import Mapping, Sequence
from html import escape

import gradio as gr

from rankviz import __version__
from rankviz.core.cells import csv_text
from rankviz.figures.style import Drawing

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


def chart(title: str, *, height: int, elem_id: str, optional: bool = False) -> gr.HTML:
    """A figure with title and downloads. Its value is what chart_value makes; a click on a point is `select`.

    Without a value it has neither title nor downloads, and keeps the room of the figure to come; a figure without data
    has no downloads. optional: without a value it takes no room.
    """
    return gr.HTML(
        value="",
        html_template=TEMPLATE.format(
            title=escape(title),
            menu=MENU.format(title=escape(title)),
            height=height,
            css=" rv-optional" if optional else "",
        ),
        js_on_load="RankViz.chart(element, props, trigger, watch); // 'select'",
        apply_default_css=False,
        elem_id=elem_id,
    )


def chart_value(drawing: Drawing, rows: Sequence[Mapping[str, object]], *, file: str, source: str = "") -> str:
    """A figure and its data, as chart() draws them and offers them for download.

    source: what it rests on, in a sentence or two; it goes into every file beside the address of the view.
    """
    return json_text(chart_json(drawing, rows, file=file, source=source))


def json_text(value: object, **how: object) -> str:
    """The value as JSON that a browser reads: a number that is none, as of a run that diverged, is null."""
    try:
        return json.dumps(value, allow_nan=False, **how)
    except ValueError:
        return json.dumps(finite(value), allow_nan=False, **how)


def finite(value: object) -> object:
    """The same with null in place of each number that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: finite(each) for name, each in value.items()}
    return [finite(each) for each in value] if isinstance(value, list | tuple) else value


def chart_json(
    drawing: Drawing, rows: Sequence[Mapping[str, object]], *, file: str, source: str = ""
) -> dict[str, object]:
    """The same, before it is written as text."""
    return {
        **drawing,
        "csv": csv_text(rows),
        "file": f"rankviz-{file}",
        "source": source,
        "by": f"RankViz {__version__}",
    }
