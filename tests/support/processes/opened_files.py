"""Which files were opened meanwhile: what a look at many runs costs, whatever the machine."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_watching: list[tuple[Path, list[str]]] = []


def _note(event: str, arguments: tuple) -> None:
    if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        path = os.fsdecode(arguments[0])
        for folder, opened in _watching:
            if path.startswith(f"{folder}/"):
                opened.append(path.removeprefix(f"{folder}/"))


@contextmanager
def opened_files(folder: Path) -> Iterator[list[str]]:
    """The paths below a folder, in a list that grows within the block."""
    if not hasattr(sys, "_rankviz_notes_opened_files"):
        sys.addaudithook(_note)  # which nothing can remove
        sys._rankviz_notes_opened_files = True
    watched = folder, []
    _watching.append(watched)
    try:
        yield watched[1]
    finally:
        _watching.remove(watched)
