"""A job as a folder that can be sent anywhere: a small runs folder with the job's runs and their data.

    job.json                        kind and attempts
    runs/RUN_ID/request.json        its data is a sample, or a path inside this folder
    runs/RUN_ID/events.jsonl        its first line says which attempt this is; the worker appends
    runs/RUN_ID/config.json         of a probe
    data/DIGEST/FILE                what the runs train on

`python -m rankviz.worker finetune FOLDER RUN_ID@ATTEMPT ...` runs it (`arguments`), and leaves worker.log, adapter/ and
cuts/ beside the journals. What comes back was written elsewhere: it is read as an import is, no link is followed, and
whatever is wrong with it is a matter of its own run.
"""

import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from rankviz.core.bounds import INSIDE
from rankviz.core.runs.events import AdapterCut, AdapterSaved, Attempt, AttemptPlaced
from rankviz.core.runs.request import RunRequest
from rankviz.engines.engine import Job, Kind
from rankviz.errors import OF_NAMES, BadAdapterError, EngineError, quoted
from rankviz.references import References
from rankviz.store import RunStore
from rankviz.store.durable import digest_of, write_durably
from rankviz.store.journal import append_events, parse_lines, request_text
from rankviz.store.runs import path_in_run

JOB_FILE = "job.json"
LOG_BYTES = 2**20
"""Of a log so much is brought back, its end."""
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
MAX_FILES = 2000
"""Of an adapter and its cuts."""
ADAPTER = re.compile(r"adapter|cuts/[A-Za-z0-9_-]+")
"""Where a worker saves adapters. Other names of a run's folder are RankViz's own."""


def pack(store: RunStore, job: Job, folder: Path, *, engine: str, sees_folders: bool = False) -> None:
    """Write a job into a new folder.

    EngineError where it needs a base that is a folder of this machine; UserError where its owner may not read what a
    request names.

    Args:
        sees_folders: Whether who runs it sees the folders of this machine under the same paths.
    """
    folder.mkdir(parents=True)
    sent: dict[Path, Path] = {}
    for attempt in job.attempts:
        record = store.record(attempt.run_id)
        request, target = record.request, folder / "runs" / attempt.run_id
        target.mkdir(parents=True)
        if isinstance(request, RunRequest):
            request = _travelling(store, request, folder, sent, sees_folders=sees_folders)
        else:
            shutil.copyfile(store.run_dir(attempt.run_id) / "config.json", target / "config.json")
        (target / "request.json").write_text(request_text(request), encoding="utf-8")
        placed = AttemptPlaced(time=time.time(), attempt=attempt.number or record.attempt, engine=engine)
        append_events(journal(folder, attempt.run_id), [placed])
    content = {"kind": job.kind, "attempts": [str(attempt) for attempt in job.attempts]}
    write_durably(folder / JOB_FILE, json.dumps(content))


def read_json(file: Path) -> Any:
    """What a small file holds. ValueError where it is not there or damaged; OSError where that may go better later."""
    try:
        return json.loads(file.read_bytes())
    except RecursionError as error:
        raise ValueError(str(error)) from None
    except OSError as error:
        if error.errno not in OF_NAMES:
            raise
        raise ValueError(error.strerror) from None


def read_job(folder: Path) -> Job:
    """The job of a packed folder. EngineError where that cannot be read; OSError where that may go better later."""
    try:
        content = read_json(folder / JOB_FILE)
        job = Job(attempts=tuple(Attempt.parse(text) for text in content["attempts"]), kind=content["kind"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise EngineError(f"What is written down of its job cannot be read ({folder.name}/{JOB_FILE}).") from None
    if not job.attempts or job.kind not in get_args(Kind):
        raise EngineError(f"What is written down of its job makes no sense ({folder.name}/{JOB_FILE}).")
    return job


def folder_of(job: Job, place: Path) -> Path:
    """Where a job lies or is to lie."""
    return place / job.name.replace("@", "-a")


def arguments(job: Job, folder: str | Path) -> Sequence[str]:
    """What comes after `python` to run the job of a packed folder."""
    return ["-m", "rankviz.worker", job.kind, str(folder), *map(str, job.attempts)]


def journal(folder: Path, run_id: str) -> Path:
    return folder / "runs" / run_id / "events.jsonl"


def since(folder: Path, run_id: str, offset: int, most: int = 2**22) -> bytes:
    """What a run's journal in a folder holds from an offset on; nothing where it is not there, or no plain file."""
    path = journal(folder, run_id)
    if not _is_file(path):
        return b""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(most)
    except OSError as error:
        if error.errno not in OF_NAMES:
            raise
        return b""


def collect(folder: Path, run_id: str, target: Path) -> None:
    """Copy what a run left in a folder into the run's own: the adapters that its journal names, whole, and the end of
    its log. EngineError where one is not there as the journal says, or cannot be copied; OSError where that may go
    better later."""
    try:
        _collect(folder, run_id, target)
    except OSError as error:
        if error.errno not in OF_NAMES:
            raise
        raise EngineError(f"What it left cannot be copied ({error.strerror}).") from error


def _collect(folder: Path, run_id: str, target: Path) -> None:
    source = folder / "runs" / run_id
    _copy_log(source / "worker.log", target / "worker.log")
    if problem := missing(folder, run_id):
        raise EngineError(problem)
    for relative in saved(folder, run_id):
        weights = path_in_run(source, relative) / WEIGHTS
        aside = target / f".{secrets.token_hex(4)}"
        try:
            _copy_files(weights.parent, aside)
            shutil.rmtree(target / relative, ignore_errors=True)
            (target / relative).parent.mkdir(parents=True, exist_ok=True)
            os.replace(aside, target / relative)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def missing(folder: Path, run_id: str) -> str:
    """Which adapter is not there as the run's journal says, as a sentence; empty where all are."""
    for relative, size in saved(folder, run_id).items():
        if not ADAPTER.fullmatch(relative):
            return f"The journal names the adapter {quoted(relative)}, and no worker saves one there."
        try:
            weights = path_in_run(folder / "runs" / run_id, relative) / WEIGHTS
        except BadAdapterError as error:
            return str(error)
        if not _is_file(weights) or (size is not None and weights.stat().st_size != size):
            return f"{relative}/{WEIGHTS} did not arrive whole."
        if not _is_whole(weights.with_name(CONFIG)):
            return f"{relative}/{CONFIG} did not arrive whole."
    return ""


def _travelling(
    store: RunStore, request: RunRequest, folder: Path, sent: dict[Path, Path], *, sees_folders: bool
) -> RunRequest:
    """The request as it can be read in the folder, with its data there.

    sent: Files of data that are there already, by where they were copied from; this adds its own.
    """
    owner = store.ownership(request.run_id).owner
    known = References.of_runs(store.home, owner)
    base, data = known.model(request.base), known.data(request.data)
    if base.path and not sees_folders:
        raise EngineError(
            f"The base {base.path.name!r} is a folder of this machine, and weights are not sent. Give it as a Hub id."
        )
    if data.path is None:
        return request
    if data.path not in sent:
        sent[data.path] = _copy_data(data.path, folder)
    return replace(request, data=str(sent[data.path]))


def _copy_data(file: Path, folder: Path) -> Path:
    """A copy in the folder, by what it contains; returns its path there."""
    aside = folder / "data" / secrets.token_hex(4)
    aside.parent.mkdir(exist_ok=True)
    shutil.copyfile(file, aside)
    path = Path("data") / digest_of(aside) / f"data{file.suffix}"
    (folder / path).parent.mkdir(exist_ok=True)
    os.replace(aside, folder / path)
    return path


def saved(folder: Path, run_id: str) -> dict[str, int | None]:
    """Folders of adapters by the journal, with the bytes of their weights where it has them."""
    saved: dict[str, int | None] = {}
    for event in parse_lines(since(folder, run_id, 0, most=2**30)):
        if isinstance(event, AdapterSaved | AdapterCut) and event.path:
            saved[event.path] = event.file_bytes
    return saved


def _copy_log(source: Path, target: Path) -> None:
    if _is_file(source):
        with source.open("rb") as log:
            log.seek(max(0, source.stat().st_size - LOG_BYTES))
            target.write_bytes(log.read(LOG_BYTES))


def _copy_files(source: Path, target: Path) -> None:
    """Plain files with plain names."""
    target.mkdir(parents=True)
    for number, file in enumerate(_files(source)):
        relative = file.relative_to(source)
        if number >= MAX_FILES:
            raise EngineError(f"The adapter has more than {MAX_FILES:,} files.")
        if INSIDE.fullmatch(str(relative)):
            (target / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target / relative, follow_symlinks=False)


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.rglob("*")) if _is_file(file))


def _is_whole(config: Path) -> bool:
    """False where it is the beginning of an adapter's settings."""
    try:
        return not _is_file(config) or isinstance(json.loads(config.read_bytes()), dict)
    except (ValueError, RecursionError):
        return False


def _is_file(path: Path) -> bool:
    """Itself, and not by a link. OSError where that may be seen later."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError as error:
        if error.errno not in OF_NAMES:
            raise
        return False
