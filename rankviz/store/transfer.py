"""Export of runs as a zip (requests, journals and two CSV files, no adapters), and import of such a zip."""

import hashlib
import re
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from rankviz.core.bounds import name_alone, shown
from rankviz.core.cells import csv_text
from rankviz.core.from_json import Misfit, as_answer
from rankviz.core.runs.events import StepLogged
from rankviz.core.runs.record import RunRecord, Sweep
from rankviz.core.runs.request import RunRequest
from rankviz.errors import InvalidSettingError, LimitError, RunNotFoundError
from rankviz.store.journal import (
    MAX_REQUEST_BYTES,
    NO_ONES,
    OnDisk,
    Ownership,
    line_of,
    parse_request,
    read_events,
    request_text,
    with_lists_on_disk,
)
from rankviz.store.runs import IMPORTED, RunStore

SUMMARY, LOSSES = "summary.csv", "losses.csv"
LOSS_COLUMNS = {
    "sweep_id": str,
    "rank": int,
    "learning_rate": float,
    "seed": int,
    "example": int,
    "loss": float,
    "target_tokens": int,
    "correct_tokens": int,
    "exact_match": int,
}
"""Type of each column of loss_rows; an unknown value is None."""


def export_runs(
    stores: Sequence[RunStore], run_ids: Sequence[str], target: Path, shown: Callable[[Any], Any] = lambda item: item
) -> Path:
    """Write the ended ones of these runs into the zip `target`; return its path. Each run is searched in the stores in
    order; raise RunNotFoundError where no store has it. Lines that are not events become empty lines.

    shown: Returns a request or an event as the reader of the zip may see it.
    """
    places = {each: next((s for s in stores if s.run_dir(each).is_dir()), stores[-1]) for each in run_ids}
    records = [record for run_id, store in places.items() if (record := store.get(run_id)).state.ended]
    records = [replace(record, request=shown(record.request)) for record in records]
    if not records:
        raise InvalidSettingError("None of these runs has ended yet: export them when they have.")
    try:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(SUMMARY, csv_text([summary_row(record) for record in records]))
            with archive.open(LOSSES, "w") as file:
                header = True
                for record in records:  # run by run: the examples of all may be millions
                    if rows := loss_rows(record):
                        file.write(csv_text(rows, header=header).encode())
                        header = False
            for record in records:
                archive.writestr(f"runs/{record.run_id}/request.json", request_text(record.request))
                journal = places[record.run_id].run_dir(record.run_id) / "events.jsonl"
                with journal.open("rb") as lines, archive.open(f"runs/{record.run_id}/events.jsonl", "w") as file:
                    events = read_events(lines)
                    file.writelines(b"\n" if event is None else line_of(shown(event)) for event in events)
    except BaseException as error:
        target.unlink(missing_ok=True)
        if isinstance(error, FileNotFoundError):  # deleted meanwhile
            raise RunNotFoundError(Path(error.filename).parent.name) from None
        raise
    return target


class SummaryRow(TypedDict):
    """Settings and results of a run; None means "not known". Losses are nats per token."""

    run_id: str
    sweep_id: str
    state: str
    base: str
    data: str
    r: int
    lora_alpha: float
    learning_rate: float
    seed: int
    max_steps: int
    steps_done: int
    loss_before: float | None
    loss_after: float | None
    gain: float | None
    token_accuracy_before: float | None
    token_accuracy_after: float | None
    exact_match_before: float | None
    exact_match_after: float | None
    exact_match_examples: int | None
    trainable_parameters: int | None
    adapter_bytes: int | None
    peak_memory_bytes: int | None
    peak_memory_kind: str | None
    train_seconds: float | None
    first_step_seconds: float | None
    step_seconds: float | None
    device: str | None


def summary_row(record: RunRecord) -> SummaryRow:
    """Return the row of a run in summary.csv."""
    request, after = record.request, record.loss_after
    asked = ("sweep_id", "base", "data", "r", "learning_rate", "seed", "max_steps")
    others: dict[str, Any] = {name: getattr(request, name) for name in asked}
    for name in ("peak_memory_bytes", "peak_memory_kind", "train_seconds"):
        others[name] = getattr(record.completed, name, None)
    for name in ("loss", "token_accuracy", "exact_match"):
        others[f"{name}_before"] = getattr(record.loss_before, name, None)
        others[f"{name}_after"] = getattr(after, name, None)
    return as_answer(
        SummaryRow,
        record,
        **others,
        state=record.state.value,
        lora_alpha=request.lora.lora_alpha,
        exact_match_examples=(after and after.answered) or None,
        device=record.environment.get("device_name"),
    )


def loss_rows(record: RunRecord) -> list[dict[str, object]]:
    """Return a row per held-out example, with the columns of LOSS_COLUMNS, for `rankviz verdict` to read. Losses are
    nats per token. Counts that were not measured for every example are None."""
    request, after = record.request, record.loss_after
    losses = after.example_losses if after else ()
    counts = [after.example_tokens, after.example_correct_tokens, after.example_exact_matches] if after else []
    columns = [each if len(each) == len(losses) else [None] * len(losses) for each in counts]
    settings = (request.sweep_id, request.lora.r, request.learning_rate, request.seed)
    rows = enumerate(zip(losses, *columns, strict=True))
    return [dict(zip(LOSS_COLUMNS, (*settings, example, *values), strict=True)) for example, values in rows]


MAX_ENTRIES = 4096
MAX_ARCHIVE_BYTES = 100_000_000
MAX_IMPORTED_ATTEMPTS = 100_000
"""Most attempts of an imported run; far below MAX_ATTEMPTS, so that the run can be queued again."""
RESERVED = ("sample", "embedded")
"""Names that an imported run or sweep may not have, because they have another meaning where a run can be named."""
MAX_ID, MARK = 100, 8
"""Most characters of an id, and the number of its last characters that depend on the importer."""
BEFORE_VALUES = (b",", b":", b"[", b"{")
"""Bytes before each JSON name or value. To count values without parsing, all are counted, those within texts too."""
_MEMBER = re.compile(r"runs/([A-Za-z0-9][A-Za-z0-9._-]{0,99})/(request\.json|events\.jsonl)")
_NO_ZIP = (OSError, zipfile.BadZipFile, zipfile.LargeZipFile, RuntimeError, EOFError, ValueError, zlib.error)


class ImportLimits(NamedTuple):
    """Limits for one imported zip. None means "no limit"."""

    unpacked_bytes: int = 200_000_000
    runs: int | None = None
    events: int = 2_000_000
    """Number of lines in one journal."""
    values: int | None = None
    """Number of names and values in all journals together; a million take half a second to read."""
    record_bytes: int | None = None
    """Bytes of memory that one run's record takes permanently."""


def read_export(source: Path, shipped: Iterable[Sweep], limits: ImportLimits) -> list[tuple[RunRequest, bytes]]:
    """Read and check the requests and journals in a zip, except runs that ship with RankViz. Raise InvalidSettingError
    for a file that is no export, and LimitError for one that is too large. A shared page calls this in a limited child
    process, because a zip's table of contents is read whole."""
    if not source.is_file():
        raise InvalidSettingError(f"There is no file {shown(str(source))}.")
    if source.stat().st_size > MAX_ARCHIVE_BYTES:
        raise LimitError(f"{source.name} is over {MAX_ARCHIVE_BYTES // 1_000_000} MB: not a RankViz export.")
    try:
        with zipfile.ZipFile(source) as archive:
            contents = _read_members(archive, limits)
    except _NO_ZIP as error:
        raise InvalidSettingError(f"{source.name} cannot be read as a RankViz export: it is no whole zip.") from error
    if not contents:
        raise InvalidSettingError("The zip holds no runs.")
    ids = {run.run_id for sweep in shipped for run in sweep.runs}
    if not (own := {run_id: files for run_id, files in contents.items() if run_id not in ids}):
        raise InvalidSettingError("These runs ship with RankViz, so they are here already; nothing was imported.")
    journals = [files.get("events.jsonl", b"") for files in own.values()]
    values = sum(journal.count(before) for journal in journals for before in BEFORE_VALUES)
    if limits.values is not None and values > limits.values:
        raise LimitError(
            f"The events of the runs in the zip have more than {limits.values:,} values together, the most that are "
            "imported at once. Export fewer runs at a time."
        )
    return [_checked(run_id, files, limits) for run_id, files in own.items()]


def _read_members(archive: zipfile.ZipFile, limits: ImportLimits) -> dict[str, dict[str, bytes]]:
    """Return the content of each file, as {run id: {file name: content}}."""
    if (count := len(archive.infolist())) > MAX_ENTRIES:
        raise LimitError(f"The zip holds {count:,} files, at most {MAX_ENTRIES:,} are read.")
    folders: dict[str, dict[str, bytes]] = {}
    left = limits.unpacked_bytes
    for member in archive.infolist():
        if member.filename in (SUMMARY, LOSSES) or member.is_dir():
            continue
        match = _MEMBER.fullmatch(member.filename)
        run_id, name = match.groups() if match else ("", "")
        is_packed_as_ours = member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        if not is_packed_as_ours or not run_id or name in folders.setdefault(run_id, {}):
            raise InvalidSettingError(f"The zip holds {shown(member.filename)}, which no RankViz export does.")
        if limits.runs is not None and len(folders) > limits.runs:
            raise LimitError(f"The zip holds more than {limits.runs:,} runs, the most that are imported at once.")
        most = min(left, MAX_REQUEST_BYTES) if name == "request.json" else left
        with archive.open(member) as file:
            data = file.read(most + 1)  # the header may give a wrong size
        if (left := left - len(data)) < 0:
            raise LimitError(f"The zip unpacks to more than {limits.unpacked_bytes // 1_000_000} MB.")
        folders[run_id][name] = data
    return folders


def _checked(run_id: str, files: Mapping[str, bytes], limits: ImportLimits) -> tuple[RunRequest, bytes]:
    """Check a run of the zip; return its request, and its journal with only events in it, other lines emptied."""
    subject = f"Run {run_id!r} in the zip"
    try:
        request = parse_request(files.get("request.json", b""))
    except (Misfit, InvalidSettingError) as error:
        raise InvalidSettingError(f"{subject} cannot be read, so nothing was imported. {error}") from None
    if not isinstance(request, RunRequest):
        raise InvalidSettingError(f"{subject} is a probe; only runs can be imported.")
    if request.run_id != run_id:
        raise InvalidSettingError(f"{subject} calls itself {request.run_id!r}.")
    journal = files.get("events.jsonl", b"")
    if (lines := journal.count(b"\n")) > limits.events:
        raise LimitError(f"{subject} has {lines:,} events; at most {limits.events:,} are imported.")
    events = list(read_events(BytesIO(journal)))
    known = [event for event in events if event is not None]
    record = RunRecord(request=request).after_all(known)
    if record.attempt > MAX_IMPORTED_ATTEMPTS:
        raise LimitError(f"{subject} was tried {record.attempt:,} times; at most {MAX_IMPORTED_ATTEMPTS:,} is allowed.")
    if not record.state.ended:
        raise InvalidSettingError(f"{subject} has not ended; only ended runs can be imported.")
    if (most := limits.record_bytes) is not None:
        light = RunRecord(request=request).after_all(event for event in known if not isinstance(event, StepLogged))
        if (size := _bytes_of(with_lists_on_disk(light, ("", 0, request)))) > most:
            raise LimitError(
                f"{subject} takes {size:,} bytes of memory, with its environment, truncations and messages; at "
                f"most {most:,} are imported. Look at it on a machine of your own."
            )
    return request, b"".join(b"\n" if event is None else line_of(event) for event in events)


def _bytes_of(value: Any) -> int:
    """Return the bytes of memory of an ended run's record, without lists on disk. An object that several records share
    counts in each of them; the journal part that a run's lists share does not count."""
    parts: Iterable = ()
    if isinstance(value, Mapping):
        parts = chain.from_iterable(value.items())
    elif isinstance(value, tuple):
        parts = value
    elif isinstance(value, OnDisk):
        parts = (value.count, value.summary)
    elif is_dataclass(value):
        parts = (getattr(value, field.name) for field in fields(value))
    return sys.getsizeof(value) + sum(map(_bytes_of, parts))


def publish_imported(
    store: RunStore,
    runs: Sequence[tuple[RunRequest, bytes]],
    shipped: Iterable[Sweep] = (),
    ownership: Ownership = NO_ONES,
    strangers: Sequence[str] = (),
) -> list[str]:
    """Publish the runs that read_export returned; return their ids. strangers: The importer's own ids, on a store that
    visitors share: runs and sweeps get new names, which cannot be other visitors'. Empty on a store of one user."""
    if strangers:
        own = {run_id.lower() for run_id in store.ids() if store.ownership(run_id).owner in strangers}
        if here := [request.run_id for request, _ in runs if request.run_id.lower() in own]:
            raise InvalidSettingError(f"Run {here[0]!r} is here already; nothing was imported.")
        runs = [(_renamed(request, strangers[0]), journal) for request, journal in runs]
    requests = [request for request, _ in runs]
    store.publish(
        {
            request.run_id: {"request.json": request_text(request), "events.jsonl": journal, IMPORTED: ""}
            for request, journal in runs
        },
        ownership,
        require=lambda: _require_new_names(requests, store, list(shipped), ownership),
        joins=requests,
    )
    return [request.run_id for request in requests]


def _renamed(request: RunRequest, owner: str) -> RunRequest:
    """Return the request without the folder of its data file, and with new names of run and sweep that depend on the
    importer. They are equal at each import, so that a second import of the same run is noticed."""

    def own_name(name: str) -> str:
        mark = hashlib.sha256(f"{owner}\n{name.lower()}".encode()).hexdigest()[:MARK]
        return f"{name[: MAX_ID - MARK - 1]}-{mark}"

    sweep_id, number = own_name(request.sweep_id), request.run_id.removeprefix(request.sweep_id)
    run_id = f"{sweep_id}{number}"
    if not number.startswith("-") or len(run_id) > MAX_ID:
        run_id = own_name(request.run_id)
    return replace(request, run_id=run_id, sweep_id=sweep_id, data=name_alone(request.data))


def _require_new_names(
    requests: Sequence[RunRequest], store: RunStore, shipped: Sequence[Sweep], ownership: Ownership
) -> None:
    """Raise InvalidSettingError where a run's name exists already, or a sweep's name exists for another owner. Names
    that differ only in capitals count as equal, because some disks store them as one folder."""
    folders, sweeps = store.ids(), {record.request.sweep_id for record in store.records()}
    fixed = {name for sweep in shipped for name in (sweep.sweep_id, *(run.run_id for run in sweep.runs))}
    joined = {request.sweep_id for request in requests} & sweeps
    for sweep_id in joined:
        if any(store.ownership(run.run_id).owner != ownership.owner for run in store.sweep(sweep_id).runs):
            raise InvalidSettingError(f"Sweep {sweep_id!r} belongs to another visitor; nothing was imported.")
    new = [*(request.run_id for request in requests), *({request.sweep_id for request in requests} - joined)]
    uses = Counter(name.lower() for name in (*{*folders, *sweeps}, *fixed, *RESERVED, *new))
    for name in new:
        if uses[name.lower()] > 1:
            raise InvalidSettingError(f"{name!r} is here already, or twice in the zip; nothing was imported.")
