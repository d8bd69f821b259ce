"""A job packed as a folder that can be sent anywhere: a small runs folder with the job's runs and their data.

    job.json                        kind and attempts
    runs/RUN_ID/request.json        its data is a sample, or a path inside this folder
    runs/RUN_ID/events.jsonl        its first line says which attempt this is; the worker appends
    runs/RUN_ID/config.json         only of a probe
    data/DIGEST/FILE                training data

`python -m rankviz.worker finetune FOLDER RUN_ID@ATTEMPT ...` runs it (`arguments`), and leaves worker.log, adapter/
and cuts/ beside the journals. Files that come back are not trusted: they are checked like an import, no link is
followed, and a damaged file fails only its own run.
"""

import contextlib
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from rankviz.core.bounds import INSIDE
from rankviz.core.runs.events import AdapterCut, AdapterSaved, Attempt, AttemptPlaced
from rankviz.core.runs.request import RunRequest
from rankviz.errors import OF_NAMES, BadAdapterError, EngineError, quoted
from rankviz.jobs.engine import Job, Kind
from rankviz.references import References
from rankviz.store import RunStore
from rankviz.store.durable import digest_of, write_durably
from rankviz.store.journal import append_events, parse_lines, request_text
from rankviz.store.runs import path_in_run

JOB_FILE = "job.json"
FOLDER = re.compile(r"[^.].*-a[0-9]+")
"""Name of a job's folder: RUN_ID-aATTEMPT."""
LOG_BYTES = 2**20
"""Bytes copied from the end of a worker's log."""
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
MAX_FILES = 2000
"""Number of files that a run's adapters may have, truncated ones included."""
ADAPTER = re.compile(r"adapter|cuts/[A-Za-z0-9_-]+")
"""Relative paths where a worker saves adapters. All other names in a run's folder are reserved for RankViz."""


def pack(store: RunStore, job: Job, folder: Path, *, engine: str, sees_folders: bool = False) -> None:
    """Write a job into a new folder; raise EngineError where its base is a folder of this machine that the job cannot
    see, and UserError where the job's owner may not read a file that a request names. sees_folders: True where the job
    sees the folders of this machine under the same paths."""
    folder.mkdir(parents=True)
    sent: dict[Path, Path] = {}
    for attempt in job.attempts:
        record = store.record(attempt.run_id)
        request, target = record.request, folder / "runs" / attempt.run_id
        target.mkdir(parents=True)
        if isinstance(request, RunRequest):
            request = _with_data(store, request, folder, sent, sees_folders=sees_folders)
        else:
            shutil.copyfile(store.run_dir(attempt.run_id) / "config.json", target / "config.json")
        (target / "request.json").write_text(request_text(request), encoding="utf-8")
        placed = AttemptPlaced(time=time.time(), attempt=attempt.number or record.attempt, engine=engine)
        append_events(journal(folder, attempt.run_id), [placed])
    write_job(folder, job)


def _with_data(
    store: RunStore, request: RunRequest, folder: Path, sent: dict[Path, Path], *, sees_folders: bool
) -> RunRequest:
    """Copy the data file of a request into the job's folder, and return the request with the new path. `sent` maps
    each file that was copied before to its path in the folder, so that runs share one copy."""
    known = References.of_runs(store.home, store.ownership(request.run_id).owner)
    base, data = known.model(request.base), known.data(request.data).path
    if base.path and not sees_folders:
        raise EngineError(
            f"The base {base.path.name!r} is a folder of this machine, and weights are not sent. Give it as a Hub id."
        )
    if data is None:
        return request
    if data not in sent:
        aside = folder / "data" / secrets.token_hex(4)
        aside.parent.mkdir(exist_ok=True)
        shutil.copyfile(data, aside)
        sent[data] = Path("data") / digest_of(aside) / f"data{data.suffix}"
        (folder / sent[data]).parent.mkdir(exist_ok=True)
        os.replace(aside, folder / sent[data])
    return replace(request, data=str(sent[data]))


def write_job(folder: Path, job: Job) -> None:
    content = {"kind": job.kind, "attempts": [str(attempt) for attempt in job.attempts]}
    write_durably(folder / JOB_FILE, json.dumps(content))


def read_job(folder: Path) -> Job:
    """Read a packed job; raise EngineError where job.json is damaged, and OSError where a retry may help."""
    try:
        return job_of(json.loads((folder / JOB_FILE).read_bytes()))
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise EngineError(f"{JOB_FILE} is missing or damaged") from None


def job_of(content: Any) -> Job:
    """Return the job in job.json's content; raise ValueError, KeyError, TypeError or AttributeError if invalid."""
    job = Job(attempts=tuple(Attempt.parse(text) for text in content["attempts"]), kind=content["kind"])
    if not job.attempts or job.kind not in get_args(Kind):
        raise ValueError("no job")
    return job


def job_by_names(folder: Path) -> Job:
    """Return a job whose job.json is damaged, from the names of its files; raise OSError where they cannot be listed.
    Of all runs but the first, the attempt is 0: any."""
    name, _, number = folder.name.rpartition("-a")
    others = sorted({*os.listdir(folder / "runs")} - {name})
    return Job(attempts=(Attempt(name, int(number)), *(Attempt(run_id, 0) for run_id in others)))


def folders_in(place: Path) -> Sequence[Path]:
    """Return the job folders in `place`, sorted; raise OSError where `place` cannot be listed now."""
    with contextlib.suppress(FileNotFoundError), os.scandir(place) as entries:
        # The spending limit of a sweep is a file beside them, whose name may end alike.
        return sorted(place / entry.name for entry in entries if FOLDER.fullmatch(entry.name) and entry.is_dir())
    return []


def folder_of(job: Job, place: Path) -> Path:
    return place / job.name.replace("@", "-a")


def arguments(job: Job, folder: str | Path) -> Sequence[str]:
    """Return the arguments of `python` that run the job of a packed folder."""
    return ["-m", "rankviz.worker", job.kind, str(folder), *map(str, job.attempts)]


def journal(folder: Path, run_id: str) -> Path:
    return folder / "runs" / run_id / "events.jsonl"


def since(folder: Path, run_id: str, offset: int, most: int = 2**22) -> bytes:
    """Read up to `most` bytes of a run's journal from an offset on; empty where there is no plain file."""
    path = journal(folder, run_id)
    try:
        if not _is_file(path):
            return b""
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(most)
    except FileNotFoundError:
        return b""


def saved(folder: Path, run_id: str) -> Mapping[str, int | None]:
    """Map each adapter folder named in a run's journal to the bytes of its weights (None where not given)."""
    events = parse_lines(since(folder, run_id, 0, most=2**30))
    return {each.path: each.file_bytes for each in events if isinstance(each, AdapterSaved | AdapterCut) and each.path}


def missing(folder: Path, run_id: str) -> str:
    """Return a sentence about an adapter that the run's journal names and that is missing or incomplete, or ""."""
    for relative, size in saved(folder, run_id).items():
        if not ADAPTER.fullmatch(relative):
            return f"The adapter path {quoted(relative)} in the journal is not valid."
        try:
            weights = path_in_run(folder / "runs" / run_id, relative) / WEIGHTS
        except BadAdapterError as error:
            return str(error)
        if not _is_file(weights) or (size is not None and weights.stat().st_size != size):
            return f"{relative}/{WEIGHTS} did not arrive whole."
        try:
            if _is_file(config := weights.with_name(CONFIG)):
                json.loads(config.read_bytes())
        except (ValueError, RecursionError):
            return f"{relative}/{CONFIG} did not arrive whole."
    return ""


def collect(folder: Path, run_id: str, target: Path) -> None:
    """Copy a run's results from a job's folder into the run's own folder `target`: the end of the log, and every
    adapter of the journal. Raise EngineError where an adapter is missing or cannot be copied, OSError where a retry
    may help."""
    source = folder / "runs" / run_id
    try:
        if _is_file(log := source / "worker.log"):
            with log.open("rb") as file:
                file.seek(max(0, log.stat().st_size - LOG_BYTES))
                (target / "worker.log").write_bytes(file.read(LOG_BYTES))
        if problem := missing(folder, run_id):
            raise EngineError(problem)
        for relative in saved(folder, run_id):
            aside = target / f".{secrets.token_hex(4)}"
            try:
                _copy_files(path_in_run(source, relative), aside)
                shutil.rmtree(target / relative, ignore_errors=True)
                (target / relative).parent.mkdir(parents=True, exist_ok=True)
                os.replace(aside, target / relative)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        if error.errno not in OF_NAMES:
            raise
        raise EngineError(f"What it left cannot be copied ({error.strerror}).") from error


def _copy_files(source: Path, target: Path) -> None:
    """Copy plain files with plain names below `source`; raise EngineError above MAX_FILES files."""
    target.mkdir(parents=True)
    for number, file in enumerate(each for each in sorted(source.rglob("*")) if _is_file(each)):
        relative = file.relative_to(source)
        if number >= MAX_FILES:
            raise EngineError(f"The adapter has more than {MAX_FILES:,} files.")
        if INSIDE.fullmatch(str(relative)):
            (target / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target / relative, follow_symlinks=False)


def _is_file(path: Path) -> bool:
    """Return True where the path is a plain file, not a link."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
