"""The named HTTP endpoints and MCP tools, /gradio_api/call/<name>. Their schemas come from the functions' docstrings.

Each calls an operation of rankviz.api as the current visitor (ui.blocks). All go through Gradio's queue: MCP would call
what is past it without asking for a login.
"""

from itertools import chain

import gradio as gr

from rankviz.api import Api
from rankviz.endpoints import planning, runs
from rankviz.endpoints.gate import checked


def publish(api: Api) -> None:
    """Register the endpoints. None waits for another here: the operations know what only a few may do at once."""
    kinds = (planning.costs, planning.quality, runs.reading, runs.changing, planning.adapters)
    for operation in chain.from_iterable(kind(api) for kind in kinds):
        gr.api(checked(operation), api_name=operation.__name__, queue=True, concurrency_limit=None)
