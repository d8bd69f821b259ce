"""Folders that come together, or go together, also where an app is killed between two of them: HOME/runs/.publishing
names those that are on their way, so that whoever publishes or removes runs next, or starts, moves the rest."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from rankviz.errors import OF_NAMES, OF_THE_DISK
from rankviz.store.durable import replace_durably, sync_folder

FILE = ".publishing"
GOING = ".gone-"
"""How the place begins to which folders go; all others are places from which they come."""


def bring(folder: Path, aside: Path, names: Sequence[str]) -> None:
    """Rename what is in `aside`, a folder in `folder`, into `folder`, while nobody else does. Of one that fails nothing
    has come."""
    _move(folder, aside.name, names)


def take(folder: Path, place: str, names: Sequence[str]) -> Sequence[Path]:
    """Rename these out of the way, while nobody else renames here; returns where they are. Of one that fails nothing
    has gone.

    place: begins with GOING, and is new.
    """
    _move(folder, place, names)
    return [aside for _, aside in _ways(folder, place, names)]


def move_the_rest(folder: Path) -> Sequence[str]:
    """Of what somebody who was killed has begun, while nobody else renames here; returns all names of it."""
    try:
        place, *lines = (folder / FILE).read_text(errors="replace").split("\n")
    except FileNotFoundError:
        return ()
    names = list(filter(None, lines))  # an empty one would be the folder itself
    for source, target in _ways(folder, place, names):
        if source.is_dir() and not target.exists():
            _rename_if_allowed(source, target)
    sync_folder(folder)
    with contextlib.suppress(OSError, ValueError):  # it has gone, or what is left in it is for tidy
        (folder / place).rmdir()
    (folder / FILE).unlink()
    return names


def _rename_if_allowed(source: Path, target: Path) -> None:
    """One that may never be renamed stays, and keeps nobody from what comes next."""
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno not in OF_NAMES:
            raise


def _ways(folder: Path, place: str, names: Sequence[str]) -> list[tuple[Path, Path]]:
    """From where each is renamed, and to where."""
    if place.startswith(GOING):  # beside the others: a new folder around them would need room on the disk
        return [(folder / name, folder / f"{place}-{name}") for name in names]
    return [(folder / place / name, folder / name) for name in names]


def _move(folder: Path, place: str, names: Sequence[str]) -> None:
    try:
        _note(folder, place, names)
        for source, target in _ways(folder, place, names):
            os.rename(source, target)
        sync_folder(folder)
    except BaseException:
        for source, target in _ways(folder, place, names):
            if not source.exists():
                os.rename(target, source)
        (folder / FILE).unlink(missing_ok=True)
        raise
    (folder / FILE).unlink(missing_ok=True)


def _note(folder: Path, place: str, names: Sequence[str]) -> None:
    try:
        replace_durably(folder / FILE, "\n".join((place, *names)))
    except OSError as error:  # what goes makes room on a full disk, so it goes without a list there
        if not place.startswith(GOING) or error.errno not in OF_THE_DISK:
            raise
