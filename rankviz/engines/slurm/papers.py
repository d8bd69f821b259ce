"""What is written down of a job in its folder beside the job itself.

    job_id       there as soon as sbatch is to be called, empty until it has answered
    exit_code    the worker's, written by batch.sh; blank until the worker has ended
    worker.yield where the worker is to end between two runs
    ending       where Slurm was asked to end the job

What is not there or makes no sense counts as not known, and costs its own job only. EngineUnavailableError where it may
be read later.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from rankviz.core.runs.events import YIELD_FILE
from rankviz.errors import OF_NAMES, EngineUnavailableError

JOB_ID, EXIT_CODE, ENDING = "job_id", "exit_code", "ending"
"""The exit code is independent of Slurm's accounting, which may be off."""
SIGNALS = frozenset(signal.Signals)


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """Around what reads files of jobs: EngineUnavailableError where they may be read later."""
    try:
        yield
    except OSError as error:
        if error.errno in OF_NAMES:
            raise
        raise EngineUnavailableError(f"Files of jobs cannot be read now ({error.strerror}).") from error


def is_asked(folder: Path) -> bool:
    """Whether Slurm may have the job."""
    return _is_there(folder / JOB_ID)


def ask(folder: Path) -> None:
    """From now on it may. OSError where that cannot be written down."""
    (folder / JOB_ID).touch(exist_ok=False)


def unask(folder: Path) -> None:
    """Slurm does not have it."""
    with contextlib.suppress(OSError):
        (folder / JOB_ID).unlink()


def read_id(folder: Path) -> str:
    """Slurm's number; empty where it is not known."""
    text = _read(folder / JOB_ID)
    return text if text.isascii() and text.isdigit() else ""


def write_id(folder: Path, job_id: str) -> None:
    """Where that cannot be written down, the job is found by its name."""
    aside = folder / f".{JOB_ID}"
    with contextlib.suppress(OSError):
        aside.write_text(job_id)
        os.replace(aside, folder / JOB_ID)


def keep_room(folder: Path) -> None:
    """For the exit code, which is written over this: a worker may end because the disk is full."""
    (folder / EXIT_CODE).write_text("   \n")


def read_exit_code(folder: Path) -> int | None:
    """Of a job's worker, negative where a signal ended it; None where it has not ended, or without a word. The file is
    opened anew each time, for which a network disk asks its server."""
    text = _read(folder / EXIT_CODE)
    digits = text.rstrip(" \n")
    if not (text.endswith("\n") and digits.isascii() and digits.isdigit() and len(digits) <= 3):
        return None
    code = int(digits)
    return 128 - code if code - 128 in SIGNALS else code


def yields(folder: Path) -> bool:
    return _is_there(folder / YIELD_FILE)


def note_ending(folder: Path) -> None:
    """From now on the job may end by that, also where another app sees its end."""
    with contextlib.suppress(OSError):
        (folder / ENDING).touch()


def is_ending(folder: Path) -> bool:
    return _is_there(folder / ENDING)


def _is_there(file: Path) -> bool:
    with contextlib.suppress(OSError), reading():
        file.lstat()
        return True
    return False


def _read(file: Path) -> str:
    with contextlib.suppress(OSError, ValueError), reading():
        return file.read_text()
    return ""
