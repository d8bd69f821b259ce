"""The named HTTP endpoints and MCP tools, /gradio_api/call/<name>. Their schemas come from the functions' docstrings.

Each calls an operation of rankviz.api as the visitor who asks (ui.blocks). All go through Gradio's queue: what is past
it, MCP would call without asking for a login.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gradio as gr

from rankviz.api import Api
from rankviz.ui.endpoints import adapters, cost, quality, training
from rankviz.ui.endpoints.gate import checked
from rankviz.ui.endpoints.results import as_json
from rankviz.ui.wiring import with_messages

HEAVY_AT_ONCE = 2
"""Calls that start or end training, or that read or write files."""


class Group(NamedTuple):
    operations: Sequence[Callable[..., Any]]
    name: str | None = None
    """Of those that wait for one another; None where none does."""


def publish(api: Api) -> None:
    """Register the endpoints."""
    groups = [
        Group(cost.operations(api)),
        Group(quality.operations(api)),
        Group(training.looking(api)),
        Group(training.changing(api), "training"),
        Group(adapters.operations(api), "files"),
    ]
    for operations, name in groups:
        for operation in operations:
            gr.api(
                with_messages(as_json(checked(operation))),
                api_name=operation.__name__,
                queue=True,
                concurrency_limit=HEAVY_AT_ONCE if name else None,
                concurrency_id=name,
            )
