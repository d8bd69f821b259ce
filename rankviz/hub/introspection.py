"""A config.json laid out in a child process, and remembered by its content."""

import contextlib
import hashlib
import json
import os
import statistics
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rankviz.children import Bounds, Children
from rankviz.core.model.config_check import MAX_CONFIG_BYTES, parse_config, too_large
from rankviz.errors import BadConfigError
from rankviz.units import GIB

ANSWERS = 2
"""Raised by 1 when the worker's answer gets new fields, so that older cached answers are not used."""
TIMES = "seconds.txt"
LAST_TIMES = 10
"""Of layouts, kept in the cache to say how long the next one may take."""
BOUNDS = Bounds(seconds=60, memory_bytes=16 * GIB)
"""Of a caller without bounds of its own. A normal model takes seconds, and about 1 GiB with torch for the CPU."""


def introspect_config(path: Path, *, cache: Path | None = None, children: Children | None = None) -> dict[str, Any]:
    """The worker's introspection of a config.json: a ModelSpec as JSON, but for its name and source.

    BadConfigError where the config cannot be used, WorkerError where the worker ended for another reason.
    """
    size = path.stat().st_size
    if size > MAX_CONFIG_BYTES:
        raise BadConfigError(too_large(path.name, size))
    raw = path.read_bytes()
    parse_config(raw, name=path.name)
    key = hashlib.sha256(raw + f"{ANSWERS} {version('transformers')} {version('peft')}".encode()).hexdigest()[:32]
    remembered = cache / f"{key}.json" if cache else None
    if (facts := _read(remembered)) is not None:
        return facts
    children = children or Children(BOUNDS)
    with children.turn(key):
        if (facts := _read(remembered)) is None:  # while this one waited
            request, began = {"config": str(path.resolve())}, time.monotonic()
            facts = children.ask("introspect", request, about=path.name, error=BadConfigError, key=key)
            if remembered is not None:
                _write(remembered, facts)
                _note_seconds(cache, time.monotonic() - began)
    return facts


def usual_seconds(cache: Path) -> float | None:
    """What laying out a model has taken here, the median of the last ones; None where there were none yet."""
    try:
        took = [float(line) for line in (cache / TIMES).read_text().split()[-LAST_TIMES:]]
    except (OSError, ValueError):
        return None
    return statistics.median(took) if took else None


def _note_seconds(cache: Path, seconds: float) -> None:
    with contextlib.suppress(OSError):  # it would only have been said to who waits
        before = (cache / TIMES).read_text().split() if (cache / TIMES).exists() else []
        (cache / TIMES).write_text("\n".join([*before, f"{seconds:.2f}"][-LAST_TIMES:]) + "\n")


def _read(path: Path | None) -> dict[str, Any] | None:
    with contextlib.suppress(ValueError, OSError):
        return json.loads(path.read_bytes()) if path else None
    return None


def _write(path: Path, facts: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(facts))
    partial.replace(path)
