"""The program that runs a job on a machine elsewhere: `python -m rankviz.jobs.inside SENT BACK [WORKER ...]`.

SENT is the packed job (bundle.py), BACK the place for its results: paths, or URIs that fsspec reads. The worker runs
on a copy on the machine's own disk, since journals grow by appending and object storage holds whole files. This
program copies journals to BACK every second, other files once they are written, and `exit_code` last. Failed copies are
tried again for minutes.
"""

import contextlib
import ctypes
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from rankviz import logs
from rankviz.jobs import bundle

PR_SET_PDEATHSIG = 1
"""Option of prctl: the kernel kills a process when its parent ends."""
LOOK_SECONDS, WANTED_SECONDS = 1.0, 60.0
LAST_SECONDS = 300.0
"""Seconds after the end of the worker in which copying is tried again. Then the job ends, since it costs money."""
EXIT_CODE = "exit_code"
SMALL = ("job.json", "request.json", "events.jsonl", "worker.log", EXIT_CODE)
"""Names of files that are copied while they grow."""


class Storage:
    """A folder that the page and the machines of a cluster can both access: a path, or any URI that fsspec reads
    (s3://…). Errors of the file system are not converted."""

    def __init__(self, address: str):
        from fsspec.core import url_to_fs

        # Listings that are cached would hide what a job wrote since.
        self._files, self._root = url_to_fs(address, use_listings_cache=False)

    def read(self, path: str, offset: int, most: int) -> bytes:
        """Return up to `most` bytes of a file from an offset on; empty where there is nothing to read."""
        try:
            size = self._files.info(self._at(path))["size"]
            if offset >= size:
                return b""
            return self._files.cat_file(self._at(path), start=offset, end=min(size, offset + most))
        except FileNotFoundError:
            return b""

    def write(self, path: str, file: Path) -> None:
        """Copy a local file to `path` in the storage."""
        target = self._at(path)
        if "file" in self._files.protocol:  # elsewhere a folder is the beginning of a name
            self._files.makedirs(str(PurePosixPath(target).parent), exist_ok=True)
        self._files.put_file(str(file), target)

    def read_all(self, folder: Path) -> None:
        """Copy all files of the storage to a local folder."""
        for path in self._files.find(self._root):
            target = folder / path[len(self._root) :].lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            self._files.get_file(path, str(target))

    def remove(self) -> None:
        if self._files.exists(self._root):
            self._files.rm(self._root, recursive=True)

    def _at(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}"


def carry(work: Path, back: Storage) -> Iterator[bool]:
    """Copy a job's changed files to the storage at each step of this generator: small files at once, other files of the
    runs once they stay as they are, or the worker has ended. Yield True where nothing is left."""
    seen, copied = {}, {}  # (bytes, time in nanoseconds) of each file, as last seen and as last copied
    while True:
        has_ended = (work / EXIT_CODE).exists()
        files = [file for file in bundle.files_in(work) if file.name in SMALL or file.is_relative_to(work / "runs")]
        for file in sorted(files, key=lambda file: file.name == EXIT_CODE):
            try:
                state = file.stat().st_size, file.stat().st_mtime_ns
                stays, seen[file] = seen.get(file) == state, state
                if (stays or has_ended or file.name in SMALL) and copied.get(file) != state:
                    back.write(file.relative_to(work).as_posix(), file)
                    copied[file] = state
            except Exception as error:  # each file system has errors of its own
                print(f"{file.name} could not be written into the storage ({error}).", flush=True)
        yield all(file in seen and copied.get(file) == seen[file] for file in files)


def main(argv: Sequence[str]) -> int:
    logs.keep_tokens_out()
    sent, back, *given = argv
    with tempfile.TemporaryDirectory(prefix="rankviz-") as scratch:
        work = Path(scratch) / "job"
        source = Storage(sent)
        source.read_all(work)
        job, _ = bundle.read_job(work)
        worker = given or [sys.executable, "-m", "rankviz.worker", "finetune"]
        started = subprocess.Popen(
            [*worker, str(work), *map(str, job.attempts)],
            cwd=work,
            stdin=subprocess.DEVNULL,
            preexec_fn=lambda: ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
        )
        # The job's time is over, or somebody cancelled it: what is there is still brought.
        signal.signal(signal.SIGTERM, lambda *_: started.terminate())
        looks, wanted_until = carry(work, Storage(back)), time.monotonic() + WANTED_SECONDS
        while started.poll() is None:
            next(looks)
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.wait(LOOK_SECONDS)
            if time.monotonic() >= wanted_until:
                wanted_until = time.monotonic() + WANTED_SECONDS
                with contextlib.suppress(Exception):  # the storage cannot be read now
                    if not source.read(bundle.JOB_FILE, 0, 1):  # the page has given this job up
                        started.terminate()
        (work / EXIT_CODE).write_text(f"{started.returncode}\n")
        until = time.monotonic() + LAST_SECONDS
        while not next(looks) and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)
        return started.returncode if started.returncode >= 0 else 128 - started.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
