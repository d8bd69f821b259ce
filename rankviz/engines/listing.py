"""The folders of jobs (bundle.py) that lie in a place. One that cannot be read costs its own runs, and no others."""

import contextlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rankviz.core.runs.events import Attempt
from rankviz.engines.bundle import JOB_FILE, folder_of, read_job
from rankviz.engines.engine import End, Job, Live
from rankviz.errors import OF_NAMES, OF_THE_DISK, EngineError

FOLDER = re.compile(r"[^.].*-a[0-9]+")
"""How a job's folder is called; another, such as a copy that somebody made of one, is none."""
UNREAD = (
    "Files of its job cannot be read now ({folder}/{file}: {reason}). Its runs wait, since the job may go on, and no "
    "other job is started for them. Mend that file or its disk, or cancel these runs: then the job is ended."
)


def folders_in(place: Path) -> Sequence[Path]:
    """Of the jobs that lie there, in the order of their names. OSError where that cannot be seen now: Path.glob would
    find none."""
    with contextlib.suppress(FileNotFoundError):
        folders = [place / name for name in sorted(os.listdir(place))]
        return [folder for folder in folders if is_folder_of_job(folder) and _may_be(folder / JOB_FILE)]
    return []


def is_folder_of_job(folder: Path) -> bool:
    """By its name. One whose job has another name is a copy that somebody made, and none."""
    if not FOLDER.fullmatch(folder.name) or not _may_be(folder, stat.S_ISDIR):
        return False
    try:
        return folder_of(read_job(folder), folder.parent) == folder
    except (EngineError, OSError):
        return True


def each(folders: Iterable[Path], live_of: Callable[[Path], Live | None]) -> list[Live]:
    """What `live_of` says of these jobs. One of which it raises OSError waits: its files may be read later.
    OSError: the disk is full or read-only, which all share."""
    jobs = []
    for folder in folders:
        try:
            live = live_of(folder)
        except OSError as error:
            if error.errno in OF_THE_DISK:
                raise
            file = Path(error.filename or JOB_FILE).name
            live = Live(
                job=_job(folder),
                handle="",
                waits=UNREAD.format(folder=folder.name, file=file, reason=error.strerror or error),
            )
        if live is not None:
            jobs.append(live)
    return jobs


def unreadable(folder: Path, why: str) -> Live:
    """A job of which no more is known than what its folder is called and which runs it had. They end, since another job
    could run beside this one."""
    return Live(job=_job(folder), handle="", end=End(why=why, is_final=True))


def _job(folder: Path) -> Job:
    """As far as names say it. OSError where not even these can be read."""
    name, _, number = folder.name.rpartition("-a")
    others: Sequence[str] = ()
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        others = sorted({*os.listdir(folder / "runs")} - {name})
    return Job(attempts=(Attempt(name, int(number)), *(Attempt(run_id, 0) for run_id in others)))


def _may_be(path: Path, is_kind: Callable[[int], bool] = lambda mode: True) -> bool:
    """Whether it is there and of a kind, or may be, as it cannot be seen now."""
    try:
        return is_kind(path.stat().st_mode)
    except OSError as error:
        return error.errno not in OF_NAMES
