"""Data files as they are read for the page: in a child process, once for each content."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rankviz import dataset, installed
from rankviz.core.quantity import Range
from rankviz.dataset import Preview
from rankviz.errors import BadDataError
from rankviz.paths import existing

if TYPE_CHECKING:
    from rankviz.api.data import MeasuredData
    from rankviz.api.workspace import Workspace

REMEMBERED = 16
SHOWN_CHARACTERS = 20_000
"""Of an example in a preview."""


class Look(NamedTuple):
    """What is known of a sample or a file."""

    preview: Preview
    measured: MeasuredData


class DataFiles:
    """Samples and files, looked at once."""

    def __init__(self, workspace: Workspace):
        self._workspace = workspace
        self._looks: OrderedDict[tuple, Look] = OrderedDict()

    def look(self, data: str) -> Look:
        """A sample or a file that whoever asks may read. BadDataError names a bad row."""
        key = (data, *_stamp(existing(data)))
        if key in self._looks:
            return self._looks[key]
        if dataset.is_sample(data, self._workspace.assets):
            return self._remember(key, look(data, self._workspace.assets))
        if data.lower().endswith(".parquet"):
            installed.require_pyarrow()  # here, since a child does not know who asks
        children = self._workspace.children
        with children.turn(repr(key)):
            if key not in self._looks:  # while this one waited
                request = {"data": data, "assets": str(self._workspace.assets)}
                about = Path(data).name[:80]
                reply = children.ask("data", request, about=about, error=BadDataError, key=repr(key))
                self._remember(key, look_from(reply))
            return self._looks[key]

    def _remember(self, key: tuple, seen: Look) -> Look:
        self._looks[key] = seen
        while len(self._looks) > REMEMBERED:
            self._looks.popitem(last=False)
        return seen


LISTS = ("notes", "lengths", "traits")
"""Fields of MeasuredData that JSON has as lists."""


def look(data: str, assets: Path) -> Look:
    """Read it here."""
    from rankviz.api.data import measured

    read = dataset.read(data, assets)
    return Look(dataset.preview_of(read), measured(read, is_file=not dataset.is_sample(data, assets), assets=assets))


def look_json(seen: Look) -> dict[str, Any]:
    preview = seen.preview
    examples = [[text[:SHOWN_CHARACTERS] for text in example] for example in preview.examples]
    return {
        "preview": {name: getattr(preview, name) for name in Preview.__dataclass_fields__} | {"examples": examples},
        "measured": seen.measured.as_json() | {name: getattr(seen.measured, name) for name in ("file_name", *LISTS)},
    }


def look_from(row: Mapping[str, Any]) -> Look:
    from rankviz.api.data import MeasuredData

    preview, measured = row["preview"], row["measured"]
    tokens = {name: Range(**measured[name]) for name in ("mean_tokens", "longest_tokens")}
    return Look(
        Preview(**{**preview, "examples": tuple(map(tuple, preview["examples"]))}),
        MeasuredData(**{**measured, **tokens, **{name: tuple(measured[name]) for name in LISTS}}),
    )


def _stamp(path: Path | None) -> tuple[int, ...]:
    if path is None:
        return ()
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino
