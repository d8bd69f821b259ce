"""Makes the page's configuration smaller, which Gradio writes into the HTML: what its front end does not read goes."""

from collections.abc import Iterable
from typing import Any

import gradio as gr

DESCRIPTIONS = ("api_info", "api_info_as_input", "api_info_as_output", "example_inputs")
"""What Gradio's schema of the endpoints is made from: for each component three times what its value may be."""
UNREAD_OF_COMPONENTS = ("component_class_id", "skip_api")
"""The class is asked for where it is not one of Gradio's own. The names of these do."""
UNREAD_PROPS = ("preserved_by_key", "_retryable", "_undoable", "likeable")
"""Of components made anew while the page runs, and of chats."""
UNREAD_OF_EVENTS = (
    "batch",
    "max_batch_size",
    "stream_every",
    "scroll_to_output",
    "api_description",
    "collects_event_data",
)
"""RankViz streams and batches nothing, and its endpoints have their own description. The rest is for the server."""
FALSE_WITHOUT = ("trigger_only_on_success", "trigger_only_on_failure", "cancels", "component_prop_inputs")


class SmallBlocks(gr.Blocks):
    """Blocks with a small configuration."""

    def get_config_file(self) -> Any:
        """Gradio's, smaller. The components of public endpoints keep their descriptions."""
        config = super().get_config_file()
        public = [fn for fn in self.fns.values() if fn.api_visibility != "private"]
        described = {block._id for fn in public for block in (*fn.inputs, *fn.outputs)}
        for component in config["components"]:
            if component["id"] not in described:
                _remove(component, (*DESCRIPTIONS, *UNREAD_OF_COMPONENTS))
                _remove(component["props"], UNREAD_PROPS)
            if component["type"] == "number":
                component["props"].setdefault("value", None)  # Gradio leaves it out, and then shows 0
        for event in config["dependencies"]:
            _remove(event, UNREAD_OF_EVENTS)
            _remove(event, [name for name in event if event[name] is None])
            _remove(event, [name for name in FALSE_WITHOUT if not event.get(name)])
        return config


def _remove(row: dict[str, Any], names: Iterable[str]) -> None:
    for name in names:
        row.pop(name, None)
