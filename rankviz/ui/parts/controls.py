"""Defines widgets that Gradio lacks: HTML that a script of the page fills or that reports clicks, and hidden values."""

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
    """Markup that a script of the page fills or draws, in our own styles."""
    return gr.HTML(value=value, html_template=template, js_on_load=script, apply_default_css=False, elem_id=elem_id)


def hidden(script: str | None = None, *, value: Any = "", elem_id: str | None = None) -> gr.HTML:
    """Invisible: a value that the browser keeps, or an event that a script of the page triggers."""
    return gr.HTML(
        value=value,
        html_template="<span hidden></span>",
        js_on_load=script,
        apply_default_css=False,
        visible="hidden",
        elem_id=elem_id,
    )


def rank_picker(value: int) -> gr.HTML:
    """A slider with stops at powers of two and a number box for any rank: one widget, one value, an int.

    Two Gradio widgets that set each other would need a round trip and could loop; this is one.
    """
    stops = "".join(f'<button type="button" data-r="{r}" tabindex="-1">{r}</button>' for r in STOPS)
    script = "RankViz.rank(element, props, trigger, watch)"
    return scripted(RANK_TEMPLATE.format(stops=stops), script, elem_id="rank", value=value)


def plain(value: str = "", *, elem_id: str | None = None) -> gr.HTML:
    """HTML in our own styles, without Gradio's for prose and without its report of clicks."""
    return gr.HTML(value=value, js_on_load=None, apply_default_css=False, elem_id=elem_id)


def slot(name: str) -> gr.HTML:
    """A place that the page's script fills, with what an answer has for this name."""
    return scripted(f'<div id="slot-{name}"></div>', "RankVizExplore.place(element)")


def pickable(value: str = "", *, elem_id: str) -> gr.HTML:
    """HTML whose rows marked data-pick report a click (`select`). Its boxes marked data-tick fill the `selection`.
    Scroll and focus outlive an update."""
    script = "RankViz.pick(element, props, trigger, watch); // 'select'"
    return gr.HTML(value=value, js_on_load=script, apply_default_css=False, elem_id=elem_id)


def copyable(value: str = "", *, elem_id: str) -> gr.HTML:
    """HTML with boxes of html.code_html, whose buttons copy and save their text."""
    return gr.HTML(value=value, js_on_load="RankViz.copyable(element)", apply_default_css=False, elem_id=elem_id)


def file_button(elem_id: str) -> gr.DownloadButton:
    """Invisible: hands a file to the browser after `handed`. Gradio shows again what is hidden in an accordion that
    comes later, so a class hides it too."""
    return gr.DownloadButton("file", visible="hidden", elem_id=elem_id, elem_classes="rv-unseen")


def handed(file: gr.DownloadButton) -> dict[str, Any]:
    """An event in the browser alone: download the file that this button has just been given."""
    return {"fn": None, "js": f"() => {{ setTimeout(() => document.querySelector('#{file.elem_id}').click(), 60); }}"}


def selection(line_id: str) -> gr.HTML:
    """Invisible: a list of the ids that are ticked in the page's tables; `input` when it has changed. The browser keeps
    it, in the order of ticks, and says in this line where a tick would be one too many."""
    return hidden(f"RankViz.selection(props, trigger, {MAX_LIST}, {line_id!r}); // 'input'", value=[])


def busy_line(line_id: str) -> gr.HTML:
    """Where `busy` shows that something takes a while."""
    return plain(f'<div id="{line_id}" class="rv-busy" role="status"></div>')


def busy(line_id: str, text: str) -> dict[str, Any]:
    """An event in the browser alone: show this text if the work takes more than half a second."""
    return {"fn": None, "js": f"() => RankViz.busy({json.dumps(line_id)}, {json.dumps(text)})"}


def done(line_id: str) -> dict[str, Any]:
    return {"fn": None, "js": f"() => RankViz.done({json.dumps(line_id)})"}


def header() -> gr.HTML:
    """The page's h1, and a button that copies an address at which the page looks as it does now. A sentence says where
    only this computer can open it."""
    return scripted(HEADER, "RankViz.header(element)", elem_id="header")


def opened(tab: str) -> gr.HTML:
    """Invisible: `submit` when this tab is opened, or the page has been restored with it from its address. A tab's own
    `select` may come before that, when nobody knows what it is to show, and then there would be two."""
    return hidden(f"RankViz.opened({tab!r}, () => trigger('submit'))")


def address() -> gr.HTML:
    """Invisible: its value is a JSON object of query parameters, which are put into the browser's address."""
    return hidden("RankViz.address(props, watch)")


def box(label: str, value: int | None, *, min_width: int = 120, **more: Any) -> gr.Number:
    """A box for a whole number. Without a minimum: Gradio would refuse the event without a word where the core says
    what to change."""
    return gr.Number(value, label=label, precision=0, step=1, min_width=min_width, interactive=True, **more)


def pair(w: dict[str, Any], **makers: Callable[[], Any]) -> None:
    """Put widgets of these names side by side."""
    with gr.Row(elem_classes="rv-pair"):
        for name, make in makers.items():
            w[name] = make()
