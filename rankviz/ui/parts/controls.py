"""Defines widgets that Gradio lacks: the rank picker, and HTML that reports clicks."""

import json
from html import escape
from typing import Any

import gradio as gr

from rankviz.endpoints.gate import MAX_LIST

STOPS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

RANK_TEMPLATE = """
<div class="rv-rank">
  <div class="rv-rank-top"><label for="rv-rank-box">Rank <i>r</i></label>
    <input id="rv-rank-box" type="number" min="1" max="1024" step="1" inputmode="numeric"
      aria-describedby="rv-rank-hint"></div>
  <input type="range" min="0" max="8" step="any" aria-label="Rank, in powers of two">
  <div class="rv-stops">{stops}</div>
  <div class="rv-hint" id="rv-rank-hint" role="status"></div>
</div>
"""


def rank_picker(value: int) -> gr.HTML:
    """A slider with stops at powers of two and a number box for any rank: one widget, one value, an int.

    Two Gradio widgets that set each other would need a round trip and could loop; this is one.
    """
    stops = "".join(f'<button type="button" data-r="{r}" tabindex="-1">{r}</button>' for r in STOPS)
    return gr.HTML(
        value=value,
        html_template=RANK_TEMPLATE.format(stops=stops),
        js_on_load="RankViz.rank(element, props, trigger, watch)",
        apply_default_css=False,
        elem_id="rank",
    )


def plain(value: str = "", *, elem_id: str | None = None) -> gr.HTML:
    """HTML in our own styles, without Gradio's for prose and without its report of clicks."""
    return gr.HTML(value=value, js_on_load=None, apply_default_css=False, elem_id=elem_id)


def slot(name: str) -> gr.HTML:
    """A place that the page's script fills, with what an answer has for this name."""
    return gr.HTML(
        html_template=f'<div id="slot-{name}"></div>',
        js_on_load="RankVizExplore.place(element)",
        apply_default_css=False,
    )


def pickable(value: str = "", *, elem_id: str) -> gr.HTML:
    """HTML whose rows marked data-pick report a click (`select`). Its boxes marked data-tick fill the `selection`."""
    return gr.HTML(
        value=value,
        js_on_load="RankViz.pick(element, props, trigger, watch); // 'select'",
        apply_default_css=False,
        elem_id=elem_id,
    )


def editable(value: str = "", *, elem_id: str) -> gr.HTML:
    """As pickable, and boxes marked data-edit report what was written (`input`). Scroll and focus outlive an update."""
    return gr.HTML(
        value=value,
        js_on_load="RankViz.editable(element, props, trigger, watch); // 'select' 'input'",
        apply_default_css=False,
        elem_id=elem_id,
    )


def remembered(value: str = "", *, elem_id: str | None = None) -> gr.HTML:
    """Invisible: a text that is part of the question, set from elsewhere on the page."""
    return gr.HTML(
        value=value,
        html_template="<span hidden></span>",
        js_on_load=None,
        apply_default_css=False,
        visible="hidden",
        elem_id=elem_id,
    )


def file_button(elem_id: str) -> gr.DownloadButton:
    """Invisible: hands a file to the browser once a script clicks it. Gradio shows again what is hidden in an accordion
    that comes later, so a class hides it too."""
    return gr.DownloadButton("file", visible="hidden", elem_id=elem_id, elem_classes="rv-unseen")


def selection(line_id: str) -> gr.HTML:
    """Invisible: a list of the ids that are ticked in the page's tables; `input` when it has changed. The browser keeps
    it, in the order of ticks, and says in this line where a tick would be one too many."""
    return gr.HTML(
        value=[],
        html_template="<span hidden></span>",
        js_on_load=f"RankViz.selection(props, trigger, {MAX_LIST}, {line_id!r}); // 'input'",
        apply_default_css=False,
        visible="hidden",
    )


def busy_line(line_id: str) -> gr.HTML:
    """Where `busy` shows that something takes a while."""
    return plain(f'<div id="{line_id}" class="rv-busy" role="status"></div>')


def busy(line_id: str, text: str) -> dict[str, Any]:
    """An event in the browser alone: show this text if the work takes more than half a second."""
    return {"fn": None, "js": f"() => RankViz.busy({json.dumps(line_id)}, {json.dumps(text)})"}


def done(line_id: str) -> dict[str, Any]:
    return {"fn": None, "js": f"() => RankViz.done({json.dumps(line_id)})"}


def copyable(value: str = "", *, elem_id: str) -> gr.HTML:
    """HTML with boxes of code_html: each has a button that copies its <pre> and, where it has a file name, one that
    saves the same text."""
    return gr.HTML(value=value, js_on_load="RankViz.copyable(element)", apply_default_css=False, elem_id=elem_id)


def code_html(
    code: str, *, title: str, file_name: str = "", caption: str = "", tools: str = "", folded: str = ""
) -> str:
    """A text with buttons that copy and save the whole of it.

    Args:
        code: The text.
        title: Above it.
        file_name: Under which it is saved; without one it can only be copied.
        caption: Markup between the title and the text.
        tools: Markup before the buttons.
        folded: What opens the text, which then starts closed.
    """
    save = '<button type="button" data-do="save">Download</button>' if file_name else ""
    shown = f'<pre tabindex="0">{escape(code)}</pre>'
    return (
        f'<div class="rv-code" data-name="{escape(file_name)}"><div class="rv-code-top"><h2>{escape(title)}</h2>'
        f'<span class="rv-tools">{tools}{save}<button type="button" data-do="copy">Copy</button></span></div>{caption}'
        + (f"<details><summary>{escape(folded)}</summary>{shown}</details></div>" if folded else f"{shown}</div>")
    )


HEADER = """
<div class="rv-header"><button type="button" class="rv-button rv-skip" data-skip>Skip to the result</button>
<h1>RankViz</h1>
<p>What a LoRA rank costs, and what it buys</p>
<span class="rv-hint" role="status"></span>
<button type="button" class="rv-button" data-do="link">Copy link</button></div>
"""


def header() -> gr.HTML:
    """The page's h1, and a button that copies an address at which the page looks as it does now. A sentence says where
    only this computer can open it."""
    return gr.HTML(
        value="",
        html_template=HEADER,
        js_on_load="RankViz.header(element)",
        apply_default_css=False,
        elem_id="header",
    )


def opened(tab: str) -> gr.HTML:
    """Invisible: `submit` when this tab is opened, or the page has been restored with it from its address. A tab's own
    `select` may come before that, when nobody knows what it is to show, and then there would be two."""
    return gr.HTML(
        html_template="<span hidden></span>",
        js_on_load=f"RankViz.opened({tab!r}, () => trigger('submit'))",
        apply_default_css=False,
        visible="hidden",
    )


def address() -> gr.HTML:
    """Invisible: its value is a JSON object of query parameters, which are put into the browser's address."""
    return gr.HTML(
        value="",
        html_template="<span hidden></span>",
        js_on_load="RankViz.address(props, watch)",
        apply_default_css=False,
        visible="hidden",
    )
