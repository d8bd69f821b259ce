"""Runs in a job: `python -m rankviz.engines.hf_jobs.inside SENT BACK [WORKER ...]`.

SENT is the packed job (rankviz.engines.bundle), mounted to be read; BACK a folder of the mounted bucket. The worker
runs on a copy on the machine's own disk, since a journal is appended to, and a bucket is made for whole files.
Each line of a journal is printed, and files are written to BACK: journals every few seconds, adapters before the line
that says that their run has ended is printed. What cannot be written there is tried again, for minutes.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rankviz import logs
from rankviz.core.runs.events import Attempt, ProbeCompleted, RunCompleted, RunFailed
from rankviz.engines import bundle
from rankviz.engines.hf_jobs.following import lines
from rankviz.store.journal import parse_lines

LOOK_SECONDS, WRITE_SECONDS = 0.3, 5.0
LAST_SECONDS = 300.0
"""So long after the worker has ended what it left is still written. Then the job ends: it costs money."""
LAST = (RunCompleted, RunFailed, ProbeCompleted)
SMALL = ("job.json", "rented.json", "request.json", "events.jsonl", "worker.log", "config.json")
"""Files that are written as they grow; others once their run has ended."""


class Carrier:
    """Brings what the worker writes to the log and to the bucket."""

    def __init__(self, work: Path, back: Path, attempts: Sequence[Attempt]):
        self._work, self._back = work, back
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
            has_ended = any(isinstance(event, LAST) for event in parse_lines(new).events)
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
        """Into the bucket: all small files that have changed, and with a run everything of it. False where some of
        these, with a run of its own, could not be written."""
        is_whole = True
        for file in _files(self._work):
            relative = file.relative_to(self._work)
            of_run = bool(run_id) and relative.parts[:2] == ("runs", run_id)
            if (file.name in SMALL or of_run) and file.is_file() and not file.is_symlink():
                try:
                    self._write(file, relative)
                except OSError as error:
                    is_whole = is_whole and bool(run_id) and not of_run
                    self._say(f"{relative} could not be written into the bucket ({error.strerror or error}).")
        self._not_before = time.monotonic() + WRITE_SECONDS
        return is_whole

    def _write(self, file: Path, relative: Path) -> None:
        state = file.stat()
        if self._copied.get(relative) != (state.st_size, state.st_mtime_ns):
            (self._back / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, self._back / relative)
            self._copied[relative] = state.st_size, state.st_mtime_ns

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
        _copy(Path(sent), work)
        job = bundle.read_job(work)
        worker = given or [sys.executable, "-m", "rankviz.worker", job.kind]
        process = subprocess.Popen([*worker, str(work), *map(str, job.attempts)], cwd=work, stdin=subprocess.DEVNULL)
        # The job's time is over, or somebody cancelled it: what is there is still brought.
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        carrier = Carrier(work, Path(back), job.attempts)
        while process.poll() is None:
            carrier.look()
            time.sleep(LOOK_SECONDS)
        until = time.monotonic() + LAST_SECONDS
        while not (carrier.look() and carrier.write()) and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)
        carrier.look(last=True)
        print(lines.ended(process.returncode), flush=True)
        return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _files(folder: Path) -> Sequence[Path]:
    """All below a folder in which the worker works: os.walk passes over folders that go meanwhile, as pip's do."""
    return sorted(Path(place) / name for place, _, names in os.walk(folder) for name in names)


def _copy(sent: Path, work: Path) -> None:
    """Without modes: what is mounted to be read would stay so."""
    for file in sent.rglob("*"):
        if file.is_file():
            target = work / file.relative_to(sent)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
