"""Where RankViz's own files are, in a checkout and in an installed wheel alike."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent

IMPORT_ROOT = _PACKAGE.parent
"""The folder from which a child process imports rankviz."""

ASSETS = next(folder for folder in (_PACKAGE / "assets", IMPORT_ROOT / "assets") if folder.is_dir())
"""RankViz's own data: a wheel carries it inside the package, a checkout has it beside the package."""
