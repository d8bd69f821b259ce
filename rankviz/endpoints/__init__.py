"""Named HTTP endpoints and MCP tools, /gradio_api/call/<name>. Their schemas come from the functions' docstrings.

Each endpoint calls an operation of rankviz.api as the current visitor (ui.blocks). All go through Gradio's queue: MCP
would call an unqueued endpoint without asking for a login.
"""

from itertools import chain

import gradio as gr

from rankviz.api import Api
from rankviz.endpoints import planning, runs
from rankviz.endpoints.gate import checked


def publish(api: Api) -> None:
    """Register all endpoints, without limits on concurrent calls: the operations limit what is heavy."""
    kinds = (planning.planning, runs.reading, runs.changing)
    for operation in chain.from_iterable(kind(api) for kind in kinds):
        gr.api(checked(operation), api_name=operation.__name__, queue=True, concurrency_limit=None)
