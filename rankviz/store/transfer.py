"""Export of runs as a zip (requests, journals and two CSV files, no adapters), and import of such a zip."""

import hashlib
import os
import re
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from rankviz.core.bounds import name_alone
from rankviz.core.cells import csv_text
from rankviz.core.from_json import Misfit, as_answer, quoted
from rankviz.core.runs.events import RunEvent, StepLogged
from rankviz.core.runs.record import RunRecord, Sweep
from rankviz.core.runs.request import RunRequest
from rankviz.errors import InvalidSettingError, LimitError, RunNotFoundError
from rankviz.store.journal import (
    MAX_REQUEST_BYTES,
    OnDisk,
    Part,
    lightened,
    line_of,
    parse_event,
    parse_request,
    request_text,
    whole_lines,
)
from rankviz.store.ownership import NO_ONES, Ownership
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
"""Types of the columns of loss_rows; an unknown value is None."""


def export_runs(
    stores: Sequence[RunStore],
    ids: Sequence[str],
    target: Path,
    shown: Callable[[Any], Any] | None = None,
) -> Path:
    """Write the ended runs among the named runs and sweeps into the zip `target`, and return its path. Raise
    RunNotFoundError where no store has a name; the first store that has it is used.

    shown: Returns a request or an event as the reader of the zip may see it; None to write all as it is.
    """
    places = {run_id: store for name in ids for run_id, store in _located(stores, name).items()}
    records = [record for run_id, store in places.items() if (record := store.get(run_id)).state.ended]
    if shown:
        records = [replace(record, request=shown(record.request)) for record in records]
    if not records:
        raise InvalidSettingError("None of these runs has ended yet: export them when they have.")
    try:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(SUMMARY, csv_text([summary_row(record) for record in records]))
            has_header = False
            with archive.open(LOSSES, "w") as file:
                for record in records:  # run by run: the examples of all may be millions
                    rows = loss_rows(record)
                    file.write(csv_text(rows, header=not has_header).encode())
                    has_header = has_header or bool(rows)
            for record in records:
                folder = places[record.run_id].run_dir(record.run_id)
                _write_run(archive, folder, f"runs/{record.run_id}", record.request, shown)
    except FileNotFoundError as error:  # deleted meanwhile
        target.unlink(missing_ok=True)
        raise RunNotFoundError(Path(error.filename).parent.name) from None
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return target


def _write_run(
    archive: zipfile.ZipFile, folder: Path, within: str, request: RunRequest, shown: Callable[[Any], Any] | None
) -> None:
    """Write a run's two files. With `shown`, a line that is no event becomes empty, since it may hold anything."""
    if shown is None:
        for name in ("request.json", "events.jsonl"):
            archive.write(folder / name, f"{within}/{name}")
        return
    archive.writestr(f"{within}/request.json", request_text(request))
    with (folder / "events.jsonl").open("rb") as lines, archive.open(f"{within}/events.jsonl", "w") as file:
        events = (parse_event(line) for _, line in whole_lines(lines))
        file.writelines(b"\n" if event is None else line_of(shown(event)) for event in events)


def _located(stores: Sequence[RunStore], name: str) -> dict[str, RunStore]:
    """Map the run ids of a run's or sweep's name to the store that has them. Run folders are searched first, in every
    store: to find a sweep, a store reads the journals of all its runs."""
    if store := next((store for store in stores if os.path.isdir(store.run_dir(name))), None):
        return {name: store}
    for store in stores:
        with suppress(RunNotFoundError):
            return dict.fromkeys(store.run_ids(name), store)
    raise RunNotFoundError(name)


class SummaryRow(TypedDict):
    """Settings and results of a run; None is not known. Losses are nats per token."""

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
    """Return a run's row of summary.csv."""
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
    """Return a row per held-out example with the columns of LOSS_COLUMNS, as `rankviz verdict` reads them; losses are
    nats per token. Counts that were not measured for every example are None."""
    request, after = record.request, record.loss_after
    losses = after.example_losses if after else ()
    counts = [after.example_tokens, after.example_correct_tokens, after.example_exact_matches] if after else []
    columns = [each if len(each) == len(losses) else [None] * len(losses) for each in counts]
    settings = (request.sweep_id, request.lora.r, request.learning_rate, request.seed)
    rows = enumerate(zip(losses, *columns, strict=True))
    return [dict(zip(LOSS_COLUMNS, (*settings, example, *values), strict=True)) for example, values in rows]


MAX_ENTRIES = 4096
MAX_ARCHIVE_BYTES = 100 * 10**6
MAX_DIRECTORY_BYTES = 10**6
MAX_IMPORTED_ATTEMPTS = 10**5
"""Number of an imported run's attempts, at most; far below MAX_ATTEMPTS, so that the run can be tried again."""
MAX_RATIO = 200
"""Largest ratio of unpacked to packed bytes, for files of more than RATIO_BYTES."""
RATIO_BYTES = 10**6
RESERVED = ("sample", "embedded")
"""Names that an imported run or sweep may not have, since they mean something else where a run is named."""
MAX_ID = 100
"""Characters of an id, at most."""
MARK = 8
"""Characters added to an imported name, which differ by importer."""
_END = b"PK\x05\x06"
_END_BYTES = 22
_MEMBER = re.compile(r"runs/([A-Za-z0-9][A-Za-z0-9._-]{0,99})/(request\.json|events\.jsonl)")
_NO_ZIP = (OSError, zipfile.BadZipFile, zipfile.LargeZipFile, RuntimeError, EOFError, ValueError, zlib.error)


class ImportLimits(NamedTuple):
    """Limits for one imported zip; None for no limit."""

    unpacked_bytes: int = 200 * 10**6
    runs: int = MAX_ENTRIES
    events: int = 2_000_000
    """Number of lines of one journal."""
    values: int | None = None
    """Number of values in the events of all journals; reading a million takes half a second."""
    record_bytes: int | None = None
    """Bytes of memory that the record of one run takes permanently."""


class ImportedRun(NamedTuple):
    """A checked run of a zip, with the content of its files by name."""

    request: RunRequest
    files: Mapping[str, bytes | str]


def import_runs(
    store: RunStore,
    source: Path,
    shipped: Iterable[Sweep] = (),
    ownership: Ownership = NO_ONES,
    limits: ImportLimits = ImportLimits(),  # noqa: B008, a tuple
) -> list[str]:
    """Import the runs of an exported zip, all or none, without runs that ship with RankViz; return the ids."""
    return take_in(store, read_export(Path(source), shipped, limits), shipped, ownership)


def read_export(source: Path, shipped: Iterable[Sweep], limits: ImportLimits) -> list[ImportedRun]:
    """Read and check the runs of a zip, without runs that ship with RankViz. Raise InvalidSettingError where the zip
    is no export, and LimitError where it is too large."""
    if not source.is_file():
        raise InvalidSettingError(f"There is no file {quoted(str(source))}.")
    try:
        _refuse_large(source)
        with zipfile.ZipFile(source) as archive:
            contents = _read_members(archive, limits)
    except _NO_ZIP as error:
        raise InvalidSettingError(f"{source.name} cannot be read as a RankViz export: {error}.") from error
    ids = {run.run_id for sweep in shipped for run in sweep.runs}
    if not (own := {run_id: files for run_id, files in contents.items() if run_id not in ids}):
        raise InvalidSettingError(
            f"The runs of {source.name} are recorded ones that ship with RankViz, so they are here already; "
            "nothing was imported."
        )
    runs, values = [], 0
    for run_id, files in own.items():
        run, values = _checked(run_id, files, limits, values)
        runs.append(run)
    return runs


def take_in(
    store: RunStore,
    runs: Sequence[ImportedRun],
    shipped: Iterable[Sweep] = (),
    ownership: Ownership = NO_ONES,
    strangers: Sequence[str] = (),
) -> list[str]:
    """Publish the runs that read_export returned; return their ids. strangers: the importer's own ids, on a store that
    strangers share: runs and sweeps then get new names, which cannot clash with other people's; else empty."""
    if strangers:
        runs = _renamed_for(store, runs, strangers)
    requests = [run.request for run in runs]
    store.publish(
        {run.request.run_id: {**run.files, IMPORTED: ""} for run in runs},
        ownership,
        require=lambda: _refuse_used_names(requests, store, list(shipped), ownership),
        joins=requests,
    )
    return [request.run_id for request in requests]


def _refuse_large(source: Path) -> None:
    """Check the size of the zip and of its table of contents, which is read whole. The table's size is at the end of a
    zip without a comment and with fewer than 65,535 files; BadZipFile for any other, LimitError where one is too
    large."""
    if (size := source.stat().st_size) > MAX_ARCHIVE_BYTES:
        raise LimitError(f"{source.name} is over {MAX_ARCHIVE_BYTES // 10**6} MB: not a RankViz export.")
    with source.open("rb") as file:
        file.seek(max(0, size - _END_BYTES))
        end = file.read(_END_BYTES)
    if len(end) < _END_BYTES or not end.startswith(_END) or end[-2:] != b"\0\0":
        raise zipfile.BadZipFile("it is no zip file, or it has a comment, which no RankViz export has")
    if int.from_bytes(end[12:16], "little") > MAX_DIRECTORY_BYTES or b"\xff\xff" in (end[8:10], end[10:12]):
        raise LimitError(f"{source.name} holds more than {MAX_ENTRIES:,} files: not a RankViz export.")


def _read_members(archive: zipfile.ZipFile, limits: ImportLimits) -> dict[str, dict[str, bytes]]:
    """Return the content of each file, by run id and file name."""
    members = archive.infolist()
    if len(members) > MAX_ENTRIES:
        raise LimitError(f"The zip holds {len(members):,} files, at most {MAX_ENTRIES:,} are read.")
    folders: dict[str, dict[str, bytes]] = {}
    left = limits.unpacked_bytes
    for member in members:
        if member.filename in (SUMMARY, LOSSES) or member.is_dir():
            continue
        match = _MEMBER.fullmatch(member.filename)
        if match is None:
            raise InvalidSettingError(f"The zip holds {quoted(member.filename)}, which no RankViz export does.")
        run_id, name = match.groups()
        if name in folders.setdefault(run_id, {}):
            raise InvalidSettingError(f"The zip holds {member.filename!r} twice.")
        if len(folders) > limits.runs:
            raise LimitError(f"The zip holds more than {limits.runs:,} runs, the most that are imported at once.")
        data = _read_member(archive, member, MAX_REQUEST_BYTES if name == "request.json" else left)
        left -= len(data)
        if left < 0:
            raise LimitError(f"The zip unpacks to more than {limits.unpacked_bytes // 10**6} MB.")
        folders[run_id][name] = data
    if not folders:
        raise InvalidSettingError("The zip holds no runs.")
    return folders


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int) -> bytes:
    """Read up to one byte more than `most`, since the header may give a wrong size."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InvalidSettingError(f"{member.filename!r} in the zip is packed in a way that no RankViz export is.")
    if member.file_size > max(RATIO_BYTES, MAX_RATIO * member.compress_size):
        raise LimitError(f"{member.filename!r} in the zip unpacks to more than {MAX_RATIO} times its size.")
    with archive.open(member) as file:
        return file.read(most + 1)


def _checked(run_id: str, files: Mapping[str, bytes], limits: ImportLimits, values: int) -> tuple[ImportedRun, int]:
    """Check a run of the zip; return it with its journal rewritten to events only, and the number of values up to this
    run. values: Number of values in the runs before."""
    subject = f"Run {run_id!r} in the zip"
    if "request.json" not in files:
        raise InvalidSettingError(f"{subject} has no readable request.json: it has none.")
    try:
        request = parse_request(files["request.json"])
    except Misfit as misfit:
        raise InvalidSettingError(f"{subject} has no readable request.json. {misfit}") from None
    except InvalidSettingError as error:
        raise InvalidSettingError(f"{subject} cannot be read, so nothing was imported. {error}") from None
    if not isinstance(request, RunRequest):
        raise InvalidSettingError(f"{subject} is a probe; only runs can be imported.")
    if request.run_id != run_id:
        raise InvalidSettingError(f"{subject} calls itself {request.run_id!r}.")
    journal = files.get("events.jsonl", b"")
    if (lines := journal.count(b"\n")) > limits.events:
        raise LimitError(f"{subject} has {lines:,} events; at most {limits.events:,} are imported.")
    events: list[RunEvent | None] = []
    for _, line in whole_lines(BytesIO(journal)):
        events.append(event := parse_event(line))
        if limits.values is not None and (values := values + _values_in(event)) > limits.values:
            raise LimitError(
                f"The events of the runs in the zip have more than {limits.values:,} values together, the most that "
                "are imported at once. Export fewer runs at a time."
            )
    known = [event for event in events if event is not None]
    record = RunRecord(request=request).after_all(known)
    if record.attempt > MAX_IMPORTED_ATTEMPTS:
        raise LimitError(
            f"{subject} says that it was tried {record.attempt:,} times; at most {MAX_IMPORTED_ATTEMPTS:,} are "
            "imported."
        )
    if not record.state.ended:
        raise InvalidSettingError(f"{subject} has not ended; only ended runs can be imported.")
    if (most := limits.record_bytes) is not None:
        light = RunRecord(request=request).after_all(event for event in known if not isinstance(event, StepLogged))
        if (size := _bytes_of(lightened(light, Part("", 0, request)))) > most:
            raise LimitError(
                f"{subject} takes {size:,} bytes of memory, with its environment, stages, truncations and messages; at "
                f"most {most:,} are imported. Look at it on a machine of your own."
            )
    written = b"".join(b"\n" if event is None else line_of(event) for event in events)
    return ImportedRun(request, {"request.json": request_text(request).encode(), "events.jsonl": written}), values


def _values_in(event: object) -> int:
    """Count the values that are created when an event is read: numbers, texts and names, lists and objects."""
    return 1 + sum(map(_values_in, _parts(event)))


def _bytes_of(record: RunRecord) -> int:
    """Return the memory of an ended run's record in bytes, without lists on the disk. An object shared by several
    records counts for each of them, the Part shared by a run's lists for none."""
    return sys.getsizeof(record) + sum(map(_bytes_of, _parts(record)))


def _parts(value: object) -> Iterable:
    if isinstance(value, Mapping):
        return chain.from_iterable(value.items())
    if isinstance(value, tuple):
        return value
    if not is_dataclass(value):
        return ()
    if isinstance(value, OnDisk):
        return (value.count, value.summary)
    return (getattr(value, field.name) for field in fields(value))


def _renamed_for(store: RunStore, runs: Sequence[ImportedRun], owners: Sequence[str]) -> list[ImportedRun]:
    """Return the runs with new names for runs and sweeps that depend on the importer. The names are the same at each
    import, so that a second import finds the first. Raise InvalidSettingError where the importer has one of the runs
    already, under the zip's name or the name for another id of the importer. owners: Ids of the importer; the first
    becomes the owner."""
    own = {run_id.lower() for run_id in store.names()[0] if store.ownership(run_id).owner in owners}
    renamed = []
    for run in runs:
        for request in (run.request, *(_renamed(run.request, owner) for owner in owners[1:])):
            if request.run_id.lower() in own:
                raise InvalidSettingError(f"Run {request.run_id!r} is here already; nothing was imported.")
        request = _renamed(run.request, owners[0])
        renamed.append(ImportedRun(request, {**run.files, "request.json": request_text(request)}))
    return renamed


def _renamed(request: RunRequest, owner: str) -> RunRequest:
    """Return the request with the importer's names for run and sweep, and without the folder of its data file."""
    sweep_id = _own_name(request.sweep_id, owner)
    number = request.run_id.removeprefix(request.sweep_id)
    run_id = f"{sweep_id}{number}" if number.startswith("-") else ""
    if not run_id or len(run_id) > MAX_ID:
        run_id = _own_name(request.run_id, owner)
    return replace(request, run_id=run_id, sweep_id=sweep_id, data=name_alone(request.data))


def _own_name(name: str, owner: str) -> str:
    mark = hashlib.sha256(f"{owner}\n{name.lower()}".encode()).hexdigest()[:MARK]
    return f"{name[: MAX_ID - MARK - 1]}-{mark}"


def _refuse_used_names(
    requests: Sequence[RunRequest], store: RunStore, shipped: Sequence[Sweep], ownership: Ownership
) -> None:
    """Check that every run name is new and no sweep belongs to another visitor; raise InvalidSettingError otherwise.
    Names that differ only in capitals count as equal, since some disks store them as one folder."""
    here, sweeps_here = store.names()
    runs, sweeps = [request.run_id for request in requests], {request.sweep_id for request in requests}
    fixed = [name for sweep in shipped for name in (sweep.sweep_id, *(run.run_id for run in sweep.runs))]
    used = {name.lower() for name in (*here, *fixed, *RESERVED)}
    for run_id in runs:
        if run_id.lower() in used or run_id.lower() in {name.lower() for name in (*sweeps_here, *sweeps)}:
            raise InvalidSettingError(f"Run {run_id!r} is here already; nothing was imported.")
    if len({name.lower() for name in (*runs, *sweeps)}) < len(runs) + len(sweeps):
        raise InvalidSettingError("Two names in the zip differ in capitals alone; nothing was imported.")
    used |= {name.lower() for name in sweeps_here - sweeps}
    for sweep_id in sorted(sweeps):
        if sweep_id.lower() in used:
            raise InvalidSettingError(f"The name {sweep_id!r} of a sweep is here already; nothing was imported.")
        if sweep_id in sweeps_here and any(
            store.ownership(run.run_id).owner != ownership.owner for run in store.sweep(sweep_id).runs
        ):
            raise InvalidSettingError(f"Sweep {sweep_id!r} belongs to another visitor; nothing was imported.")
