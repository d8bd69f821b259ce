"""Named HTTP endpoints and MCP tools, /gradio_api/call/<name>. Their schemas come from the functions' docstrings.

Each endpoint calls an operation of rankviz.api as the current visitor (ui.blocks). All go through Gradio's queue: MCP
would call an unqueued endpoint without asking for a login.
"""

import gradio as gr

from rankviz.api import Api
from rankviz.endpoints import planning, runs
from rankviz.endpoints.gate import checked

READS = {"readOnlyHint": True, "openWorldHint": False}
LOOKS_UP = {"readOnlyHint": True, "openWorldHint": True}
"""Annotations of tools that may ask the Hugging Face Hub for a model or an adapter."""
ADDS = {"readOnlyHint": False, "destructiveHint": False, "idempotentHint": True, "openWorldHint": False}
SHARES = ADDS | {"openWorldHint": True}
ENDS = ADDS | {"destructiveHint": True}
COSTS = {"readOnlyHint": False, "destructiveHint": True, "idempotentHint": False, "openWorldHint": True}
"""Annotations of tools that start trainings, which take a machine's time and may cost money."""
TOOLS = {
    **{name: ("model", LOOKS_UP) for name in ("estimate", "fit", "serving", "export", "studies")},
    **{name: ("", LOOKS_UP) for name in ("advise", "forecast")},
    **{name: ("", READS) for name in ("models", "gpus", "runs")},
    **{"verdict": ("sweep_id", READS), "status": ("sweep_id", READS), "run": ("run_id", READS)},
    **{"spectrum": ("adapter", LOOKS_UP), "resize": ("adapter", SHARES), "export_runs": ("ids", ADDS)},
    **{"start_sweep": ("", COSTS), "resume": ("sweep_id", COSTS), "share": ("id", SHARES)},
    **{"cancel": ("id", ENDS), "delete": ("id", ENDS), "delete_uploads": ("", ENDS)},
}
"""By endpoint: the argument that a call must give, empty for none, and MCP's annotations of the tool."""


def publish(api: Api) -> None:
    """Register all endpoints, without limits on concurrent calls: the operations limit what is heavy."""
    for operation in (*planning.planning(api), *runs.reading(api), *runs.changing(api)):
        gr.api(checked(operation), api_name=operation.__name__, queue=True, concurrency_limit=None)
