"""What is in the folder of runs, by names and times. OSError where that cannot be known at the moment."""

import os

from rankviz.errors import OF_NAMES


def names_in(folder: str) -> set[str]:
    """Of all folders that may be of runs, readable or not."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()}
    except FileNotFoundError:
        return set()


def time_of(folder: str) -> int:
    """Nanoseconds; 0 where it is not there."""
    try:
        return os.stat(folder).st_mtime_ns
    except FileNotFoundError:
        return 0


def is_there(path: str) -> bool:
    try:
        os.stat(path)
    except OSError as error:
        if error.errno not in OF_NAMES:
            raise
        return False
    return True
