"""Runs a job on a machine elsewhere: `python -m rankviz.engines.inside SENT BACK [WORKER ...]`.

SENT is the packed job (rankviz.engines.bundle), BACK where its files go: paths, or URIs that fsspec reads. The worker
runs on a copy on the machine's own disk, since a journal is appended to, and object storage holds whole files. Each
line of a journal is printed, and files are written to BACK: journals every few seconds, adapters with a list of them
(rankviz.engines.follower.MANIFEST) before the line that ends their run. What cannot be written is tried again, for
minutes.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rankviz import logs
from rankviz.core.runs.events import LAST, Attempt
from rankviz.engines import bundle, process
from rankviz.engines.follower import MANIFEST
from rankviz.engines.hf_jobs.following import lines
from rankviz.engines.storage import Storage
from rankviz.store.journal import parse_lines

LOOK_SECONDS, WRITE_SECONDS, WANTED_SECONDS = 0.3, 2.0, 60.0
LAST_SECONDS = 300.0
"""So long after the worker has ended what it left is still written. Then the job ends: it costs money."""
SMALL = ("job.json", "rented.json", "request.json", "events.jsonl", "worker.log", "config.json")
"""Files that are written as they grow; others once their run has ended."""


class Carrier:
    """Brings what the worker writes to the log and to the storage."""

    def __init__(self, work: Path, back: str | Path, attempts: Sequence[Attempt]):
        self._work, self._back = work, Storage(str(back))
        self._attempts = attempts
        self._printed = {attempt: 0 for attempt in attempts}
        self._copied: dict[Path, tuple[int, int]] = {}
        self._not_before = 0.0
        self._said: set[str] = set()

    def look(self, *, last: bool = False) -> bool:
        """Print what is new; before the end of a run, write its files: where that cannot be, its end is printed at a
        later look, and at the last one. Whether all is printed."""
        is_whole = True
        for attempt in self._attempts:
            offset = self._printed[attempt]
            new = bundle.since(self._work, attempt.run_id, offset)
            new = new[: new.rfind(b"\n") + 1]
            has_ended = any(isinstance(event, LAST) for event in parse_lines(new))
            if has_ended and not self.write(run_id=attempt.run_id) and not last:
                is_whole = False
                continue
            for line in lines.written(attempt, offset, new):
                print(line, flush=True)
            self._printed[attempt] = offset + len(new)
        if time.monotonic() >= self._not_before:
            self.write()
        return is_whole

    def write(self, run_id: str = "") -> bool:
        """Write all small files that have changed, and with a run everything of it and then a list of that. False where
        some of these, with a run of its own, could not be written."""
        is_whole, sizes = True, {}
        for file in _files(self._work):
            relative = file.relative_to(self._work)
            of_run = bool(run_id) and relative.parts[:2] == ("runs", run_id)
            if (file.name in SMALL or of_run) and file.is_file() and not file.is_symlink():
                sizes[Path(*relative.parts[2:]).as_posix()] = file.stat().st_size if of_run else 0
                is_written = self._write(file, relative)
                is_whole = is_whole and (is_written or (bool(run_id) and not of_run))
        if run_id and is_whole:
            manifest = self._work / MANIFEST
            manifest.write_text(json.dumps({path: size for path, size in sizes.items() if size}))
            is_whole = self._write(manifest, Path("runs", run_id, MANIFEST))
        self._not_before = time.monotonic() + WRITE_SECONDS
        return is_whole

    def _write(self, file: Path, relative: Path) -> bool:
        try:
            state = file.stat()
            if self._copied.get(relative) != (state.st_size, state.st_mtime_ns):
                self._back.write(relative.as_posix(), file)
                self._copied[relative] = state.st_size, state.st_mtime_ns
            return True
        except Exception as error:  # each file system has errors of its own
            reason = getattr(error, "strerror", None) or error
            self._say(f"{relative} could not be written into the storage ({reason}).")
            return False

    def _say(self, trouble: str) -> None:
        """In the log, once."""
        if trouble not in self._said:
            self._said.add(trouble)
            print(trouble, flush=True)


def main(argv: Sequence[str]) -> int:
    logs.keep_tokens_out()
    sent, back, *given = argv
    with tempfile.TemporaryDirectory(prefix="rankviz-") as scratch:
        work = Path(scratch) / "job"
        source = Storage(sent)
        source.read_all(work)
        job = bundle.read_job(work)
        worker = given or [sys.executable, "-m", "rankviz.worker", job.kind]
        started = subprocess.Popen(
            [*worker, str(work), *map(str, job.attempts)],
            cwd=work,
            stdin=subprocess.DEVNULL,
            preexec_fn=process.die_with_parent,
        )
        # The job's time is over, or somebody cancelled it: what is there is still brought.
        signal.signal(signal.SIGTERM, lambda *_: started.terminate())
        carrier, wanted_until = Carrier(work, back, job.attempts), time.monotonic() + WANTED_SECONDS
        while started.poll() is None:
            carrier.look()
            time.sleep(LOOK_SECONDS)
            if time.monotonic() >= wanted_until:
                wanted_until = time.monotonic() + WANTED_SECONDS
                if source.has_gone(bundle.JOB_FILE):  # the page has given this job up
                    started.terminate()
        until = time.monotonic() + LAST_SECONDS
        while not (carrier.look() and carrier.write()) and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)
        carrier.look(last=True)
        print(lines.ended(started.returncode), flush=True)
        return started.returncode if started.returncode >= 0 else 128 - started.returncode


def _files(folder: Path) -> Sequence[Path]:
    """All below a folder in which the worker works: os.walk passes over folders that go meanwhile, as pip's do."""
    return sorted(Path(place) / name for place, _, names in os.walk(folder) for name in names)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
