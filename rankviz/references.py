"""References to models, data and adapters: read, resolved, then allowed or refused, here alone.

On a machine of one's own every path is as good as a name. On a shared page only names exist (of the catalogue, of
samples and on the Hub) and a visitor's own files: uploads, and the copies that their runs keep. Whether anything else
is there is never looked at, so no answer tells it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rankviz.catalog import models
from rankviz.core.bounds import named
from rankviz.errors import InvalidSettingError, NoSuchPathError, NoWeightsError, UnknownModelError
from rankviz.paths import ASSETS, absolute, existing, is_hub_id, named_in
from rankviz.visitor import Visitor, data_folder, is_data_folder

EMBEDDED = "embedded"
EMBEDDED_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""The embedded model on the Hub."""
PRIVATE = (
    "This page is shared, so it reads no files of its machine, and this is no upload of yours that is still here. "
    "Upload the file."
)
OF_PATHS = ("/", "\\", "~", "$", ":")
"""Signs of a path: no name has them but a Hub id, whose grammar is checked first."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Meaning of a text."""

    kind: Literal["name", "path", "hub"]
    """A name is the embedded base, one of the catalogue or a sample."""
    text: str
    """The name, the Hub id, or the absolute path, from which nobody needs to work out again what it means."""

    @property
    def path(self) -> Path | None:
        """None where it is no path."""
        return Path(self.text) if self.kind == "path" else None


class References:
    """Resolver of everything that may be named here.

    Args:
        home: The runs folder.
        assets: RankViz's own data.
        stranger: Gives the visitor of a shared page, and None of the host. Called when a reference may
            be a path, since names are the same for everybody.
        own_upload: Whether a visitor uploaded a file, by its resolved path.
    """

    def __init__(
        self,
        home: Path,
        assets: Path = ASSETS,
        *,
        stranger: Callable[[], Visitor | None],
        own_upload: Callable[[Path, Visitor], bool] = lambda path, visitor: False,
    ):
        self._home, self._assets = home, assets
        self._stranger, self._own_upload = stranger, own_upload

    @classmethod
    def of_runs(cls, home: Path, owner: str) -> References:
        """Return the references for the runs of this owner, whoever starts them; the host's where it is empty."""
        return cls(home, stranger=lambda: Visitor(owner) if owner else None)

    def model(self, ref: object) -> Reference:
        """The embedded base, a catalogue id or one of its other names, a path of one's own, a Hub id or its address."""
        text = named_in(_text(ref, "Model"))
        if text == EMBEDDED:
            return Reference("name", text)
        rows = models.load_index(self._assets)
        if models.is_known(rows, text):
            return Reference("name", text)
        if path := self.path(text):
            return Reference("path", str(path))
        if is_hub_id(text):
            return Reference("hub", text)
        if text.startswith((".", "/", "~")) or text.endswith(".json"):
            raise NoSuchPathError(text)
        raise UnknownModelError(text, models.close_names(rows, text))

    def base(self, ref: object) -> Reference:
        """A model that can be trained: one whose weights are shipped, on the Hub, or in a folder of one's own machine.
        NoWeightsError of a config.json, which is all of a model that a visitor of a shared page has here;
        UnknownModelError of a folder without weights."""
        model = self.model(ref)
        if (folder := model.path) is None:
            return model
        if self._stranger() is not None or folder.is_file():
            raise NoWeightsError
        if not (folder / "config.json").is_file():
            raise UnknownModelError(model.text, reason="and its folder holds no config.json")
        if not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
            raise UnknownModelError(model.text, reason="and its folder holds no weights")
        return model

    def data(self, ref: object) -> Reference:
        """A sample or a file of one's own. BadDataError where it is neither."""
        from rankviz import dataset

        text = _text(ref, "Data")
        if dataset.is_sample(text, self._assets):
            return Reference("name", text)
        if path := self.path(text):
            return Reference("path", str(path))
        raise dataset.unknown(text, self._assets)

    def path(self, ref: object, name: str = "The path") -> Path | None:
        """The file or folder of this machine that a reference is, if this visitor may read it; None of one that is no
        path, and on one's own machine where there is nothing. InvalidSettingError for any path that is not theirs."""
        text = _text(ref, name)
        if self._stranger() is None:
            return existing(text)
        is_name = is_hub_id(text) or not (text.startswith(".") or any(mark in text for mark in OF_PATHS))
        return None if is_name else self.file(text)

    def file(self, ref: object) -> Path:
        """The absolute path that a reference is, which has to be one. InvalidSettingError where this visitor may not
        read it."""
        text = _text(ref, "The file")
        visitor = self._stranger()
        if visitor is None:
            return absolute(text)
        path = Path(text)
        if path.is_absolute() and ".." not in path.parts:
            resolved = Path(os.path.realpath(path))
            if self._is_kept(resolved, visitor) or self._own_upload(resolved, visitor):
                return resolved
        raise InvalidSettingError(PRIVATE)

    def _is_kept(self, path: Path, visitor: Visitor) -> bool:
        """Return whether it is a data file that this visitor's runs keep: HOME, data, a folder by content, the file."""
        home, folder = Path(os.path.realpath(self._home)), path.parent.parent
        owned = any(folder == data_folder(home, owner) for owner in visitor.ids)
        return owned or (visitor.admin and is_data_folder(home, folder))


def _text(ref: object, name: str) -> str:
    text = str(ref) if isinstance(ref, Path) else ref
    named(text, name)
    return text.strip()
