"""Where RankViz's own files are, in a checkout and in an installed wheel alike; and whether a reference is a path."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent

IMPORT_ROOT = _PACKAGE.parent
"""The folder from which a child process imports rankviz."""

ASSETS = next(folder for folder in (_PACKAGE / "assets", IMPORT_ROOT / "assets") if folder.is_dir())
"""RankViz's own data: a wheel carries it inside the package, a checkout has it beside the package."""


def existing(ref: str) -> Path | None:
    """The path that a reference is; None where it is none, or cannot be one: too long, or ~ of nobody."""
    try:
        path = Path(ref).expanduser()
        return path if path.exists() else None
    except (OSError, RuntimeError):
        return None
