"""Folders that come together, also where an app is killed between two of them: HOME/runs/.publishing names those that
are on their way, so that whoever publishes or removes runs next, or starts, brings the rest."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from rankviz.store.durable import replace_durably, sync_folder

FILE = ".publishing"


def bring(folder: Path, aside: Path, names: Sequence[str]) -> None:
    """Rename what is in `aside`, a folder in `folder`, into `folder`, while nobody else does. Of one that fails nothing
    has come."""
    replace_durably(folder / FILE, "\n".join((aside.name, *names)))
    try:
        for name in names:
            os.rename(aside / name, folder / name)
        sync_folder(folder)
    except BaseException:
        for name in names:
            if not (aside / name).exists():
                os.rename(folder / name, aside / name)
        (folder / FILE).unlink()
        raise
    (folder / FILE).unlink()


def bring_the_rest(folder: Path) -> Sequence[str]:
    """Of what somebody who was killed has begun, while nobody else renames here; returns all names of it."""
    try:
        place, *names = (folder / FILE).read_text(errors="replace").split("\n")
    except FileNotFoundError:
        return ()
    for name in names:
        if (folder / place / name).is_dir() and not (folder / name).exists():
            os.rename(folder / place / name, folder / name)
    sync_folder(folder)
    with contextlib.suppress(OSError, ValueError):  # it has gone, or what is left in it is for tidy
        (folder / place).rmdir()
    (folder / FILE).unlink()
    return names
