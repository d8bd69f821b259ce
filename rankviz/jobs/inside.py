"""Runs a job on a machine elsewhere: `python -m rankviz.jobs.inside SENT BACK [WORKER ...]`.

SENT is the packed job (bundle.py), BACK where its files go: paths, or URIs that fsspec reads. The worker runs on a copy
on the machine's own disk, since a journal is appended to, and object storage holds whole files. Files are written to
BACK: journals every few seconds, the adapters of a run with a list of them (follower.MANIFEST) once it has ended, and
at last `exit_code`. What cannot be written is tried again, for minutes.
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
from rankviz.jobs import bundle, process
from rankviz.jobs.follower import MANIFEST
from rankviz.jobs.storage import Storage
from rankviz.store.journal import parse_lines

LOOK_SECONDS, WRITE_SECONDS, WANTED_SECONDS = 0.3, 2.0, 60.0
LAST_SECONDS = 300.0
"""After the worker has ended, what it left is still written for so long. Then the job ends: it costs money."""
SMALL = ("job.json", "submission.json", "request.json", "events.jsonl", "worker.log", "config.json", "exit_code")
"""Files that are written as they grow; others once their run has ended."""


class Carrier:
    """Writes what the worker makes to the storage."""

    def __init__(self, work: Path, back: str | Path, attempts: Sequence[Attempt]):
        self._work, self._back = work, Storage(str(back))
        self._read = {attempt.run_id: 0 for attempt in attempts}
        """Bytes of each journal that have been looked through for its end."""
        self._copied: dict[Path, tuple[int, int]] = {}
        self._not_before = 0.0
        self._troubles: set[str] = set()

    def look(self) -> bool:
        """Write what is new, and all files of runs that have ended since. Whether all could be written."""
        is_whole = True
        for run_id, offset in self._read.items():
            new = bundle.since(self._work, run_id, offset)
            new = new[: new.rfind(b"\n") + 1]
            if any(isinstance(event, LAST) for event in parse_lines(new)) and not self.write(run_id):
                is_whole = False
            else:
                self._read[run_id] = offset + len(new)
        return (time.monotonic() < self._not_before or self.write()) and is_whole

    def write(self, run_id: str = "") -> bool:
        """Write all small files that have changed, and with a run everything of it and then a list of that. Whether
        all of it could be written."""
        is_whole, sizes = True, {}
        for file in (Path(place) / name for place, _, names in os.walk(self._work) for name in names):
            relative = file.relative_to(self._work)
            of_run = bool(run_id) and relative.parts[:2] == ("runs", run_id)
            if (file.name in SMALL or of_run) and file.is_file() and not file.is_symlink():
                size = file.stat().st_size
                is_written = self._write(file, relative)
                is_whole = is_whole and (is_written or (bool(run_id) and not of_run))
                if of_run and size:
                    sizes[Path(*relative.parts[2:]).as_posix()] = size
        if run_id and is_whole:
            manifest = self._work / MANIFEST
            manifest.write_text(json.dumps(sizes))
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
            trouble = f"{relative} could not be written into the storage ({getattr(error, 'strerror', None) or error})."
            if trouble not in self._troubles:  # in the log once
                self._troubles.add(trouble)
                print(trouble, flush=True)
            return False


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
        (work / "exit_code").write_text(f"{started.returncode}\n")
        until = time.monotonic() + LAST_SECONDS
        while not (carrier.look() and carrier.write()) and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)
        return started.returncode if started.returncode >= 0 else 128 - started.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
