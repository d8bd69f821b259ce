"""Whether a folder can be written, and why not: its disk is full, or it is read-only."""

import errno
import os
from pathlib import Path

from rankviz.errors import StorageError

LEAST_FREE_BYTES = 2**20
"""With less than this a disk counts as full: a run could not even say how it ended."""
LEAST_FREE_FILES = 64
"""The same of the files and folders that can still be made."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The last one is of a bound of each file (ulimit -f)."""
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
READ_ONLY_SENTENCE = (
    "The runs folder is read-only, so nothing can be saved or trained. Set RANKVIZ_HOME to a writable folder."
)
FULL_SENTENCE = "The disk is full. Free some space on it, or delete runs that are no longer needed."
NO_KEY_SENTENCE = (
    "The key of the visitors' cookies, cookie.key, cannot be kept in the runs folder, so after a restart what visitors "
    "save would be nobody's. See who may read and write that file, or set RANKVIZ_COOKIE_KEY."
)
NOTHING_NOW = "This page can save nothing now, so nothing can be trained here. Try later."
FOR_VISITORS = {
    FULL_SENTENCE: "The disk of this page is full. Try later.",
    READ_ONLY_SENTENCE: NOTHING_NOW,
    NO_KEY_SENTENCE: NOTHING_NOW,
}
"""The same for who can do nothing about the machine."""


def is_full(folder: Path) -> bool:
    """Tell whether there is no room left on the disk of a folder, which may not be there yet."""
    try:
        room = os.statvfs(_there(folder))
    except OSError:
        return False
    has_files = room.f_favail >= LEAST_FREE_FILES or room.f_files == 0  # which is said where nothing bounds them
    return room.f_bavail * room.f_frsize < LEAST_FREE_BYTES or not has_files


def trouble(folder: Path) -> str:
    """Return why nothing can be written there and what to do, as a sentence; empty where it can."""
    there = _there(folder)
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        return READ_ONLY_SENTENCE
    return FULL_SENTENCE if is_full(folder) else ""


def explain(error: OSError | StorageError) -> str:
    """Return what kept something from being written into the runs folder, as a sentence."""
    if isinstance(error, StorageError):
        return str(error)
    if error.errno in FULL:
        return FULL_SENTENCE
    if error.errno in READ_ONLY:
        return READ_ONLY_SENTENCE
    return f"The runs folder could not be written ({error.strerror or error})."


def is_of_writing(error: OSError | StorageError, folder: Path) -> bool:
    """Tell whether an error says that something below a folder could not be written, and not that it is missing, or
    that a file from elsewhere cannot be read."""
    if isinstance(error, StorageError) or error.errno in FULL:
        return True
    named = error.filename is None or Path(os.fsdecode(error.filename)).absolute().is_relative_to(folder.absolute())
    return error.errno in READ_ONLY and named


def is_of_a_full_disk(error: BaseException | None, folder: Path) -> bool:
    """Tell whether this error, or one that it follows from, is that of a full disk. Libraries that write files
    themselves have errors of their own, and then the disk is looked at."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        error = error.__cause__ or error.__context__
    return is_full(folder)


def _there(folder: Path) -> Path:
    """The folder, or the nearest above that is there; it may be a file."""
    folder = Path(folder).absolute()
    return next(each for each in (folder, *folder.parents) if os.path.exists(each))
