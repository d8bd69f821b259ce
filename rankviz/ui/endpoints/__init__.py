"""The named HTTP endpoints and MCP tools, /gradio_api/call/<name>. Their schemas come from the functions' docstrings.

Each calls an operation of rankviz.api as the visitor who asks (ui.blocks). All go through Gradio's queue: what is past
it, MCP would call without asking for a login.
"""

from itertools import chain

import gradio as gr

from rankviz.api import Api
from rankviz.ui.endpoints import cost, quality, training
from rankviz.ui.endpoints.gate import checked
from rankviz.ui.endpoints.results import as_json


def publish(api: Api) -> None:
    """Register the endpoints. None waits for another here: the operations know what only a few may do at once, and let
    visitors take turns."""
    kinds = (cost.operations, quality.operations, training.looking, training.changing, quality.adapter_operations)
    for operation in chain.from_iterable(kind(api) for kind in kinds):
        gr.api(
            as_json(checked(operation)),
            api_name=operation.__name__,
            queue=True,
            concurrency_limit=None,
        )
