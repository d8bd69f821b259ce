"""Which files were opened meanwhile: what a look at many runs costs, whatever the machine."""

import builtins
import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

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


@contextmanager
def failing_reads(folder: Path, code: int = errno.EIO, names: tuple[str, ...] = ("events.jsonl",)) -> Iterator[None]:
    """Within it, files of these names below a folder cannot be opened here."""
    opens = io.open

    def fails(file, *args, **options):
        path = Path(file) if isinstance(file, str | os.PathLike) else Path()
        if path.name in names and path.is_relative_to(folder):
            raise OSError(code, os.strerror(code), str(file))
        return opens(file, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builtins, "open", fails)
        patch.setattr(io, "open", fails)
        yield
