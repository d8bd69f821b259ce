"""Events of the page: connects views with widgets by name, and checks what a browser sends before any code sees it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import gradio as gr

from rankviz.core.bounds import shown
from rankviz.endpoints.gate import MAX_LIST, require
from rankviz.errors import InvalidSettingError, RankVizError, quoted
from rankviz.shared.gate import LOG, NO_EVENT, REFUSED, logged
from rankviz.ui.parts.html import notice_html

TITLE = "Not done"
"""Title of an error for API clients; on the page, Gradio 6.31 shows "Error" instead."""


@contextmanager
def in_words(request: Any, name: str) -> Iterator[None]:
    """Turn each exception of an event into a gr.Error that Gradio does not print. name: the event's function."""
    try:
        yield
    except (RankVizError, gr.Error) as error:
        LOG.info("%s: refused: %s", name, quoted(error))
        inner = getattr(request[0] if isinstance(request, list) else request, "request", None)
        if hasattr(inner, "scope"):
            inner.scope.setdefault(REFUSED, []).append(error)
        if isinstance(error, RankVizError):
            raise gr.Error(toast(error), duration=10, title=TITLE, print_exception=False) from error
        error.title, error.print_exception = TITLE, False
        raise
    except Exception as error:
        number = logged(error, name)
        text = f"RankViz could not do that: an error in its code, number {number} in the app's log. Reload the page."
        raise gr.Error(text, title=TITLE, print_exception=False) from error


def toast(error: Exception) -> str:
    """Return an error's text without backticks, which a toast would show literally."""
    return str(error).replace("`", "")


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
"""Type of the value that a widget sends, by widget class. HTML sends the type of its initial value: a text, a list of
texts, or the rank as an int. Gradio checks files, and State values come from the server."""
FILES = (gr.File, gr.UploadButton, gr.DownloadButton)
MAX_DEPTH = 4
"""Maximum nesting of a description of files, the only nested values of widgets."""


def with_defaults(function: Any, sent: Sequence[Any]) -> Sequence[Any]:
    """Return the sent values, with defaults for missing last arguments of an endpoint, and empty texts as browsers send
    them. Raise InvalidSettingError where the call has more arguments than the endpoint."""
    if function.api_visibility == "private":
        is_text = [isinstance(widget, gr.Textbox) for widget in function.inputs] + [False] * len(sent)
        return ["" if value is None and text else value for value, text in zip(sent, is_text, strict=False)]
    most = len(function.inputs)
    if len(sent) > most:
        raise InvalidSettingError(f"{function.api_name} has {most} arguments (got {len(sent):,}).")
    return [*sent, *(argument.value for argument in function.inputs[len(sent) :])]


def require_sendable(function: Any, sent: Sequence[Any], state: Any) -> None:
    """Raise InvalidSettingError for a value that no widget of the page sends, and for an event of the browser alone.
    state: the open page's state, whose choices may differ from those that the page was built with."""
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
            continue
        kind = FORMS.get(type(widget))
        if isinstance(widget, gr.HTML):
            kind = list[str] if isinstance(widget.value, list) else type(widget.value)
        if kind:
            lines = isinstance(widget, gr.Textbox) and widget.lines > 1 and isinstance(value, str)
            require(value.replace("\n", " ").replace("\t", " ") if lines else value, kind, name)
            _require_choice(shown_now, value, name, may_be_empty=widget.value is None)


def click_of(event: gr.EventData | None) -> gr.EventData:
    """Return the event with only the clicked id; raise InvalidSettingError for other data."""
    data = event._data if event is not None else None
    if not isinstance(data, dict):
        raise InvalidSettingError("What was clicked is not known. Click again.")
    clicked_id = data.get("id", "")
    require(clicked_id, str | float, "id")
    return gr.EventData(event.target, {"id": clicked_id})


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
    if isinstance(value, dict | list):
        entries = [*value, *value.values()] if isinstance(value, dict) else value
        if depth > MAX_DEPTH or len(entries) > MAX_LIST:
            raise InvalidSettingError(f"{name} must be files that were uploaded.")
        for each in entries:
            _require_shallow(each, name, depth + 1)
    else:
        require(value, str | float | bool | None, name)


QUIET: dict[str, Any] = {
    "show_progress": "hidden",
    "show_progress_on": [],
    "trigger_mode": "always_last",
    "api_visibility": "private",
    "concurrency_limit": None,
    "queue": False,
}
"""Arguments that the page's events share: no overlay, the last value wins, not public, not queued. A queue would add a
round trip to answers that take milliseconds. Without it, answers come in any order, so the page shows the answer to the
newest of several events with the same outputs (assets/js/newest.js), and the last drawn state is stored in the browser,
not in a State. `show_progress_on` is empty, since Gradio would copy the state of each listed component."""
CLICKED = {**QUIET, "trigger_mode": "multiple"}
"""Arguments of an event with data (a click or a text). Each event is sent, since Gradio would repeat the first event's
data for the last event that waited."""


class View(SimpleNamespace):
    """Widget values of an event, by widget name; other widgets stay unchanged."""


def put(values: Mapping[str, Any], outputs: Mapping[str, Any]) -> dict[Any, Any]:
    """Return an event's result: the value of each output by widget; outputs without a value stay unchanged."""
    return {widget: values[name] if name in values else gr.skip() for name, widget in outputs.items()}


def wire(
    view: Callable[..., View],
    *,
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any],
    notice: gr.HTML | None = None,
    silent: bool = False,
) -> dict[str, Any]:
    """Return an event's arguments: call `view` with inputs by name, and put its View's fields into outputs by name.

    notice: widget for the text of a RankVizError, with other outputs unchanged; without it, the error is a toast.
    silent: True hides the error, where another view of the same inputs shows it.
    """

    def call(**values: Any) -> Any:
        try:
            fields = put(vars(view(**values)), outputs)
        except RankVizError as error:
            if silent:
                return {widget: gr.skip() for widget in outputs.values()}
            if notice is None:
                raise
            return {notice: notice_html(str(error), kind="error")}
        return fields if notice is None else {notice: "", **fields}

    widgets = [*outputs.values(), *([notice] if notice else [])]
    return {"fn": call, "inputs_kwargs": dict(inputs), "outputs": widgets, **QUIET}


def of_click(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return an event's function: it calls `function` with the clicked id (row, box or point), then the input values.
    It is no partial, since Gradio finds gr.EventData by a function's own type hints."""

    def call(event: gr.EventData, *values: Any) -> Any:
        return function(str(event._data.get("id", "")), *values)

    return call


def on_any(*events: Any, inputs: Sequence[Any] = ()) -> Any:
    """Join events into one event, which may be followed by several `.then`. Without events, it is the page load and
    each change of an input. The joined event runs in the browser and does nothing. With functions of its own, Gradio
    would dispatch all of them again whenever one waited for its earlier call (`always_last`), and two such events would
    never end."""
    return gr.on(list(events) or None, None, list(inputs), js="() => []", queue=False, show_progress="hidden")


def action(function: Callable) -> dict[str, Any]:
    """Return arguments of an event that acts and may fail; queued, since Gradio shows toasts for queued events only."""
    return {**QUIET, "fn": function, "trigger_mode": "once", "queue": True}
