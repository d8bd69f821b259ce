"""A config.json laid out in a worker process, under limits of time and memory, and remembered by its content."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rankviz.core.model.config_check import MAX_CONFIG_BYTES, parse_config, too_large
from rankviz.errors import BadConfigError, WorkerError
from rankviz.paths import IMPORT_ROOT
from rankviz.units import GIB

COMMAND = (sys.executable, "-m", "rankviz.worker", "introspect")
TIMEOUT_S = 60
CPU_SECONDS_PER_SECOND = 2
LOG_TAIL = 2000
"""Characters of the worker's log in an error."""
ANSWERS = 2
"""Raised by 1 when the worker's answer gets new fields, so that older cached answers are not used."""
MEMORY_BYTES = 16 * GIB
"""Of address space: torch for the CPU takes 0.7 GiB, torch for CUDA several, a model on the meta device little."""


def introspect_config(
    path: Path,
    *,
    cache: Path | None = None,
    command: Sequence[str] = COMMAND,
    timeout_s: float = TIMEOUT_S,
    memory_bytes: int = MEMORY_BYTES,
) -> dict[str, Any]:
    """The worker's introspection of a config.json: a ModelSpec as JSON, but for its name and source.

    BadConfigError where the config cannot be used, WorkerError where the worker ended for another reason.
    """
    size = path.stat().st_size
    if size > MAX_CONFIG_BYTES:
        raise BadConfigError(too_large(path.name, size))
    raw = path.read_bytes()
    parse_config(raw, name=path.name)
    remembered = _remembered(raw, cache)
    if remembered is not None and remembered.is_file():
        with contextlib.suppress(ValueError):
            return json.loads(remembered.read_bytes())
    facts = _run(path, command=command, timeout_s=timeout_s, memory_bytes=memory_bytes)
    if remembered is not None:
        _write(remembered, facts)
    return facts


def _run(path: Path, *, command: Sequence[str], timeout_s: float, memory_bytes: int) -> dict[str, Any]:
    limits = [
        "--memory-bytes",
        str(memory_bytes),
        "--cpu-seconds",
        str(max(1, round(CPU_SECONDS_PER_SECOND * timeout_s))),
    ]
    worker = subprocess.Popen(
        [*command, str(path.resolve()), *limits],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=IMPORT_ROOT,
        start_new_session=True,
    )
    try:
        output, log = worker.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise BadConfigError(
            f"Building the model of {path.name} took more than {timeout_s:g} s, so RankViz stopped: "
            "a normal model takes seconds. Check the sizes in the file."
        ) from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.communicate()
    if worker.returncode == -signal.SIGXCPU:
        raise BadConfigError(f"Building the model of {path.name} used too much CPU time: check the sizes in the file.")
    try:
        facts = json.loads(output)
    except ValueError:
        facts = None
    if not isinstance(facts, dict) or worker.returncode not in (0, 2):
        tail = log.decode(errors="replace")[-LOG_TAIL:]
        raise WorkerError(
            f"The process that builds the model of {path.name} ended with code {worker.returncode} and no answer: "
            "it may have run out of memory.",
            exit_code=worker.returncode,
            log_tail=tail,
        )
    if "error" in facts:
        raise BadConfigError(facts["message"])
    return facts


def _remembered(raw: bytes, cache: Path | None) -> Path | None:
    """The file that remembers this config as these libraries build it."""
    if cache is None:
        return None
    key = hashlib.sha256(raw + f"{ANSWERS} {version('transformers')} {version('peft')}".encode()).hexdigest()
    return cache / f"{key[:32]}.json"


def _write(path: Path, facts: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(facts))
    partial.replace(path)
