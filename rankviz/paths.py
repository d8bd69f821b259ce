"""Paths of RankViz's own files and of the runs folder, sizes of folders, and user texts that may be paths."""

import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

_PACKAGE = Path(__file__).resolve().parent

IMPORT_ROOT = _PACKAGE.parent
"""Folder from which a child process imports rankviz."""

ASSETS = next(folder for folder in (_PACKAGE / "assets", IMPORT_ROOT / "assets") if folder.is_dir())
"""Folder of RankViz's own data: inside the package in a wheel, beside the package in a checkout."""

INTROSPECTED = "introspected"
"""Subfolder of the runs folder that caches the layers of models outside the catalogue."""


def home() -> Path:
    """Return the runs folder, resolved: RANKVIZ_HOME, or ~/.rankviz. Reads the variable itself, not through Settings:
    an estimate on the command line needs no other setting."""
    return resolved(os.environ.get("RANKVIZ_HOME") or "~/.rankviz")


def resolved(folder: str | Path) -> Path:
    """Return a folder as an absolute path with links followed, so that equal folders have equal paths."""
    return Path(os.path.realpath(Path(folder).expanduser()))


HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
HUB_ADDRESS = re.compile(
    r"""(?:(?:^|(?<=[\s"'`<(@[=])|(?<=//))(?:www\.)?(?:huggingface\.co|hf\.co|hf-mirror\.com)[/:]+|hf://+)"""
    r"(?:api/+)?(?:models/+(?=[\w.-]+/))?((?:(?:datasets|spaces)/+)?[\w.-]+"
    r"(?:/+(?!(?:blob|tree|resolve|raw|discussions|commits?)(?:[/?#]|$))[\w.-]+)?)",
    re.IGNORECASE | re.ASCII,
)
COPIED_ID = re.compile(
    r"""["'`<(\s]*([a-z0-9][\w.-]*/[\w.-]+?)(?:\.git)?(?::(?!whole\b)[\w.-]+)?["'`>),;.\s]*""",
    re.IGNORECASE | re.ASCII,
)
"""Pattern of an id as people copy it: in quotation marks, with llama.cpp's tag (":Q4_K_M") or with ".git"."""


def named_in(ref: str) -> str:
    """Return the repository id in the first address of the Hub in a text (of a page, a file, a clone or a download);
    return any other text unchanged. Ids of data sets and Spaces keep "datasets/" and "spaces/"."""
    address = HUB_ADDRESS.search(unquote(ref.strip()))
    return re.sub("/+", "/", address[1]).removesuffix(".git").rstrip(".") if address else ref


def id_in(ref: str) -> str:
    """Return the repository id in an address of the Hub, or in a text with an id alone; return any other text
    unchanged."""
    text = named_in(ref).partition(" · ")[0]  # the page's lists have the size behind it
    copied = COPIED_ID.fullmatch(unquote(text))
    return copied[1] if copied else text


def is_hub_id(ref: str) -> bool:
    """Tell whether a text can be the id of a repository on the Hub, by the Hub's own rules."""
    return bool(HUB_ID.fullmatch(ref)) and ".." not in ref and "--" not in ref and not ref.endswith((".git", "-", "."))


def absolute(ref: str | Path) -> Path:
    """Return the absolute path, without following links, for processes that run in another folder."""
    return Path(ref).expanduser().absolute()


def existing(ref: str) -> Path | None:
    """Return the absolute path that a text names; None where nothing is there, or the text cannot be a path."""
    try:
        path = absolute(ref)
        return path if path.exists() else None
    except (OSError, RuntimeError, ValueError):
        return None


def written_at(path: Path) -> float:
    """Return the unix seconds at which a file or folder was last written; 0 where it does not exist."""
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def bytes_in(folder: Path, *, on_disk: bool = False) -> int:
    """Return the bytes of all files below a folder. on_disk: count the space on the disk, without unwritten parts."""
    total = 0
    for place, _, names in os.walk(folder):  # which passes over folders that vanish meanwhile
        for name in names:
            with suppress(OSError):
                state = os.lstat(os.path.join(place, name))
                if stat.S_ISREG(state.st_mode):
                    total += state.st_blocks * 512 if on_disk else state.st_size  # blocks of 512 on every file system
    return total
