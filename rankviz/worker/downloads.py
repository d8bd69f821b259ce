"""Follows a download by the bytes that have come, whoever downloads: the Hub's client into its cache, or pip.

Nothing is fetched here but the list of a repository's files with their sizes. Only bytes that come while one looks are
counted, so a base that is there already is no download.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from rankviz import units
from rankviz.core.runs.events import DOWNLOADING, LOADING
from rankviz.errors import LimitError
from rankviz.paths import bytes_on_disk
from rankviz.worker.stages import Stages

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
