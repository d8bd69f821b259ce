"""Prints what the Hub says of a model or an adapter, or where an adapter is that it has fetched."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rankviz.worker.answering import answer, request_in

SETTINGS = {
    "HF_HUB_DISABLE_TELEMETRY": "1",  # with it a process asks the Hub for one more file, and waits for that
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DOWNLOAD_TIMEOUT": "5",
}
"""Of huggingface_hub, which reads them when it is imported."""
OWN_FOLDERS = {"HF_XET_CACHE": "xet", "HF_ASSETS_CACHE": "assets"}
"""Where huggingface_hub would leave parts of a download: in this child's folder they go with it."""


def main(argv: Sequence[str]) -> int:
    folder = Path(argv[0])
    os.environ.update(SETTINGS | {name: str(folder / part) for name, part in OWN_FOLDERS.items()})
    request = request_in(argv[0])
    return answer(lambda: WHAT[request.pop("what")](folder, **request))


def config(work: Path, repo_id: str, suggestions: Sequence[str], folder: str) -> Mapping[str, Any]:
    from rankviz.hub.remote import fetch_config

    found = fetch_config(repo_id, Path(folder), suggestions=suggestions)
    return {**found._asdict(), "path": str(found.path)}


def adapter(work: Path, repo_id: str, max_bytes: int, copies: str, read: str) -> Mapping[str, Any]:
    from rankviz.hub.adapter import fetch_adapter

    found = fetch_adapter(repo_id, max_bytes=max_bytes, copies=copies, read=read, work=work)
    return {"folder": str(found)}


def weights(work: Path, repo_id: str) -> Mapping[str, Any]:
    from rankviz.hub.reach import weight_bytes_to_fetch

    return {"bytes": weight_bytes_to_fetch(repo_id, work)}


def reach(work: Path) -> Mapping[str, Any]:
    from rankviz.hub.reach import ask_hub

    return asdict(ask_hub())


WHAT: Mapping[str, Callable[..., Mapping[str, Any]]] = {
    "config": config,
    "adapter": adapter,
    "weights": weights,
    "reach": reach,
}
