"""Widgets that Gradio lacks: HTML that the page's script fills or that reports clicks, and hidden values."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import gradio as gr

from rankviz.ui.link import CHOICES

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
    """Return an event that runs only in the browser: show this text if the work takes more than half a second."""
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
