"""Temporary files in HOME/tmp: visitors' uploads and downloads, adapters from the Hub, and work folders.
All follow one rule: files older than a day are deleted, and the oldest ones where a limit is reached."""

import math
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from threading import RLock
from typing import NamedTuple

from rankviz.errors import LimitError
from rankviz.paths import bytes_in, resolved, written_at
from rankviz.visitor import Visitor

GRADIO_FOLDER = "GRADIO_TEMP_DIR"
"""Environment variable that sets Gradio's folder of uploads and downloads."""
FRESH_SECONDS = 600.0
"""Age in seconds up to which an upload is never deleted to make room, because it is used soon after it arrives."""
DOWNLOAD, COPY, WORK = "download-", "hub-", "work-"
"""Prefixes of folders: for a download, an adapter from the Hub (which can be fetched again), and for work."""
KEPT = 4
"""Most downloads stored per visitor."""
KEPT_COPIES = 3
"""Most adapters from the Hub that are stored, for all visitors together."""


class Usage(NamedTuple):
    """Number and bytes of a visitor's uploads."""

    files: int
    size_bytes: int


class TempHome:
    """Temporary files of one runs folder, which several apps may use. The folder `owners` in it has a folder for each
    visitor; a file there contains the path of an upload or download that the visitor owns."""

    def __init__(self, home: Path):
        self.folder = resolved(home) / "tmp"
        self._changing = RLock()

    @property
    def page(self) -> Path:
        """Folder of uploads and downloads: GRADIO_TEMP_DIR, or Gradio's default."""
        return Path(os.environ.get(GRADIO_FOLDER) or Path(tempfile.gettempdir()) / "gradio")

    @property
    def copies(self) -> str:
        """Start of the path of every adapter from the Hub."""
        return str(self.page / COPY)

    @property
    def _has_page(self) -> bool:
        """True where `page` holds files of this runs folder alone."""
        return self.page == self.folder / "page" or self.page.name == f"rankviz-{_digest(self.folder)}"

    def use_for_gradio(self, *, always: bool = False) -> None:
        """Set GRADIO_TEMP_DIR to a folder that belongs to this runs folder alone: in HOME/tmp, or below the earlier
        value, which other programs may use. Call this before a page is built. always: True to set it even if the folder
        cannot be created, so that uploads fail; False to let Gradio use its default then."""
        if self._has_page:
            return
        is_set = os.environ.get(GRADIO_FOLDER)
        page = resolved(self.page / f"rankviz-{_digest(self.folder)}" if is_set else self.folder / "page")
        with suppress(OSError):
            page.mkdir(parents=True)
        if always or page.is_dir():
            os.environ[GRADIO_FOLDER] = str(page)

    @contextmanager
    def work(self) -> Iterator[Path]:
        """Create a folder for the block, then delete it; in the system's temporary folder if HOME is not writable."""
        folder: Path | None = self.folder / "work"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            folder = None
        with tempfile.TemporaryDirectory(dir=folder, prefix=WORK, ignore_cleanup_errors=True) as made:
            yield Path(made)

    def keep_download(self, written: Path, visitor: Visitor, most_bytes: float = math.inf) -> Path:
        """Move a file to where the visitor can download it; return its path. The visitor's newest downloads stay, up to
        KEPT of them and up to `most_bytes` together."""
        with self._changing:
            older = filter(self.is_download, self._files(visitor))
            for path in _surplus(older, KEPT - 1, most_bytes - written.stat().st_size):
                self._discard(path, visitor)
            path = self.page / f"{DOWNLOAD}{secrets.token_hex(16)}" / written.name
            try:
                path.parent.mkdir(parents=True)
                self.own(path, visitor.id)
                shutil.move(written, path)
            except OSError:
                self._discard(path, visitor)
                raise
        return path

    def _discard(self, path: Path, visitor: Visitor) -> None:
        for record in self._records(path, visitor):
            record.unlink(missing_ok=True)
        with suppress(OSError):  # a folder is not empty where another has uploaded the same by another name
            path.unlink(missing_ok=True)
            path.parent.rmdir()

    def drop_copies(self) -> None:
        """Delete adapters from the Hub, except the newest few."""
        for path in _surplus((path for path in _inside(self.page) if path.name.startswith(COPY)), KEPT_COPIES):
            shutil.rmtree(path, ignore_errors=True)

    def require_room(self, most_mb: int | None, coming_bytes: int = 0) -> float:
        """Return the bytes left for uploads and downloads, besides `coming_bytes` that are arriving; infinity where
        `most_mb` is None. To make room, the oldest downloads are deleted, then the oldest uploads, except those that
        have just arrived. Where this is not enough, delete nothing and raise LimitError."""
        if most_mb is None:
            return math.inf
        used = sum(bytes_in(each) for each in _inside(self.page) if each.is_dir())  # an upload gets one at its end
        left = most_mb * 1_000_000 - coming_bytes - used
        if left < 0:
            files = [path for path in self.page.resolve().glob("*/*") if path.is_file() and not path.is_symlink()]
            uploads = [
                each for each in files if self._is_upload(each) and written_at(each) < time.time() - FRESH_SECONDS
            ]
            old = [*filter(self.is_download, files), *uploads]
            if sum(map(_size, old)) + left < 0:
                raise LimitError(
                    f"Uploads and downloads take all of the {most_mb:,} MB that this server has for them. The older "
                    "ones make room: try again in some minutes."
                )
            for path in sorted(old, key=lambda path: (not self.is_download(path), written_at(path))):
                if left >= 0:
                    break
                left += _size(path)
                self._discard(path, Visitor(""))
        return left

    def is_of_page(self, path: Path) -> bool:
        """Return True for a path in the folder of uploads and downloads."""
        return Path(path).resolve().is_relative_to(self.page.resolve())

    def is_download(self, path: Path) -> bool:
        """Return True for a file created for download; False for an upload."""
        return Path(path).resolve().parent.name.startswith(DOWNLOAD)

    def _is_upload(self, path: Path) -> bool:
        is_here = path.parent.parent == self.page.resolve() and path.is_file()
        return is_here and not path.parent.name.startswith((DOWNLOAD, COPY))

    def own(self, path: Path, visitor_id: str) -> None:
        """Record the owner of an upload or download. Two visitors may own one upload, if they sent the same file."""
        (record,) = self._records(path, Visitor(visitor_id))
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_bytes(os.fsencode(path.resolve()))

    def owns(self, path: Path, visitor: Visitor) -> bool:
        """Return True where a file is an upload or download of this visitor."""
        return bool(visitor.ids) and self.is_of_page(path) and any(map(Path.is_file, self._records(path, visitor)))

    def remove_upload(self, path: Path, visitor: Visitor) -> None:
        """Delete an upload of this visitor, unless another visitor has sent the same file. Any other file stays."""
        path = Path(path).resolve()
        if not self.owns(path, visitor) or not self._is_upload(path):
            return
        with suppress(OSError):  # then it goes once it is old
            for record in self._records(path, visitor):
                record.unlink(missing_ok=True)
            if not any((each / _digest(path)).exists() for each in _inside(self.folder / "owners")):
                self._discard(path, visitor)

    def usage(self, visitor: Visitor) -> Usage:
        """Return the number and bytes of a visitor's existing uploads."""
        uploads = self.uploads_of(visitor)
        return Usage(len(uploads), sum(map(_size, uploads)))

    def uploads_of(self, visitor: Visitor) -> list[Path]:
        """Return the paths of a visitor's existing uploads."""
        return [path for path in self._files(visitor) if not self.is_download(path) and path.is_file()]

    def _files(self, visitor: Visitor) -> set[Path]:
        owners = (self.folder / "owners" / _digest(name) for name in visitor.ids or (visitor.id,))
        return {path for owner in owners for record in _inside(owner) if (path := _path_in(record))}

    def _records(self, path: Path, visitor: Visitor) -> list[Path]:
        """Return the record files that may name this visitor as a file's owner. Visitors without an id share one."""
        name = _digest(Path(path).resolve())
        return [self.folder / "owners" / _digest(owner) / name for owner in visitor.ids or (visitor.id,)]

    def clean(self, keep_seconds: float, now: float) -> None:
        """Delete temporary files older than `keep_seconds`. now: Unix seconds."""
        work = [each for each in _inside(self.folder / "work") if each.name.startswith(WORK)]
        for each in (*work, *(_inside(self.page) if self._has_page else ())):
            if now - _last_written_in(each) > keep_seconds:
                shutil.rmtree(each, ignore_errors=True) if each.is_dir() else each.unlink(missing_ok=True)
        for folder in _inside(self.folder / "owners"):
            for record in _inside(folder):
                path = _path_in(record)
                if now - written_at(record) > keep_seconds and not (path and path.is_file()):
                    record.unlink(missing_ok=True)
            with suppress(OSError):  # not empty
                folder.rmdir()


def _surplus(paths: Iterable[Path], count: float = math.inf, size: float = math.inf) -> list[Path]:
    """Return all paths except the newest ones, which are at most `count` and together at most `size` bytes."""
    surplus = []
    for number, path in enumerate(sorted(paths, key=_last_written_in, reverse=True)):
        size -= _size(path)
        if number >= count or size < 0:
            surplus.append(path)
    return surplus


def _digest(text: object) -> str:
    return sha256(os.fsencode(str(text))).hexdigest()[:32]


def _path_in(record: Path) -> Path | None:
    with suppress(OSError):
        return Path(os.fsdecode(record.read_bytes()))
    return None


def _inside(folder: Path) -> list[Path]:
    with suppress(OSError):
        return list(folder.iterdir())
    return []


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0


def _last_written_in(path: Path) -> float:
    """Return the unix seconds of the last write to a file, or in a folder; 0 if it is gone, infinity if unreadable."""
    with suppress(OSError):
        return max(each.stat().st_mtime for each in (path, *path.rglob("*")))
    return math.inf if path.exists() else 0.0
