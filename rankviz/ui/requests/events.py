"""Checks what a browser sends with an event of the page before any code sees it; no address in it is ever fetched."""

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
import safehttpx
from gradio import processing_utils
from gradio.block_function import BlockFunction

from rankviz.core.bounds import shown
from rankviz.endpoints.gate import MAX_LIST, require
from rankviz.errors import InvalidSettingError
from rankviz.ui.requests.readable import NO_EVENT

FORMS = {
    gr.Number: float | None,
    gr.Slider: float,
    gr.Checkbox: bool,
    gr.CheckboxGroup: list[str],
    gr.Dropdown: str | float | None,
    gr.Radio: str | float | None,
    gr.Textbox: str | None,
    gr.Button: str | None,
}
"""What a widget of the page sends. HTML sends what it was built with: a text, a list of them, or the rank as a whole
number. Files are
checked by Gradio, and the value of a State is the server's own."""
FILES = (gr.File, gr.UploadButton, gr.DownloadButton)
CLICK: Mapping[str, Any] = {"id": "", "text": ""}
"""What a click sends, as data of its event: of which row or point; what was written there."""
CLICK_FORMS = {"id": str | float, "text": str}
MAX_DEPTH = 4
"""Of the description of files, the only values of widgets that hold others."""


def with_defaults(function: BlockFunction, sent: Sequence[Any]) -> Sequence[Any]:
    """What was sent, with the defaults of what a call of an endpoint leaves out at its end. InvalidSettingError for
    more than it has."""
    if function.api_visibility == "private":
        return sent
    most = len(function.inputs)
    if len(sent) > most:
        raise InvalidSettingError(f"{function.api_name} has {most} arguments (got {len(sent):,}).")
    return [*sent, *(argument.value for argument in function.inputs[len(sent) :])]


def require_sendable(function: BlockFunction, sent: Sequence[Any], state: Any) -> None:
    """InvalidSettingError for a value that no widget of the page sends, and for an event that browsers run alone.

    state: of the open page, whose choices may be others than the page was built with.
    """
    if function.fn is None:  # the browser's own
        raise InvalidSettingError(NO_EVENT)
    if function.api_visibility != "private":
        return
    for widget, value in zip(function.inputs, sent, strict=False):
        if widget.stateful:
            continue
        shown_now = state[widget._id] if state is not None and widget._id in state else widget
        name = shown_now.label or getattr(shown_now, "elem_id", None) or "A value of the page"
        if isinstance(widget, FILES):
            _require_shallow(value, name)
        elif kind := _kind(widget):
            require(value, kind, name)
            _require_choice(shown_now, value, name, may_be_empty=widget.value is None)


def _kind(widget: Any) -> Any:
    if not isinstance(widget, gr.HTML):
        return FORMS.get(type(widget))
    return list[str] if isinstance(widget.value, list) else type(widget.value)


def click_of(event: gr.EventData | None) -> gr.EventData:
    """The event with its data in the form of CLICK, and nothing else: InvalidSettingError for another form."""
    data = event._data if event is not None else None
    if not isinstance(data, dict):
        raise InvalidSettingError("What was clicked is not known. Click again.")
    click = {name: data.get(name, missing) for name, missing in CLICK.items()}
    for name, value in click.items():
        require(value, CLICK_FORMS[name], name)
    return gr.EventData(event.target, click)


def _require_choice(widget: Any, value: Any, name: str, *, may_be_empty: bool) -> None:
    if not hasattr(widget, "choices") or (value is None and may_be_empty):
        return
    if getattr(widget, "allow_custom_value", False):
        return require(value, str, name)
    choices = [choice for _, choice in widget.choices]
    for each in value if isinstance(value, list) else [value]:
        if each not in choices:
            raise InvalidSettingError(f"{name} must be one of its choices (got {shown(each)}). Reload the page.")


def _require_shallow(value: Any, name: str, depth: int = 0) -> None:
    """InvalidSettingError for a description of files that is too large or too deep, or whose texts cannot be used."""
    if isinstance(value, dict | list):
        entries = [*value, *value.values()] if isinstance(value, dict) else value
        if depth > MAX_DEPTH or len(entries) > MAX_LIST:
            raise InvalidSettingError(f"{name} must be files that were uploaded.")
        for each in entries:
            _require_shallow(each, name, depth + 1)
    else:
        require(value, str | float | bool | None, name)


FETCHERS = (
    (processing_utils, "async_ssrf_protected_download"),
    (processing_utils, "async_ssrf_protected_get"),
    (safehttpx, "get"),
    (safehttpx, "async_validate_url"),
)
"""By module and name, all through which Gradio reaches another server for a request. The first comes before it makes a
folder for what it would fetch."""


def refuse() -> None:
    """For all pages of this process."""
    for module, name in FETCHERS:
        setattr(module, name, _refused)


async def _refused(*_: Any, **__: Any) -> Any:
    raise gr.Error("This server fetches no addresses. Upload the file, and send its path on the server instead.")
