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
"""Title over the sentence, for programs: Gradio 6.31 writes Error over each on the page."""


@contextmanager
def in_words(request: Any, name: str) -> Iterator[None]:
    """Make a gr.Error of every exception of an event; Gradio prints nothing of it. name: of the event's function."""
    try:
        yield
    except (RankVizError, gr.Error) as error:
        LOG.info("%s: refused: %s", name, quoted(error))
        inner = getattr(request[0] if isinstance(request, list) else request, "request", None)
        if hasattr(inner, "scope"):
            inner.scope[REFUSED] = True
        if isinstance(error, RankVizError):
            raise gr.Error(toast(error), duration=10, title=TITLE, print_exception=False) from error
        error.title, error.print_exception = TITLE, False
        raise
    except Exception as error:
        number = logged(error, name)
        text = f"RankViz could not do that: an error in its code, number {number} in the app's log. Reload the page."
        raise gr.Error(text, title=TITLE, print_exception=False) from error


def toast(error: Exception) -> str:
    """Return an error's words without the marks of commands, which a toast would show as they are."""
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
"""Types of what a widget of the page sends. HTML sends the type that it was built with: a text, a list of texts, or the
rank as a whole number. Gradio checks files, and the value of a State is the server's own."""
FILES = (gr.File, gr.UploadButton, gr.DownloadButton)
MAX_DEPTH = 4
"""Depth of the description of files, the only values of widgets that hold others."""


def with_defaults(function: Any, sent: Sequence[Any]) -> Sequence[Any]:
    """Return what was sent, with the defaults of what a call of an endpoint leaves out at its end. InvalidSettingError
    for more arguments than it has."""
    if function.api_visibility == "private":
        return sent
    most = len(function.inputs)
    if len(sent) > most:
        raise InvalidSettingError(f"{function.api_name} has {most} arguments (got {len(sent):,}).")
    return [*sent, *(argument.value for argument in function.inputs[len(sent) :])]


def require_sendable(function: Any, sent: Sequence[Any], state: Any) -> None:
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
            continue
        kind = FORMS.get(type(widget))
        if isinstance(widget, gr.HTML):
            kind = list[str] if isinstance(widget.value, list) else type(widget.value)
        if kind:
            require(value, kind, name)
            _require_choice(shown_now, value, name, may_be_empty=widget.value is None)


def click_of(event: gr.EventData | None) -> gr.EventData:
    """Return the event with the id of what was clicked, and nothing else; InvalidSettingError for another form."""
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
    """InvalidSettingError for a description of files that is too large or too deep, or whose texts cannot be used."""
    if isinstance(value, dict | list):
        entries = [*value, *value.values()] if isinstance(value, dict) else value
        if depth > MAX_DEPTH or len(entries) > MAX_LIST:
            raise InvalidSettingError(f"{name} must be files that were uploaded.")
        for each in entries:
            _require_shallow(each, name, depth + 1)
    else:
        require(value, str | float | bool | None, name)


class View(SimpleNamespace):
    """What an event shows, by the names of widgets. A widget that is not named is unchanged."""


def put(values: Mapping[str, Any], outputs: Mapping[str, Any]) -> dict[Any, Any]:
    """What an event returns: each value goes into the widget of its name; widgets without a value are unchanged."""
    return {widget: values[name] if name in values else gr.skip() for name, widget in outputs.items()}


def wire(
    view: Callable[..., View],
    *,
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any],
    notice: gr.HTML | None = None,
    silent: bool = False,
) -> dict[str, Any]:
    """An event's arguments: call view with the widgets' values by name, put its fields into widgets by name.

    notice: where the text of a RankVizError goes, with everything else unchanged; without one it is a toast.
    silent: another view of the same inputs shows the error.
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
    return {"fn": call, "inputs_kwargs": dict(inputs), "outputs": widgets, **quiet()}


def of_click(function: Callable[..., Any]) -> Callable[..., Any]:
    """An event's function: calls `function` with the id of what was clicked (a row, a box or a point), then the values.

    Gradio finds gr.EventData by a function's own type hints, and loses it in a partial.
    """

    def call(event: gr.EventData, *values: Any) -> Any:
        return function(str(event._data.get("id", "")), *values)

    return call


def on_any(*events: Any, inputs: Sequence[Any] = ()) -> Any:
    """These events, to be followed by any number of `.then`. No event means load and every change of an input.

    An event with several functions of its own is dispatched again, with all of them, whenever one had to wait for its
    earlier call (`always_last`); two such events never end. So the event itself does nothing, in the browser.
    """
    return gr.on(list(events) or None, None, list(inputs), js="() => []", queue=False, show_progress="hidden")


def quiet() -> dict[str, Any]:
    """What every event of the page shares: no overlay on the outputs, the last value wins, not part of the public API,
    and past the queue, which would add a second round trip to answers that take milliseconds.

    Past the queue answers come in any order. Events with the same outputs draw the same, and of those the page shows
    the answer to the newest (assets/js/newest.js): so what was drawn last is known to the browser too, not a State.
    Progress is shown on no component: Gradio would copy the whole state of each one on which it is shown.
    """
    return {
        "show_progress": "hidden",
        "show_progress_on": [],
        "trigger_mode": "always_last",
        "api_visibility": "private",
        "concurrency_limit": None,
        "queue": False,
    }


def clicked() -> dict[str, Any]:
    """The same for an event that says what was clicked or written: each is sent, since Gradio repeats the data of the
    first one for the last one that has to wait."""
    return {**quiet(), "trigger_mode": "multiple"}


def action(function: Callable) -> dict[str, Any]:
    """An event that does something and may fail. It goes through the queue: Gradio shows toasts only there."""
    return {**quiet(), "fn": function, "trigger_mode": "once", "queue": True}
