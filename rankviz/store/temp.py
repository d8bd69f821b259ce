"""Everything that is written for a while, in one place: HOME/tmp. What is kept there, for whom, and until when."""

import atexit
import heapq
import json
import math
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from threading import RLock, Thread
from typing import NamedTuple

from filelock import FileLock, Timeout

from rankviz.errors import LimitError
from rankviz.paths import bytes_in, resolved
from rankviz.visitor import Visitor


class Clock:
    """Of one process, from when it is made."""

    def __init__(self):
        self._began = time.time(), time.monotonic()

    def now(self) -> float:
        """Unix seconds, no more of them ahead than have passed."""
        at, since = self._began
        return min(time.time(), at + time.monotonic() - since)


FRESH_SECONDS = 600.0
"""An upload is used soon after it has come, so for that long it stays."""


def oldest_first(files: Iterable[Path]) -> list[Path]:
    """One that has gone meanwhile comes first."""
    return sorted(files, key=_last_written_at)


def of_the_largest_first(uploads: Mapping[str, Iterable[Path]]) -> list[Path]:
    """Uploads by visitor, in the order they make room: each time the oldest of whoever has most left. So a visitor with
    little keeps it, however many others come with more. Those that have just come are not among them."""
    lines = {visitor: oldest_first(files) for visitor, files in uploads.items()}
    used = [(-sum(map(size_of, files)), visitor) for visitor, files in lines.items()]
    heapq.heapify(used)
    order: dict[Path, None] = {}  # one that two visitors have uploaded stands in it once
    while used:
        left, visitor = heapq.heappop(used)
        if lines[visitor] and time.time() - _last_written_at(lines[visitor][0]) > FRESH_SECONDS:
            order[oldest := lines[visitor].pop(0)] = None
            heapq.heappush(used, (left + size_of(oldest), visitor))
    return list(order)


def free(files: Iterable[Path], needed_bytes: float) -> int:
    """Remove files in this order until so many bytes are free; returns how many that are. None is removed where all of
    them have fewer."""
    sizes = {path: size_of(path) for path in files}
    if needed_bytes > sum(sizes.values()):
        return 0
    freed = 0
    for path, size in sizes.items():
        if freed >= needed_bytes:
            break
        with suppress(OSError):
            path.unlink(missing_ok=True)
            freed += size
            path.parent.rmdir()  # unless another has uploaded the same by another name
    return freed


def size_of(path: Path) -> int:
    """In bytes; 0 of one that has gone meanwhile."""
    with suppress(OSError):
        return path.stat().st_size
    return 0


def _last_written_at(path: Path) -> float:
    """0 of one that has gone meanwhile."""
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0


FOLDER = "download-"
KEPT = 4
"""Of one visitor."""


def new_folder(page: Path) -> Path:
    """A folder for one download, which is not there yet."""
    return page / f"{FOLDER}{secrets.token_hex(16)}"


def all_in(page: Path) -> Iterable[Path]:
    """Those of all visitors."""
    return page.glob(f"{FOLDER}*/*")


def is_download(path: Path) -> bool:
    """Whether a file was made to be downloaded, not uploaded."""
    return path.parent.name.startswith(FOLDER)


def too_many(downloads: Iterable[Path], left_bytes: float) -> list[Path]:
    """Those of one visitor that go once another comes: the newest few stay, no more than `left_bytes` together."""
    gone = []
    for place, path in enumerate(reversed(oldest_first(downloads)), start=1):
        left_bytes -= size_of(path)
        if place >= KEPT or left_bytes < 0:
            gone.append(path)
    return gone


GRADIO_FOLDER = "GRADIO_TEMP_DIR"
"""The environment variable that tells Gradio where uploads and downloads lie."""
CLEAN_SECONDS = 3600
PARTIAL_SECONDS = 3600
"""After which a file without a folder goes: of an upload that was given up, or an empty one of an event of Gradio's."""
LOCK = ".lock"
NEW = "new-"
"""Of a folder of work that is not locked yet."""
COPY = "hub-"
"""Of a folder with an adapter from the Hub, which anybody can have fetched again."""
KEPT_COPIES = 3
"""Of all visitors."""


class Usage(NamedTuple):
    """Uploads of one visitor that are still here."""

    files: int
    size_bytes: int


class TempHome:
    """The temporary files of one runs folder. Several apps may use it at once."""

    def __init__(self, home: Path):
        self.folder = resolved(home) / "tmp"
        self._changing = RLock()
        self._locked: tuple[Path, FileLock] | None = None

    @property
    def page(self) -> Path:
        """Where uploads and downloads lie: as GRADIO_TEMP_DIR says, where Gradio has its own place."""
        return Path(os.environ.get(GRADIO_FOLDER) or Path(tempfile.gettempdir()) / "gradio")

    def use_for_gradio(self, *, always: bool = False) -> None:
        """Let Gradio keep its files here, or in a folder of their own where it was told of another place: others may
        use that too. Before a page is built, which keeps to one place.

        always: also where nothing can be written here yet, so that nothing can be uploaded. Otherwise Gradio then has
            its own place.
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
        return f"rankviz-{_name(str(self.folder))}"

    @property
    def _has_page(self) -> bool:
        """Whether all that lies there is of this runs folder."""
        return self.page == self.folder / "page" or self.page.name == self._own

    def keep_download(self, written: Path, visitor: Visitor, most_bytes: float = math.inf) -> Path:
        """Move a file to where one visitor fetches it. Beside it the newest few of their downloads stay, as long as all
        of them are no more than `most_bytes`."""
        with self._changing:
            older = [path for path in self._paths(visitor) if is_download(path)]
            for path in too_many(older, most_bytes - written.stat().st_size):
                self._discard(path, visitor)
            path = new_folder(self.page) / written.name
            try:
                path.parent.mkdir(parents=True)
                self.own(path, visitor.id)
                shutil.move(written, path)
            except OSError:
                self._discard(path, visitor)
                raise
        return path

    def _discard(self, download: Path, visitor: Visitor) -> None:
        """Remove a download, and that it was this visitor's."""
        shutil.rmtree(download.parent, ignore_errors=True)
        for name in _names_of(visitor):
            self._record(download, name).unlink(missing_ok=True)

    def is_download(self, path: Path) -> bool:
        """Whether a file was made to be downloaded, not uploaded."""
        return is_download(_resolved(path))

    @property
    def copies(self) -> str:
        """The beginning of the path of an adapter from the Hub."""
        return str(self.page / COPY)

    def drop_copies(self) -> None:
        """Of the adapters from the Hub only the newest few stay."""
        copies = [(_written_at(path), path) for path in _inside(self.page) if path.name.startswith(COPY)]
        for _, path in sorted(copies, reverse=True)[KEPT_COPIES:]:
            shutil.rmtree(path, ignore_errors=True)

    def require_room(self, most_mb: int | None, coming_bytes: int = 0) -> float:
        """How many more bytes of uploads and downloads there is room for, beside those that are on their way.
        The oldest downloads make some, then uploads of the visitors who have most. LimitError where there is none all
        the same."""
        if most_mb is None:
            return math.inf
        left = most_mb * 10**6 - coming_bytes - self._whole_bytes()
        if left < 0:
            older = oldest_first(all_in(self.page))
            left += free([*older, *of_the_largest_first(self._uploads())], -left)
        if left < 0:
            raise LimitError(
                f"Uploads and downloads take all of the {most_mb:,} MB that this server has for them. The older ones "
                "make room: try again in some minutes."
            )
        return left

    def _uploads(self) -> dict[str, list[Path]]:
        """The uploads that are here, by the visitors' folders; under an empty name, what is nobody's."""
        found = {}
        for visitor in _inside(self.folder / "owners"):
            paths = [path for record in _inside(visitor) if (path := _path_in(record))]
            found[visitor.name] = [path for path in paths if self._is_upload(path)]
        owned = {path for paths in found.values() for path in paths}
        files = [path for path in _resolved(self.page).glob("*/*") if not path.parent.name.startswith(COPY)]
        found[""] = [path for path in files if not path.is_symlink() and self._is_upload(path) and path not in owned]
        return found

    def _is_upload(self, path: Path) -> bool:
        return path.parent.parent == _resolved(self.page) and path.is_file() and not self.is_download(path)

    def _whole_bytes(self) -> int:
        """Of uploads and downloads. An upload has a folder once all of it is there."""
        return sum(bytes_in(each) for each in _inside(self.page) if each.is_dir())

    @contextmanager
    def work(self) -> Iterator[Path]:
        """A folder that is removed afterwards, or once this app has ended however it does."""
        with tempfile.TemporaryDirectory(dir=self._mine, ignore_cleanup_errors=True) as folder:
            yield Path(folder)

    @property
    def _mine(self) -> Path | None:
        """This app's folder of work; None, the system's, where nothing can be written in the runs folder."""
        with self._changing, suppress(OSError):
            if self._locked is None or not (self._locked[0] / LOCK).exists():  # somebody may have removed it
                self._locked = self._new_work()
            return self._locked[0]
        return None

    def _new_work(self) -> tuple[Path, FileLock]:
        folder = self.folder / "work"
        folder.mkdir(parents=True, exist_ok=True)
        for app in _inside(folder):  # which may have been killed
            if not app.name.startswith(NEW):
                _clean_work(app)
        new = Path(tempfile.mkdtemp(dir=folder, prefix=NEW))
        lock = FileLock(new / LOCK, thread_local=False)
        lock.acquire()
        mine = new.rename(folder / new.name.removeprefix(NEW))
        atexit.register(_remove, mine, os.getpid())
        return mine, lock

    def own(self, path: Path, visitor_id: str) -> None:
        """Remember whose an upload is. Two visitors may have uploaded the same file."""
        record = self._record(path, visitor_id)
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(str(_resolved(path))), encoding="utf-8")

    def owns(self, path: Path, visitor: Visitor) -> bool:
        """Whether a file lies among uploads and downloads, and is this visitor's."""
        return self.is_of_page(path) and any(record.is_file() for record in self._records(path, visitor))

    def remove_upload(self, path: Path, visitor: Visitor) -> None:
        """An upload of this visitor that is not needed any more: it counts no more, and goes unless another has
        uploaded the same. Any other file stays as it is."""
        path = _resolved(path)
        if not self.owns(path, visitor) or not self._is_upload(path):
            return
        with suppress(OSError):  # then it goes once it is old
            for record in self._records(path, visitor):
                record.unlink(missing_ok=True)
            if not any((each / _name(str(path))).exists() for each in _inside(self.folder / "owners")):
                path.unlink(missing_ok=True)
                path.parent.rmdir()

    def is_of_page(self, path: Path) -> bool:
        """Whether a file lies among uploads and downloads."""
        return _resolved(path).is_relative_to(_resolved(self.page))

    def usage(self, visitor: Visitor) -> Usage:
        """What a visitor has uploaded and is still here."""
        sizes = []
        for path in self.uploads_of(visitor):
            with suppress(OSError):  # it may go meanwhile
                sizes.append(path.stat().st_size)
        return Usage(len(sizes), sum(sizes))

    def uploads_of(self, visitor: Visitor) -> list[Path]:
        """Of a visitor, that are still here."""
        return [path for path in self._paths(visitor) if not self.is_download(path) and path.is_file()]

    def _paths(self, visitor: Visitor) -> set[Path]:
        """The files of a visitor, as they were written down; some may be gone."""
        records = (record for name in _names_of(visitor) for record in _inside(self.folder / "owners" / _name(name)))
        return {path for record in records if (path := _path_in(record))}

    def _records(self, path: Path, visitor: Visitor) -> list[Path]:
        """Where it may be written down that a file is this visitor's."""
        return [self._record(path, name) for name in visitor.ids if name]

    def _record(self, path: Path, visitor_id: str) -> Path:
        return self.folder / "owners" / _name(visitor_id) / _name(str(_resolved(path)))

    def clean(self, keep_seconds: float, now: float | None = None) -> None:
        """Remove what is older, and what apps that have ended left. Another app's work stays. now: unix seconds."""
        now = time.time() if now is None else now
        for app in _inside(self.folder / "work"):
            if not app.name.startswith(NEW) or now - _written_at(app) > keep_seconds:
                _clean_work(app)
        for each in _inside(self.page) if self._has_page else ():
            age = now - _written_at(each)
            if each.is_dir() and age > keep_seconds:
                shutil.rmtree(each, ignore_errors=True)
            elif each.is_file() and age > PARTIAL_SECONDS:
                each.unlink(missing_ok=True)
        for visitor in _inside(self.folder / "owners"):
            for record in _inside(visitor):
                if now - _written_at(record) > keep_seconds and not ((path := _path_in(record)) and path.is_file()):
                    record.unlink(missing_ok=True)
            with suppress(OSError):  # somebody's, who still has files
                visitor.rmdir()

    def keep_clean(self, keep_seconds: float, every_seconds: float = CLEAN_SECONDS) -> None:
        """Clean now, and again and again while this process lives."""
        self._mine  # noqa: B018 - taken before others are removed
        clock = Clock()

        def clean() -> None:
            while True:
                self.clean(keep_seconds, clock.now())
                time.sleep(every_seconds)

        Thread(target=clean, name="temporary files", daemon=True).start()


def _names_of(visitor: Visitor) -> Sequence[str]:
    """Under which it is written down what is theirs. All whom nobody can tell share one."""
    return visitor.ids or (visitor.id,)


def _resolved(path: Path) -> Path:
    return Path(path).resolve()


def _name(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:32]


def _path_in(record: Path) -> Path | None:
    with suppress(OSError, ValueError, TypeError):
        return Path(json.loads(record.read_text(encoding="utf-8")))
    return None


def _clean_work(app: Path) -> None:
    """Unless the app lives. What has no lock is somebody else's, where the runs folder lies among other things."""
    with suppress(Timeout, OSError):
        if not (app / LOCK).exists():
            app.rmdir()  # which takes empty ones alone
            return
        with FileLock(app / LOCK).acquire(timeout=0):
            shutil.rmtree(app, ignore_errors=True)


def _remove(folder: Path, process: int) -> None:
    """In the process that made it, not in its forks."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


def _inside(folder: Path) -> list[Path]:
    with suppress(OSError):
        return list(folder.iterdir())
    return []


def _written_at(path: Path) -> float:
    """When anything in it was written last, unix seconds; infinity where that cannot be read, and 0 where it has
    gone."""
    with suppress(OSError):
        return max(each.stat().st_mtime for each in (path, *path.rglob("*")))
    return math.inf if path.exists() else 0.0


__all__ = ["TempHome", "Usage"]
