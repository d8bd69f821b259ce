"""Connects a view (a plain function that returns a named tuple) with the page's widgets, by name."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import gradio as gr

from rankviz.errors import RankVizError
from rankviz.ui.parts.html import prose

View = Callable[..., NamedTuple]
Shown = TypeVar("Shown", bound=NamedTuple)


def notice_html(*sentences: str, kind: str = "note") -> str:
    """Sentences in a quiet box; nothing for no sentence. kind: note or error."""
    if not any(sentences):
        return ""
    role = "alert" if kind == "error" else "status"
    text = "".join(f"<p>{prose(sentence)}</p>" for sentence in sentences if sentence)
    return f'<div class="rv-notice rv-{kind}" role="{role}">{text}</div>'


def put(values: Mapping[str, Any], outputs: Mapping[str, Any]) -> dict[Any, Any]:
    """What an event returns: each value goes into the widget of its name; widgets without a value are unchanged."""
    return {widget: values[name] if name in values else gr.skip() for name, widget in outputs.items()}


def wire(
    view: View,
    *,
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any],
    notice: gr.HTML | None = None,
    silent: bool = False,
) -> dict[str, Any]:
    """An event's arguments: call view with the widgets' values by name, put its fields into widgets by name.

    notice: where the text of a RankVizError goes, with everything else unchanged; without one it is a toast, as of
        every event (ui.requests.event_errors).
    silent: another view of the same inputs shows the error.
    """

    def call(**values: Any) -> Any:
        try:
            shown = view(**values)
        except RankVizError as error:
            if silent:
                return {widget: gr.skip() for widget in outputs.values()}
            if notice is None:
                raise
            return {notice: notice_html(str(error), kind="error")}
        fields = put(shown._asdict(), outputs)
        return fields if notice is None else {notice: "", **fields}

    return {
        "fn": call,
        "inputs_kwargs": dict(inputs),
        "outputs": [*outputs.values(), *([notice] if notice else [])],
        **quiet(),
    }


def unchanged(view: type[Shown], **fields: Any) -> Shown:
    """A view's result that leaves every widget as it is, except for these fields."""
    return view(**{**dict.fromkeys(view._fields, gr.skip()), **fields})


def on_any(*events: Any, inputs: Sequence[Any] = ()) -> Any:
    """These events, to be followed by any number of `.then`. No event means load and every change of an input.

    An event that has several functions of its own is dispatched anew, with all of them, whenever one of them had to
    wait for its earlier call (`always_last`). Two such events, as a page's load brings them, keep one another going for
    ever. So the event itself does nothing, in the browser, and each answer waits for itself alone.
    """
    return gr.on(list(events) or None, None, list(inputs), js="() => []", queue=False, show_progress="hidden")


def changes(inputs: Mapping[str, Any]) -> list[Any]:
    """The events of these widgets that say that a value has changed."""
    return [widget.change for widget in inputs.values() if hasattr(widget, "change")]


def show(view: View, *, triggers: Sequence[Any] = (), **wiring: Any) -> Any:
    """`wire`, on these events; none means load and every change of an input."""
    return on_any(*triggers, inputs=list(wiring["inputs"].values())).then(**wire(view, **wiring))


def quiet() -> dict[str, Any]:
    """What every event of the page shares: no overlay on the outputs, the last value wins, not part of the public API,
    and past the queue, which would add a second round trip to answers that take milliseconds.

    Past the queue answers come in any order. Events with the same outputs draw the same, and of those the page shows
    the answer to the newest (assets/js/newest.js): so what was drawn last is known to the browser too, not a State.

    Progress is shown on no component: for each event Gradio copies the whole state of every component on which any
    event has shown progress, and of all that is inside it, even where the progress is hidden. `Tabs` holds the page.
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
    """The same for an event that says what was clicked or written: each is sent. Of the last one that has to wait,
    Gradio would send what the first one said."""
    return {**quiet(), "trigger_mode": "multiple"}


def action(function: Callable) -> dict[str, Any]:
    """An event that does something and may fail. It goes through the queue: Gradio shows toasts only there."""
    return {**quiet(), "fn": function, "trigger_mode": "once", "queue": True}
