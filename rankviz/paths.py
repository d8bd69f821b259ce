"""Places of RankViz's own files and of the runs folder, sizes of folders, and references that are paths."""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent

IMPORT_ROOT = _PACKAGE.parent
"""The folder from which a child process imports rankviz."""

ASSETS = next(folder for folder in (_PACKAGE / "assets", IMPORT_ROOT / "assets") if folder.is_dir())
"""RankViz's own data: a wheel carries it inside the package, a checkout has it beside the package."""

INTROSPECTED = "introspected"
"""In the runs folder: what is remembered of models outside the catalogue."""


def home() -> Path:
    """The runs folder, as `resolved` has it: RANKVIZ_HOME, or ~/.rankviz. Not read with the other settings, since an
    estimate on the command line needs it and must not wait for their library."""
    return resolved(os.environ.get("RANKVIZ_HOME") or "~/.rankviz")


def resolved(folder: str | Path) -> Path:
    """One name of a folder for all who compare it, wherever they stand: absolute, and with links followed."""
    return Path(os.path.realpath(Path(folder).expanduser()))


HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


HUB_ADDRESS = re.compile(
    r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/([^/?#\s]+(?:/[^/?#\s]+)?)\S*", re.IGNORECASE
)


def named_in(ref: str) -> str:
    """The id in an address of the Hub, as a browser shows it; any other reference as it is."""
    address = HUB_ADDRESS.fullmatch(ref.strip())
    return address[1] if address else ref


def is_hub_id(ref: str) -> bool:
    """Return whether this can be the id of a repository on the Hub, by the Hub's own rules."""
    return bool(HUB_ID.fullmatch(ref)) and ".." not in ref and "--" not in ref and not ref.endswith((".git", "-", "."))


def absolute(ref: str | Path) -> Path:
    """The path from the caller's folder on, for processes that stand in another one. Links stay."""
    return Path(ref).expanduser().absolute()


def existing(ref: str) -> Path | None:
    """The absolute path that a reference is; None where it is none, or cannot be one: too long, or ~ of nobody."""
    try:
        path = absolute(ref)
        return path if path.exists() else None
    except (OSError, RuntimeError, ValueError):
        return None


_BLOCK_BYTES = 512
"""Unit of st_blocks, whatever the file system's own blocks are."""


def bytes_in(folder: Path) -> int:
    """Return the size of the files below a folder."""
    return sum(state.st_size for state in _files(folder))


def bytes_on_disk(folder: Path) -> int:
    """Return what the files below a folder take on the disk: one that was given its length before its content counts
    what has been written."""
    return sum(state.st_blocks * _BLOCK_BYTES for state in _files(folder))


def _files(folder: Path) -> Iterator[os.stat_result]:
    for place, _, names in os.walk(folder):  # which passes over folders that vanish meanwhile
        for name in names:
            with suppress(OSError):
                state = os.lstat(os.path.join(place, name))
                if stat.S_ISREG(state.st_mode):
                    yield state
