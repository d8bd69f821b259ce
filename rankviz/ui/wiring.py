"""Connects a view (a plain function that returns a `View`) with the page's widgets, by name."""

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import gradio as gr

from rankviz.errors import RankVizError
from rankviz.ui.parts.html import notice_html


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
