"""A job's folder here, as its slot writes the one on its node.

It is the packed job, so a journal here has the same bytes as the one there, as far as it has been brought: its size is
the offset from which on it is asked for. The line that ends a run is written here only once the files that the run left
are here.
"""

import io
import os
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from rankviz.core.bounds import INSIDE
from rankviz.core.runs.events import ProbeCompleted, RunCompleted, RunFailed
from rankviz.engines import bundle
from rankviz.store.journal import parse_event

LAST = (RunCompleted, RunFailed, ProbeCompleted)
SENT = ("job.json", "runs", "data")
KEPT = ("request.json", "config.json", "events.jsonl", "begun")
"""Files of a run that are not brought: they were sent, or are read as a journal."""


class Mirror:
    """Of one job."""

    def __init__(self, folder: Path):
        self._folder = folder
        self.run_ids: Sequence[str] = [attempt.run_id for attempt in bundle.read_job(folder).attempts]
        self._brought: dict[str, int] = {}
        self._is_open = False

    def open(self) -> None:
        """Before anything is brought. A line that was being written when an earlier driver ended is read again.
        FileNotFoundError where a journal has gone."""
        for run_id in () if self._is_open else self.run_ids:
            _cut_stump(bundle.journal(self._folder, run_id))
        self._is_open = True

    def packed(self) -> bytes:
        """What is sent of it."""
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as archive:
            for name in SENT:
                if (self._folder / name).exists():
                    archive.add(self._folder / name, name)
        return content.getvalue()

    def sizes(self) -> Mapping[str, int]:
        """Of the journals, by run."""
        return {run_id: bundle.journal(self._folder, run_id).stat().st_size for run_id in self.run_ids}

    def is_complete(self) -> bool:
        """Whether every run has ended, and what it left is here."""
        return all(_has_ended(bundle.journal(self._folder, run_id)) for run_id in self.run_ids)

    def take(self, journals: Mapping[str, bytes], bring: Callable[[str], None]) -> bool:
        """Write down whole lines that follow. Whether there were some. bring: brings the files of a run that ends."""
        for run_id, data in journals.items():
            for line in data[: data.rfind(b"\n") + 1].splitlines(keepends=True):
                if isinstance(parse_event(line), LAST):
                    bring(run_id)
                with bundle.journal(self._folder, run_id).open("ab") as journal:
                    journal.write(line)
        return any(b"\n" in data for data in journals.values())

    def bring(self, run_id: str, files: Mapping[str, int], read: Callable[[str, int], bytes]) -> None:
        """Copy these files of a run. files: sizes by path; read: a piece of one from an offset on, empty at its end."""
        for path, size in files.items():
            target = self._folder / "runs" / run_id / path
            if path in KEPT or not _is_plain(path) or self._brought.get(f"{run_id}/{path}") == size:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            aside = target.with_name(f".{target.name}.part")
            with aside.open("wb") as file:
                while piece := read(path, file.tell()):
                    file.write(piece)
            os.replace(aside, target)
            self._brought[f"{run_id}/{path}"] = size


def _cut_stump(journal: Path) -> None:
    data = journal.read_bytes()
    os.truncate(journal, data.rfind(b"\n") + 1)


def _has_ended(journal: Path) -> bool:
    try:
        last = journal.read_bytes().splitlines()[-1:]
    except OSError:
        return False
    return any(isinstance(parse_event(line), LAST) for line in last)


def _is_plain(path: str) -> bool:
    return bool(INSIDE.fullmatch(path)) and ".." not in PurePosixPath(path).parts
