"""Asks the app that supervises a run to cancel it: an empty file in the run's folder, or one that says who asks."""

import time
from pathlib import Path

from rankviz.core.runs.events import RunCancelled

CANCEL_MARKER = "cancel"
BY_ADMIN = "by the admin"


def ask(folder: Path, *, by_admin: bool = False) -> None:
    """An earlier word of the admin's stays."""
    if by_admin:
        (folder / CANCEL_MARKER).write_text(BY_ADMIN)
    else:
        (folder / CANCEL_MARKER).touch()


def is_asked(folder: Path) -> bool:
    return (folder / CANCEL_MARKER).exists()


def cancelled(folder: Path) -> RunCancelled:
    """What happened, now."""
    return RunCancelled(
        time=time.time(), by_admin=is_asked(folder) and (folder / CANCEL_MARKER).read_text() == BY_ADMIN
    )
