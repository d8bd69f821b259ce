"""Makes the page's configuration smaller, which Gradio writes into the HTML: what its front end does not read goes."""

from collections.abc import Iterable, Mapping
from typing import Any

import gradio as gr
from gradio.blocks import BlocksConfig

from rankviz.ui.requests.readable import Functions

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
UNREAD_OF_PRIVATE_EVENTS = ("api_name",)
UNREAD_IN_THE_BROWSER = ("types", "queue", "show_progress", "show_progress_on")
"""Of events without a server function."""
FALSE_WITHOUT = (
    "trigger_only_on_success",
    "trigger_only_on_failure",
    "cancels",
    "component_prop_inputs",
    "event_specific_args",
)
EVENT_DEFAULTS = {"connection": "sse"}
COMPONENT_DEFAULTS = {"key": None}
PROP_DEFAULTS = {
    "visible": True,
    "_selectable": False,
    "equal_height": False,
    "show_progress": False,
    "variant": "default",  # of rows and columns
}
"""What the front end takes a component's key and these properties for, where they are absent."""
HTML_DEFAULTS = {
    "html_template": "${value}",
    "css_template": "",
    "component_class_name": "HTML",
    "elem_classes": [],
    "props": {},
    "buttons": [],
    "show_label": False,
    "autoscroll": False,
    "streamable": False,
}
"""The same for its HTML component."""


class SmallConfig(BlocksConfig):
    """What the page is made of, made smaller. Gradio asks for it four times before it serves; it is made once."""

    def __init__(self, root_block: gr.Blocks) -> None:
        super().__init__(root_block)
        self.fns = Functions(self.fns)
        self._configs: dict[tuple[Any, ...], dict[str, Any]] = {}

    def attach_load_events(self, rendered_in: Any = None) -> None:
        """Gradio's. What its components do when a page loads, as its login button does, is no endpoint."""
        before = set(self.fns)
        super().attach_load_events(rendered_in)
        for number in self.fns.keys() - before:
            self.fns[number].api_visibility = "private"

    def get_config(self, renderable: Any = None) -> dict[str, Any]:
        """Gradio's, smaller. Public endpoints keep their descriptions, and belong to no page: who calls them reads
        /config or /gradio_api/info, which tell of every page."""
        of = (renderable, len(self.blocks), len(self.fns))  # components and events are only ever added
        if of not in self._configs:
            self._configs[of] = self._small(super().get_config(renderable))
        return self._configs[of]

    def _small(self, config: dict[str, Any]) -> dict[str, Any]:
        public = [fn for fn in self.fns.values() if fn.api_visibility != "private"]
        described = {block._id for fn in public for block in (*fn.inputs, *fn.outputs)}
        for component in config["components"]:
            if component["id"] not in described:
                _remove(component, (*DESCRIPTIONS, *UNREAD_OF_COMPONENTS))
                _remove_defaults(component, COMPONENT_DEFAULTS)
                _remove(component["props"], UNREAD_PROPS)
                _remove_defaults(component["props"], PROP_DEFAULTS)
                if component["type"] == "html":
                    _remove_defaults(component["props"], HTML_DEFAULTS)
            if component["type"] == "number":
                component["props"].setdefault("value", None)  # Gradio leaves it out, and then shows 0
        endpoints = {fn._id for fn in public}
        for event in config["dependencies"]:
            _remove(event, UNREAD_OF_EVENTS)
            _remove(event, [name for name in event if event[name] is None])
            _remove(event, [name for name in FALSE_WITHOUT if not event.get(name)])
            _remove_defaults(event, EVENT_DEFAULTS)
            if event["id"] not in endpoints:
                _remove(event, UNREAD_OF_PRIVATE_EVENTS)
            event["targets"] = [target for target in event["targets"] if target[0] is not None]
            if not event["backend_fn"]:
                _remove(event, UNREAD_IN_THE_BROWSER)
        for page in config["page"].values():
            page["dependencies"] = [each for each in page["dependencies"] if each not in endpoints]
            page["components"] = [each for each in page["components"] if each not in described]
            page["layout"]["children"] = [each for each in page["layout"]["children"] if each["id"] not in described]
        return config


class SmallBlocks(gr.Blocks):
    """Blocks with a small configuration."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.default_config = SmallConfig(self)

    def get_api_info(self, all_endpoints: bool = False, page: str | None = None) -> Any:
        """Gradio's. Endpoints belong to no page, whose HTML would hold their description."""
        if page is not None:
            return {"named_endpoints": {}, "unnamed_endpoints": {}}
        return super().get_api_info(all_endpoints=all_endpoints)


def _remove(row: dict[str, Any], names: Iterable[str]) -> None:
    for name in names:
        row.pop(name, None)


def _remove_defaults(row: dict[str, Any], defaults: Mapping[str, Any]) -> None:
    _remove(row, [name for name in defaults if name in row and row[name] == defaults[name]])
