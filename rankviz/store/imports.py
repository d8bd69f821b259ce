"""Runs in from a zip that `archive` wrote, or somebody made by hand, under names of whoever imports them."""

import hashlib
import re
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rankviz.core.bounds import name_alone
from rankviz.core.from_json import Misfit, quoted
from rankviz.core.runs.events import RunEvent, StepLogged
from rankviz.core.runs.record import RunRecord, Sweep
from rankviz.core.runs.request import RunRequest
from rankviz.errors import InvalidSettingError, LimitError
from rankviz.store.archive import LOSSES, SUMMARY
from rankviz.store.journal import (
    MAX_REQUEST_BYTES,
    Line,
    LongList,
    line_of,
    numbers_in,
    parse_event,
    parse_request,
    request_text,
    whole_lines,
    without_long_lists,
)
from rankviz.store.ownership import NO_ONES, Ownership
from rankviz.store.runs import IMPORTED, RunStore

if TYPE_CHECKING:
    from rankviz.store.runs import RunStore

LONGEST = 100
"""Characters of an id."""
MARK = 8
"""Characters that make a name its importer's."""


def named_anew(store: "RunStore", folders: "Sequence[Folder]", owners: Sequence[str]) -> "list[Folder]":
    """The same runs and sweeps, named the same way at each import, so that a second one finds them there. Of a data
    file only the name stays: where it is, is nothing of the importer's.
    InvalidSettingError where the importer has one of them under the zip's own name, or that of another id of theirs.

    owners: the importer's ids; the first is that of what is imported.
    """
    own = {run_id.lower() for run_id in store.names()[0] if store.ownership(run_id).owner in owners}
    for folder in folders:
        for request in (folder.request, *(_renamed(folder, owner).request for owner in owners[1:])):
            if request.run_id.lower() in own:
                raise InvalidSettingError(f"Run {request.run_id!r} is here already; nothing was imported.")
    return [_renamed(folder, owners[0]) for folder in folders]


def _renamed(folder: "Folder", owner: str) -> "Folder":
    request = folder.request
    sweep_id = _own_name(request.sweep_id, owner)
    number = request.run_id.removeprefix(request.sweep_id)
    run_id = f"{sweep_id}{number}" if number.startswith("-") else ""
    if not run_id or len(run_id) > LONGEST:
        run_id = _own_name(request.run_id, owner)
    request = replace(request, run_id=run_id, sweep_id=sweep_id, data=name_alone(request.data))
    return folder._replace(request=request, files={**folder.files, "request.json": request_text(request)})


def _own_name(name: str, owner: str) -> str:
    mark = hashlib.sha256(f"{owner}\n{name.lower()}".encode()).hexdigest()[:MARK]
    return f"{name[: LONGEST - MARK - 1]}-{mark}"


def values_in(event: RunEvent) -> int:
    """How many values are made of its line when it is read: numbers, texts and names, lists and objects. A million of
    them take half a second at most."""
    return 1 + sum(map(values_in, _parts(event)))


def bytes_kept(record: RunRecord) -> int:
    """Of an ended run, in memory, once its long lists and steps are left on the disk (memory/). What several records
    share counts for each. Of a list on the disk its name, which all runs share, counts for none, and so does its line,
    which all lists of an event share."""
    return sys.getsizeof(record) + sum(map(bytes_kept, _parts(record)))


def _parts(value: object) -> Iterable:
    if isinstance(value, Mapping):
        return chain.from_iterable(value.items())
    if isinstance(value, tuple):
        return value
    if not is_dataclass(value):
        return ()
    if isinstance(value, LongList):
        return (value.count, value.matches)
    return (getattr(value, field.name) for field in fields(value))


MAX_ENTRIES = 4096
MAX_ARCHIVE_BYTES = 100 * 10**6
MAX_DIRECTORY_BYTES = 10**6
MAX_IMPORTED_ATTEMPTS = 10**5
"""Far below core.runs.events.MAX_ATTEMPTS, so that a run can be tried again here as often as anybody likes."""
USUAL_RATIO = 20
"""Journals of real runs are below."""
MAX_RATIO = 200
"""Unpacked to packed bytes of a file of more than RATIO_BYTES."""
RATIO_BYTES = 10**6
RESERVED = ("sample", "embedded")
"""Names that mean something else where a run's name may stand."""
_NOWHERE = Line("", 0, 0, 0)
_END = b"PK\x05\x06"
_END_BYTES = 22
_MEMBER = re.compile(r"runs/([A-Za-z0-9][A-Za-z0-9._-]{0,99})/(request\.json|events\.jsonl)")
_UNREADABLE = (
    OSError,
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    NotImplementedError,
    RuntimeError,
    EOFError,
    ValueError,
    zlib.error,
)


class ImportLimits(NamedTuple):
    """Of one zip."""

    unpacked_bytes: int = 200 * 10**6
    runs: int = MAX_ENTRIES
    events: int = 2_000_000
    """Lines of one journal."""
    events_in_all: int = 20_000_000
    """Lines of all its journals: whoever lists runs reads each line once."""
    values_in_all: int | None = None
    """Of the events of all its journals: a line may have thousands."""
    bytes_kept: int | None = None
    """Of memory that one run takes for good."""
    example_numbers: int = 1_000_000
    """In the example_ lists of one journal: two evaluations of 100,000 examples have 800,000."""


class Folder(NamedTuple):
    """One run of a zip."""

    request: RunRequest
    files: Mapping[str, bytes]
    values: int
    """Of the events of its journal, counted where they are limited."""


def import_runs(
    store: RunStore,
    source: Path,
    shipped: Iterable[Sweep] = (),
    ownership: Ownership = NO_ONES,
    limits: ImportLimits = ImportLimits(),  # noqa: B008, a tuple
) -> list[str]:
    """Bring the runs of an exported zip into the store and return their ids. All of them, or none; without those that
    RankViz ships, which are here already."""
    return take_in(store, read_export(Path(source), shipped, limits), shipped, ownership)


def read_export(source: Path, shipped: Iterable[Sweep], limits: ImportLimits) -> list[Folder]:
    """The runs of the zip, without those that RankViz ships. InvalidSettingError says why it is no export, LimitError
    what it has too much of."""
    if not source.is_file():
        raise InvalidSettingError(f"There is no file {quoted(str(source))}.")
    try:
        _refuse_large(source)
        with zipfile.ZipFile(source) as archive:
            contents = _read_members(archive, limits)
    except _UNREADABLE as error:
        raise InvalidSettingError(f"{source.name} cannot be read as a RankViz export: {error}.") from error
    ids = {run.run_id for sweep in shipped for run in sweep.runs}
    if not (own := {run_id: files for run_id, files in contents.items() if run_id not in ids}):
        raise InvalidSettingError(
            f"The runs of {source.name} are recorded ones that ship with RankViz, so they are here already; "
            "nothing was imported."
        )
    lines = sum(files.get("events.jsonl", b"").count(b"\n") for files in own.values())
    if lines > limits.events_in_all:
        raise LimitError(
            f"The runs in the zip have {lines:,} events together; at most {limits.events_in_all:,} are imported at "
            "once. Export fewer runs at a time."
        )
    folders, values, most = [], 0, limits.values_in_all
    for run_id, files in own.items():
        folders.append(folder := _checked(run_id, files, limits))
        values += folder.values
        if most is not None and values > most:
            raise LimitError(
                f"The events of the runs in the zip have more than {most:,} values together, the most that are "
                "imported at once. Export fewer runs at a time."
            )
    return folders


def take_in(
    store: RunStore,
    folders: Sequence[Folder],
    shipped: Iterable[Sweep] = (),
    ownership: Ownership = NO_ONES,
    strangers: Sequence[str] = (),
) -> list[str]:
    """Publish what read_export has read; returns the ids. strangers: where strangers share the store, the ids of the
    one who imports; the runs then get names of their own."""
    if strangers:
        folders = named_anew(store, folders, strangers)
    requests = [folder.request for folder in folders]
    store.publish(
        {folder.request.run_id: {**folder.files, IMPORTED: ""} for folder in folders},
        ownership,
        require=lambda: _refuse_used_names(requests, store, list(shipped), ownership),
        joins=requests,
    )
    return [request.run_id for request in requests]


def _refuse_large(source: Path) -> None:
    """The size of the file, and of its table of contents, which is read whole: its end is the file's, without a comment
    and without the records of zips of more than 65,535 files."""
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
    """Files by run, by name."""
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
    """At most one byte more than `most`: the header may lie about the size, so what really comes out is counted."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InvalidSettingError(f"{member.filename!r} in the zip is packed in a way that no RankViz export is.")
    if member.file_size > max(RATIO_BYTES, MAX_RATIO * member.compress_size):
        raise LimitError(f"{member.filename!r} in the zip unpacks to more than {MAX_RATIO} times its size.")
    with archive.open(member) as file:
        return file.read(most + 1)


def _checked(run_id: str, files: Mapping[str, bytes], limits: ImportLimits) -> Folder:
    """A run of the zip, which has ended, with its journal written anew: a line that is no event is an empty one, and
    whoever reads it later parses no more than events."""
    if "request.json" not in files:
        raise InvalidSettingError(f"Run {run_id!r} in the zip has no readable request.json: it has none.")
    try:
        request = parse_request(files["request.json"])
    except Misfit as misfit:
        raise InvalidSettingError(f"Run {run_id!r} in the zip has no readable request.json. {misfit}") from None
    except InvalidSettingError as error:
        raise InvalidSettingError(
            f"Run {run_id!r} in the zip cannot be read, so nothing was imported. {error}"
        ) from None
    if not isinstance(request, RunRequest):
        raise InvalidSettingError(f"Run {run_id!r} in the zip is a probe; only runs can be imported.")
    if request.run_id != run_id:
        raise InvalidSettingError(f"Run {run_id!r} in the zip calls itself {request.run_id!r}.")
    journal = files.get("events.jsonl", b"")
    if (lines := journal.count(b"\n")) > limits.events:
        raise LimitError(f"Run {run_id!r} in the zip has {lines:,} events; at most {limits.events:,} are imported.")
    events = [parse_event(line) for _, line in whole_lines(BytesIO(journal))]
    known = [event for event in events if event is not None]
    record = RunRecord(request=request).after_all(known)
    if record.attempt > MAX_IMPORTED_ATTEMPTS:
        raise LimitError(
            f"Run {run_id!r} in the zip says that it was tried {record.attempt:,} times; at most "
            f"{MAX_IMPORTED_ATTEMPTS:,} are imported."
        )
    if not record.state.ended:
        raise InvalidSettingError(f"Run {run_id!r} in the zip has not ended; only ended runs can be imported.")
    if (numbers := sum(map(numbers_in, known))) > limits.example_numbers:
        raise LimitError(
            f"Run {run_id!r} in the zip lists {numbers:,} numbers of held-out examples; at most "
            f"{limits.example_numbers:,} are imported."
        )
    _refuse_heavy(request, known, limits)
    written = b"".join(b"\n" if event is None else line_of(event) for event in events)
    files = {"request.json": request_text(request).encode(), "events.jsonl": written}
    return Folder(request, files, 0 if limits.values_in_all is None else sum(map(values_in, known)))


def _refuse_heavy(request: RunRequest, events: Sequence[RunEvent], limits: ImportLimits) -> None:
    """LimitError where a page would keep too much of the run in memory."""
    if (most := limits.bytes_kept) is None:
        return
    light = [without_long_lists(event, _NOWHERE) for event in events if not isinstance(event, StepLogged)]
    if (size := bytes_kept(RunRecord(request=request).after_all(light))) > most:
        raise LimitError(
            f"Run {request.run_id!r} in the zip takes {size:,} bytes of memory, with its environment, stages, "
            f"truncations and messages; at most {most:,} are imported. Look at it on a machine of your own."
        )


def _refuse_used_names(
    requests: Sequence[RunRequest], store: RunStore, shipped: Sequence[Sweep], ownership: Ownership
) -> None:
    """InvalidSettingError where a run's name is not new, or its sweep is another's. Names that differ in capitals alone
    are one folder on some disks, and one name to a reader."""
    here, sweeps_here = store.names()
    runs, sweeps = _folded(request.run_id for request in requests), {request.sweep_id for request in requests}
    if twice := [name for name, count in runs.items() if count > 1]:
        raise InvalidSettingError(f"The zip holds two runs called {twice[0]!r}; nothing was imported.")
    fixed = [name for sweep in shipped for name in (sweep.sweep_id, *(run.run_id for run in sweep.runs))]
    used = _folded([*here, *sweeps_here, *sweeps, *fixed, *RESERVED])
    for request in requests:
        if request.run_id.lower() in used:
            raise InvalidSettingError(f"Run {request.run_id!r} is here already; nothing was imported.")
    others = _folded([*here, *fixed, *RESERVED, *(sweeps_here - sweeps)])
    for sweep_id in sorted(sweeps):
        if sweep_id.lower() in others or _folded(sweeps)[sweep_id.lower()] > 1:
            raise InvalidSettingError(f"The name {sweep_id!r} of a sweep is here already; nothing was imported.")
        if sweep_id in sweeps_here and any(
            store.ownership(run.run_id).owner != ownership.owner for run in store.sweep(sweep_id).runs
        ):
            raise InvalidSettingError(f"Sweep {sweep_id!r} belongs to another visitor; nothing was imported.")


def _folded(names: Iterable[str]) -> Counter[str]:
    return Counter(name.lower() for name in names)
