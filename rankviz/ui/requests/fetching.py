"""No address is ever fetched for whoever sends a request. Gradio would fetch that of each file argument before any
check of ours, and any that stands behind its own address of files."""

from typing import Any

import gradio as gr
import safehttpx
from gradio import processing_utils

FETCHERS = (
    (processing_utils, "async_ssrf_protected_download"),
    (processing_utils, "async_ssrf_protected_get"),
    (safehttpx, "get"),
    (safehttpx, "async_validate_url"),
)
"""By module and name, all through which Gradio reaches another server for a request. The first comes before it makes a
folder for what it would fetch."""


def refuse() -> None:
    """For all pages of this process."""
    for module, name in FETCHERS:
        setattr(module, name, _refused)


async def _refused(*_: Any, **__: Any) -> Any:
    raise gr.Error("This server fetches no addresses. Upload the file, and send its path on the server instead.")
