"""Finds out why a folder cannot be written: its disk is full, or it is read-only."""

import errno
import os
from pathlib import Path

from rankviz.errors import StorageError, causes

LEAST_FREE_BYTES = 2**20  # free bytes below which a disk counts as full: a run could not even record how it ended
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""errno of a full disk; EFBIG is for a limit on the size of each file (ulimit -f)."""
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
READ_ONLY_SENTENCE = "The runs folder is read-only, so nothing can be saved. Set RANKVIZ_HOME to a writable folder."
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
"""Sentences for visitors, who can do nothing about the machine, by the sentence for its owner."""


def is_full(folder: Path) -> bool:
    """Tell whether the disk of a folder has no room left; the folder need not exist yet."""
    try:
        room = os.statvfs(_nearest_existing(folder))
    except OSError:
        return False
    return room.f_bavail * room.f_frsize < LEAST_FREE_BYTES


def trouble(folder: Path) -> str:
    """Return why nothing can be written in a folder and what to do, as a sentence; empty where it can be written."""
    there = _nearest_existing(folder)
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        return READ_ONLY_SENTENCE
    return FULL_SENTENCE if is_full(folder) else ""


def explain(error: OSError | StorageError) -> str:
    """Return why something could not be written into the runs folder, as a sentence."""
    if isinstance(error, StorageError):
        return str(error)
    if error.errno in FULL:
        return FULL_SENTENCE
    if error.errno in READ_ONLY:
        return READ_ONLY_SENTENCE
    return f"The runs folder could not be written ({error.strerror or error})."


def is_of_writing(error: OSError | StorageError, folder: Path) -> bool:
    """Tell whether an error means that something below a folder could not be written; False where a file is missing,
    or where a file from elsewhere cannot be read."""
    if isinstance(error, StorageError) or error.errno in FULL:
        return True
    named = error.filename is None or Path(os.fsdecode(error.filename)).absolute().is_relative_to(folder.absolute())
    return error.errno in READ_ONLY and named


def is_of_a_full_disk(error: BaseException | None, folder: Path) -> bool:
    """Tell whether an error or a cause of it is a full disk; where no cause tells, the disk is checked."""
    full = any(isinstance(each, OSError) and each.errno in FULL for each in causes(error))
    return full or is_full(folder)


def _nearest_existing(folder: Path) -> Path:
    """Return the folder where it exists, or else its nearest existing parent, which may be a file."""
    folder = Path(folder).absolute()
    return next(each for each in (folder, *folder.parents) if os.path.exists(each))
