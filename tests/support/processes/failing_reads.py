"""Files that are there and cannot be read for a while, as on a network disk, or where too many files are open."""

import builtins
import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


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
