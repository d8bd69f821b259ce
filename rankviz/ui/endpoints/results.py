"""What endpoints return: numbers that JSON has, lists in parts, curves of a bounded length, files to fetch."""

from collections.abc import Callable, Iterable
from functools import wraps
from itertools import islice
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import gradio as gr

from rankviz.core.bounds import whole
from rankviz.ui.parts.charts import finite

MAX_PART = 500
"""Entries that one call returns."""

Entry = TypeVar("Entry")


class FileJSON(TypedDict):
    """A file that this call made: Gradio's clients fetch it, others read `url`."""

    path: str
    orig_name: str
    meta: dict[str, str]


def as_json(operation: Callable[..., Any]) -> Callable[..., Any]:
    """The operation with null in place of numbers that JSON does not have."""

    @wraps(operation)
    def call(*args: Any, **kwargs: Any) -> Any:
        return finite(operation(*args, **kwargs))

    return call


def check_part(limit: int, offset: int) -> None:
    """InvalidSettingError where this is no part of a list."""
    whole(limit, "limit", 1, MAX_PART)
    whole(offset, "offset", 0, 10**9)


def part(entries: Iterable[Entry], limit: int, offset: int) -> list[Entry]:
    """So many entries from this one on."""
    check_part(limit, offset)
    return list(islice(entries, offset, offset + limit))


def file(path: Path) -> FileJSON:
    """A file for whoever asked."""
    return FileJSON(path=str(path), orig_name=path.name, meta=gr.FileData(path=str(path)).model_dump()["meta"])
