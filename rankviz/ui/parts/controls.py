"""Widgets that Gradio lacks: HTML that the page's script fills or that reports clicks, and hidden values."""

import json
from collections.abc import Callable
from typing import Any

import gradio as gr

from rankviz.endpoints.gate import MAX_LIST
from rankviz.ui.parts import html

STOPS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
RANK_TEMPLATE = html.markup("rank")
HEADER = html.markup("header")


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


def rank_picker(value: int) -> gr.HTML:
    """Return one widget for the rank, an int: a slider with stops at powers of two, and a number box for any rank. Two
    Gradio widgets that set each other would need a round trip and could loop."""
    stops = "".join(f'<button type="button" data-r="{r}" tabindex="-1">{r}</button>' for r in STOPS)
    script = "RankViz.rank(element, props, trigger, watch)"
    return scripted(RANK_TEMPLATE.format(stops=stops), script, elem_id="rank", value=value)


def plain(value: str = "", *, elem_id: str | None = None) -> gr.HTML:
    """Return HTML in the page's own styles, without Gradio's prose styles and click events."""
    return gr.HTML(value=value, js_on_load=None, apply_default_css=False, elem_id=elem_id)


def slot(name: str) -> gr.HTML:
    """Return an empty place that the page's script fills with the part of an answer that has this name."""
    return scripted(f'<div id="slot-{name}"></div>', "RankVizExplore.place(element)")


def pickable(value: str = "", *, elem_id: str) -> gr.HTML:
    """Return HTML whose rows with data-pick report a click (`select`), and whose boxes with data-tick change the
    `selection`. An update keeps scroll position and focus."""
    script = "RankViz.pick(element, props, trigger, watch); // 'select'"
    return gr.HTML(value=value, js_on_load=script, apply_default_css=False, elem_id=elem_id)


def copyable(value: str = "", *, elem_id: str) -> gr.HTML:
    """Return HTML with boxes from html.code_html, whose buttons copy and save their text."""
    return gr.HTML(value=value, js_on_load="RankViz.copyable(element)", apply_default_css=False, elem_id=elem_id)


def file_button(elem_id: str) -> gr.DownloadButton:
    """Return an invisible button that downloads a file through `handed`. A CSS class hides it too, since Gradio shows
    hidden widgets again in an accordion that is built later."""
    return gr.DownloadButton("file", visible="hidden", elem_id=elem_id, elem_classes="rv-unseen")


def handed(file: gr.DownloadButton) -> dict[str, Any]:
    """Return an event that runs only in the browser: download the file that this button was just given."""
    return {"fn": None, "js": f"() => {{ setTimeout(() => document.querySelector('#{file.elem_id}').click(), 60); }}"}


def selection(line_id: str) -> gr.HTML:
    """Return an invisible list of the ids that are ticked in the page's tables, in the order of ticks; `input` fires
    when it changes. The browser keeps the list, and writes into the line `line_id` when a tick is one too many."""
    return hidden(f"RankViz.selection(props, trigger, {MAX_LIST}, {line_id!r}); // 'input'", value=[])


def busy_line(line_id: str) -> gr.HTML:
    """Return the line in which `busy` shows that something takes a while."""
    return plain(f'<div id="{line_id}" class="rv-busy" role="status"></div>')


def busy(line_id: str, text: str) -> dict[str, Any]:
    """Return an event that runs only in the browser: show this text if the work takes more than half a second."""
    return {"fn": None, "js": f"() => RankViz.busy({json.dumps(line_id)}, {json.dumps(text)})"}


def done(line_id: str) -> dict[str, Any]:
    return {"fn": None, "js": f"() => RankViz.done({json.dumps(line_id)})"}


def header() -> gr.HTML:
    """Return the page's title and a button that copies an address of the current view; a sentence warns where only
    this computer can open that address."""
    return scripted(HEADER, "RankViz.header(element)", elem_id="header")


def opened(tab: str) -> gr.HTML:
    """Return an invisible widget whose `submit` fires when this tab is opened, or when a restored page starts on it. A
    tab's own `select` could fire before settings are restored, and then the tab would be drawn twice."""
    return hidden(f"RankViz.opened({tab!r}, () => trigger('submit'))")


def address() -> gr.HTML:
    """Return an invisible widget whose value, a JSON object of query parameters, goes to the browser's address."""
    return hidden("RankViz.address(props, watch)")


def box(label: str, value: int | None, *, min_width: int = 120, **more: Any) -> gr.Number:
    """Return a box for a whole number. It has no minimum: Gradio would silently drop the event, while the core says
    what to change."""
    return gr.Number(value, label=label, precision=0, step=1, min_width=min_width, interactive=True, **more)


def pair(w: dict[str, Any], **makers: Callable[[], Any]) -> None:
    """Put widgets side by side and store them in `w`. makers: a function for each widget, by name."""
    with gr.Row(elem_classes="rv-pair"):
        for name, make in makers.items():
            w[name] = make()
