"""How far uploads have come, which Gradio tells the browser. It keeps that of every name that was ever asked for."""

import asyncio

from gradio import routes
from gradio.route_utils import FileUploadProgressTracker
from gradio.utils import LRUCache

MOST = 1000
"""Uploads, the newest; of an older one that is still coming, a browser is told less."""


class Signals(LRUCache[str, asyncio.Event]):
    """Whether an upload of this name has begun."""

    def __missing__(self, name: str) -> asyncio.Event:
        self[name] = signal = asyncio.Event()
        return signal


def bound(most: int = MOST) -> None:
    """For all servers of this process."""
    kept: LRUCache[str, FileUploadProgressTracker] = LRUCache(most)
    routes.file_upload_statuses._statuses = kept
    routes.file_upload_statuses._signals = Signals(most)
