"""Temporary files: HOME/tmp, with visitors' uploads and downloads, adapters from the Hub, and folders of work."""

import json
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
from rankviz.paths import bytes_in, resolved
from rankviz.visitor import Visitor

GRADIO_FOLDER = "GRADIO_TEMP_DIR"
"""The environment variable that tells Gradio where uploads and downloads lie."""
PARTIAL_SECONDS = 3600
"""After which a file without a folder goes: of an upload that was given up, or an empty one of an event of Gradio's."""
FRESH_SECONDS = 600.0
"""An upload is used soon after it has come, so it makes room for others only after that."""
DOWNLOAD, COPY, WORK = "download-", "hub-", "work-"
"""Prefixes of the folders of a download, of an adapter from the Hub, which can be fetched again, and of work."""
KEPT = 4
"""Downloads of one visitor."""
KEPT_COPIES = 3
"""Adapters of all visitors."""


class Clock:
    """Unix time that no jump of the machine's clock moves ahead."""

    def __init__(self):
        self._began = time.time(), time.monotonic()

    def now(self) -> float:
        """Return unix seconds, no more of them ahead of the start than have passed."""
        at, since = self._began
        return min(time.time(), at + time.monotonic() - since)


class Usage(NamedTuple):
    """Uploads of one visitor that are still here."""

    files: int
    size_bytes: int


class TempHome:
    """The temporary files of one runs folder. Several apps may use it at once."""

    def __init__(self, home: Path):
        self.folder = resolved(home) / "tmp"
        self._changing = RLock()

    @property
    def page(self) -> Path:
        """The folder of uploads and downloads: as GRADIO_TEMP_DIR says, or Gradio's own."""
        return Path(os.environ.get(GRADIO_FOLDER) or Path(tempfile.gettempdir()) / "gradio")

    @property
    def copies(self) -> str:
        """The beginning of the path of an adapter from the Hub."""
        return str(self.page / COPY)

    def use_for_gradio(self, *, always: bool = False) -> None:
        """Let Gradio keep its files here, or in a folder of their own where it was told of another place, which others
        may use too. To be called before a page is built.

        Args:
            always: Also where nothing can be written here yet, so that nothing can be uploaded; otherwise Gradio then
                has its own place.
        """
        if self._has_page:
            return
        page = resolved(self.page / self._own if os.environ.get(GRADIO_FOLDER) else self.folder / "page")
        with suppress(OSError):
            page.mkdir(parents=True, exist_ok=True)
        if always or page.is_dir():
            os.environ[GRADIO_FOLDER] = str(page)

    @property
    def _own(self) -> str:
        return f"rankviz-{_digest(self.folder)}"

    @property
    def _has_page(self) -> bool:
        """Whether all that lies in `page` is of this runs folder."""
        return self.page == self.folder / "page" or self.page.name == self._own

    @contextmanager
    def work(self) -> Iterator[Path]:
        """Make a folder that is removed afterwards; where nothing can be written here, one of the system."""
        folder: Path | None = self.folder / "work"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            folder = None
        with tempfile.TemporaryDirectory(dir=folder, prefix=WORK, ignore_cleanup_errors=True) as made:
            yield Path(made)

    def keep_download(self, written: Path, visitor: Visitor, most_bytes: float = math.inf) -> Path:
        """Move a file to where a visitor fetches it, and return that. The newest few of their downloads stay, as long
        as all of them are no more than `most_bytes`."""
        with self._changing:
            left = most_bytes - written.stat().st_size
            older = [path for path in self._paths(visitor) if self.is_download(path)]
            for place, path in enumerate(sorted(older, key=_written_at, reverse=True), start=1):
                left -= _size(path)
                if place >= KEPT or left < 0:
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

    def _discard(self, download: Path, visitor: Visitor) -> None:
        shutil.rmtree(download.parent, ignore_errors=True)
        for record in self._records(download, visitor):
            record.unlink(missing_ok=True)

    def drop_copies(self) -> None:
        """Delete all adapters from the Hub but the newest few."""
        copies = [path for path in _inside(self.page) if path.name.startswith(COPY)]
        for path in sorted(copies, key=_last_written_in, reverse=True)[KEPT_COPIES:]:
            shutil.rmtree(path, ignore_errors=True)

    def require_room(self, most_mb: int | None, coming_bytes: int = 0) -> float:
        """Return how many more bytes of uploads and downloads there is room for, besides those on their way.

        The oldest downloads make room, then the oldest uploads, but none that has just come. LimitError where there is
        too little all the same; then nothing is removed.
        """
        if most_mb is None:
            return math.inf
        used = sum(bytes_in(each) for each in _inside(self.page) if each.is_dir())  # an upload gets one at its end
        left = most_mb * 10**6 - coming_bytes - used
        if left < 0:
            files = [path for path in self.page.resolve().glob("*/*") if path.is_file() and not path.is_symlink()]
            downloads = [path for path in files if self.is_download(path)]
            is_old = time.time() - FRESH_SECONDS
            uploads = [path for path in files if self._is_upload(path) and _written_at(path) < is_old]
            left += _free([*sorted(downloads, key=_written_at), *sorted(uploads, key=_written_at)], -left)
        if left < 0:
            raise LimitError(
                f"Uploads and downloads take all of the {most_mb:,} MB that this server has for them. The older ones "
                "make room: try again in some minutes."
            )
        return left

    def is_of_page(self, path: Path) -> bool:
        """Return whether a file is among uploads and downloads."""
        return Path(path).resolve().is_relative_to(self.page.resolve())

    def is_download(self, path: Path) -> bool:
        """Return whether a file was made to be downloaded, not uploaded."""
        return Path(path).resolve().parent.name.startswith(DOWNLOAD)

    def _is_upload(self, path: Path) -> bool:
        is_here = path.parent.parent == self.page.resolve() and path.is_file()
        return is_here and not path.parent.name.startswith((DOWNLOAD, COPY))

    def own(self, path: Path, visitor_id: str) -> None:
        """Remember the owner of an upload or download. Two visitors may have uploaded the same file."""
        record = self._record(path, visitor_id)
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(str(path.resolve())), encoding="utf-8")

    def owns(self, path: Path, visitor: Visitor) -> bool:
        """Return whether a file is among uploads and downloads, and this visitor's."""
        return bool(visitor.ids) and self.is_of_page(path) and any(map(Path.is_file, self._records(path, visitor)))

    def remove_upload(self, path: Path, visitor: Visitor) -> None:
        """Remove an upload of this visitor, unless another has uploaded the same. Any other file stays as it is."""
        path = Path(path).resolve()
        if not self.owns(path, visitor) or not self._is_upload(path):
            return
        with suppress(OSError):  # then it goes once it is old
            for record in self._records(path, visitor):
                record.unlink(missing_ok=True)
            if not any((each / _digest(path)).exists() for each in _inside(self.folder / "owners")):
                path.unlink(missing_ok=True)
                path.parent.rmdir()

    def usage(self, visitor: Visitor) -> Usage:
        """Return what a visitor has uploaded and is still here."""
        uploads = self.uploads_of(visitor)
        return Usage(len(uploads), sum(map(_size, uploads)))

    def uploads_of(self, visitor: Visitor) -> list[Path]:
        """Return the uploads of a visitor that are still here."""
        return [path for path in self._paths(visitor) if not self.is_download(path) and path.is_file()]

    def _paths(self, visitor: Visitor) -> set[Path]:
        folders = (self.folder / "owners" / _digest(name) for name in visitor.ids or (visitor.id,))
        return {path for folder in folders for record in _inside(folder) if (path := _path_in(record))}

    def _records(self, path: Path, visitor: Visitor) -> list[Path]:
        """Return where it may be written that a file is this visitor's; all who cannot be told apart share one."""
        return [self._record(path, name) for name in visitor.ids or (visitor.id,)]

    def _record(self, path: Path, visitor_id: str) -> Path:
        return self.folder / "owners" / _digest(visitor_id) / _digest(Path(path).resolve())

    def clean(self, keep_seconds: float, now: float | None = None) -> None:
        """Remove what is older. now: unix seconds."""
        now = time.time() if now is None else now
        old = [each for each in _inside(self.folder / "work") if each.name.startswith(WORK)]
        for each in (*old, *(_inside(self.page) if self._has_page else ())):
            age = now - _last_written_in(each)
            if each.is_dir() and age > keep_seconds:
                shutil.rmtree(each, ignore_errors=True)
            elif each.is_file() and age > PARTIAL_SECONDS:
                each.unlink(missing_ok=True)
        for folder in _inside(self.folder / "owners"):
            for record in _inside(folder):
                path = _path_in(record)
                if now - _written_at(record) > keep_seconds and not (path and path.is_file()):
                    record.unlink(missing_ok=True)
            with suppress(OSError):  # not empty
                folder.rmdir()


def _free(files: Iterable[Path], needed_bytes: float) -> int:
    """Remove files in this order until so many bytes are free; return how many that are, 0 where all have fewer."""
    sizes = {path: _size(path) for path in files}
    freed = 0
    for path, size in sizes.items() if needed_bytes <= sum(sizes.values()) else ():
        if freed >= needed_bytes:
            break
        with suppress(OSError):
            path.unlink(missing_ok=True)
            freed += size
            path.parent.rmdir()  # unless another has uploaded the same by another name
    return freed


def _digest(text: object) -> str:
    return sha256(str(text).encode()).hexdigest()[:32]


def _path_in(record: Path) -> Path | None:
    with suppress(OSError, ValueError, TypeError):
        return Path(json.loads(record.read_text(encoding="utf-8")))
    return None


def _inside(folder: Path) -> list[Path]:
    with suppress(OSError):
        return list(folder.iterdir())
    return []


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0


def _written_at(path: Path) -> float:
    """Return when a file was written last, unix seconds; 0 where it is gone."""
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def _last_written_in(path: Path) -> float:
    """Return when anything in it was written last, unix seconds; infinity where that cannot be read."""
    with suppress(OSError):
        return max(each.stat().st_mtime for each in (path, *path.rglob("*")))
    return math.inf if path.exists() else 0.0
