"""The folder of runs: create, append, read."""

import contextlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from rankviz.core.probe.request import ProbeRequest
from rankviz.core.runs.events import LOCAL, RunEvent, RunRequeued, StageProgressed, StepLogged
from rankviz.core.runs.record import RunState, Sweep
from rankviz.core.runs.request import RunRequest, SweepRequest
from rankviz.errors import InvalidSettingError, RunNotFoundError, RunUnreadError
from rankviz.store import changes, copies, durable
from rankviz.store.durable import write_durably
from rankviz.store.journal import append_events, request_text
from rankviz.store.memory import CANCEL
from rankviz.store.ownership import ANYWHERE, NO_ONES, Destination, Ownership, write_destination, write_ownership
from rankviz.store.records import RunRecords, group

FREQUENT = (StepLogged, StageProgressed)
"""Of runs that are looked at anyway while somebody works on them."""
IMPORTED = "imported"
"""A file in the folder of a run that came from a zip, and was not trained here since."""


class RunStore(RunRecords):
    """What is in the folder (records.py), and all that is written there. Nothing is written before there is something
    to write."""

    def create(
        self,
        request: SweepRequest,
        owner: str = "",
        destination: Destination = ANYWHERE,
        *,
        data: Path | None = None,
    ) -> str:
        """Queue a sweep and return its id. Its runs appear whole, and together for whoever reads the queue.

        data: a file of which they get a copy, in place of the data that the request names.
        """
        now = time.time()
        kept = self.kept_path(data, owner) if data else None
        if kept:
            request = replace(request, data=str(kept))
        sweep_id = f"{time.strftime('%Y%m%d-%H%M%S', time.localtime(now))}-{secrets.token_hex(2)}"
        self.publish(
            {
                run.run_id: {"request.json": request_text(run), **destination.files}
                for run in request.runs(sweep_id=sweep_id, created_at=now)
            },
            Ownership(owner),
            require=lambda: kept and copies.copy(data, kept),  # no run that goes meanwhile takes it along
        )
        return sweep_id

    def add(
        self,
        request: RunRequest,
        ownership: Ownership = NO_ONES,
        destination: Destination = ANYWHERE,
        *,
        data: Path | None = None,
    ) -> None:
        """Queue one more run of a sweep that exists; nothing of its other runs is rewritten. RunNotFoundError where the
        sweep has been deleted meanwhile. data: as of `create`."""
        kept = self.kept_path(data, ownership.owner) if data else None
        if kept:
            request = replace(request, data=str(kept))
        self.publish(
            {request.run_id: {"request.json": request_text(request), **destination.files}},
            ownership,
            require=lambda: self.sweep(request.sweep_id) and kept and copies.copy(data, kept),
            joins=[request],
        )

    def create_probe(self, request: ProbeRequest, config: str, owner: str = "") -> None:
        """Queue a probe of this machine, with the config.json of its model beside it."""
        files = {"request.json": request_text(request), "config.json": config, **Destination(LOCAL).files}
        self.publish({request.probe_id: files}, Ownership(owner))

    def publish(
        self,
        folders: Mapping[str, Mapping[str, str | bytes]],
        ownership: Ownership = NO_ONES,
        require: Callable[[], object] = lambda: None,
        joins: Sequence[RunRequest] = (),
    ) -> None:
        """Make run folders out of {run id: {file name: content}}: written aside first, then renamed into place; all of
        them, or none.

        require: called just before that, while nobody else publishes; what it raises leaves nothing behind.
        joins: those of them whose sweep may be here: they are as open as their owner's runs of it.
        """
        self.runs_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=self.runs_dir) as aside:
            for run_id, files in folders.items():
                (Path(aside) / run_id).mkdir()
                for name, text in files.items():
                    write_durably(Path(aside) / run_id / name, text)
                write_ownership(Path(aside) / run_id, ownership)
            with self.publishing():
                require()
                for run_id in folders:
                    if self.run_dir(run_id).exists():
                        raise InvalidSettingError(f"Run {run_id!r} is here already.")
                opened = {each.sweep_id: self._is_open(each.sweep_id, ownership.owner) for each in joins}
                for each in joins:
                    if opened[each.sweep_id] != ownership.is_open:
                        write_ownership(Path(aside) / each.run_id, replace(ownership, is_open=opened[each.sweep_id]))
                durable.bring(self.runs_dir, Path(aside), list(folders))
                self.tell(*folders)

    def _is_open(self, sweep_id: str, owner: str) -> bool:
        """Whether others may look at all that somebody has of a sweep."""
        try:
            kept = [self.ownership(run.run_id) for run in self.sweep(sweep_id).runs]
        except RunNotFoundError:
            return False
        is_open = [each.is_open for each in kept if each.owner == owner]
        return bool(is_open) and all(is_open)

    def tell(self, *run_ids: str) -> None:
        """Something was written of these runs."""
        changes.tell(self.runs_dir, run_ids)

    def tell_of_all(self) -> None:
        """Runs have gone, or may have, and nothing here is to name them."""
        changes.tell_of_all(self.runs_dir)

    def admission(self) -> FileLock:
        """Held while somebody looks whether there is room for more runs, and makes them."""
        self.runs_dir.mkdir(parents=True, exist_ok=True)
        return FileLock(self.runs_dir / ".admission.lock", thread_local=False)

    @contextlib.contextmanager
    def publishing(self) -> Iterator[None]:
        """Held while folders are renamed into place or away, so that nobody takes up half a sweep. What an app has left
        half renamed has come, or gone, by then."""
        self.runs_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(self.runs_dir / ".publish.lock", thread_local=False):
            if durable.move_the_rest(self.runs_dir):
                self.tell_of_all()
            yield

    def keep(self, data: Path, owner: str = "") -> Path:
        """A copy of a data file for the runs of its owner, filed by its content."""
        kept = self.kept_path(data, owner)
        copies.copy(data, kept)
        return kept

    def kept_path(self, data: Path, owner: str = "") -> Path:
        """Where `keep` files it."""
        return copies.kept_path(self.home, data, owner)

    def open_to_all(self, run_or_sweep_id: str, is_open: bool) -> None:
        """Let others look at a run or at all runs of a sweep, or no longer."""
        for run_id in self.run_ids(run_or_sweep_id):
            write_ownership(self.run_dir(run_id), replace(self.ownership(run_id), is_open=is_open))
            self.tell(run_id)

    def append(self, run_id: str, event: RunEvent) -> None:
        """Write down what happened. One writer at a time: the worker while it lives, then the supervisor."""
        self.append_copied(run_id, [event])

    def append_copied(self, run_id: str, events: Sequence[RunEvent]) -> None:
        """Write down what an attempt wrote elsewhere, each with its attempt and its offset there."""
        append_events(self._journal(run_id), events)
        if not all(isinstance(event, FREQUENT) for event in events):
            self.tell(run_id)

    def begin(self, run_id: str, attempt: int = 0) -> bool:
        """Take an attempt of a queued run up, for good; 0 is the current one. True for one caller only: the worker that
        will write its journal, or the supervisor that cancels it before one has. False where another attempt is the
        current one by now."""
        current = self.record(run_id).attempt
        if attempt not in (0, current):
            return False
        try:
            os.close(os.open(self._begun(run_id, current), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        except FileExistsError:
            return False
        except FileNotFoundError:
            raise RunNotFoundError(run_id) from None
        self.tell(run_id)
        return True

    def ask_to_cancel(self, run_id: str, word: str = "") -> None:
        """Ask whoever supervises the run; an earlier word stays where this has none."""
        file = self.run_dir(run_id) / CANCEL
        if word:
            file.write_text(word)
        else:
            file.touch()
        self.tell(run_id)

    def cancel_word(self, run_id: str) -> str | None:
        """Of whoever asks to cancel it; None where nobody does. What is there and is no text is an empty word.
        RunUnreadError where that cannot be read now."""
        try:
            return (self.run_dir(run_id) / CANCEL).read_bytes().decode(errors="replace")
        except FileNotFoundError:
            return None
        except (IsADirectoryError, PermissionError):
            return ""
        except OSError as error:
            raise RunUnreadError(run_id, error.strerror) from error

    def requeue(self, run_id: str, destination: Destination | None = None) -> bool:
        """Ask again for a run that failed or was cancelled. False for any other: of several who ask at once, one is
        answered True. destination: as of `requeue_all`."""
        return bool(self.requeue_all([run_id], destination))

    def requeue_all(self, run_ids: Sequence[str], destination: Destination | None = None) -> Sequence[str]:
        """Ask again for those of these runs that failed or were cancelled, and return them. They wait together for
        whoever reads the queue: a job of some of them would load the base, or rent a machine, once more for the rest.

        destination: where they are to run from now on; None is where they were to run.
        """
        with self.publishing():
            return [run_id for run_id in run_ids if self._requeue(run_id, destination)]

    def _requeue(self, run_id: str, destination: Destination | None) -> bool:
        record = self.record(run_id)
        if record.state not in (RunState.FAILED, RunState.CANCELLED) or not self.run_dir(run_id).is_dir():
            return False
        if destination is not None:
            write_destination(self.run_dir(run_id), destination)
        (self.run_dir(run_id) / CANCEL).unlink(missing_ok=True)
        self.clear(run_id)
        self.append(run_id, RunRequeued(time=time.time(), attempt=record.attempt))
        return True

    def clear(self, run_id: str) -> None:
        """Before another attempt: without an adapter of the last one. What it brings is no copy. A wish to cancel it
        stays."""
        (self.run_dir(run_id) / IMPORTED).unlink(missing_ok=True)
        shutil.rmtree(self.run_dir(run_id) / "adapter", ignore_errors=True)


def recorded(assets: Path) -> Sequence[Sweep]:
    """The sweeps shipped in ASSETS/recorded/runs, made by RankViz itself and folded as any other."""
    return group(RunStore(Path(assets) / "recorded").all(), recorded=True)
