"""Resolves texts that name a model, data or an adapter, and refuses those that a visitor may not read.

On a user's own machine every path is allowed. On a shared page a text may name a model of the catalogue, a sample, a
repository on the Hub, or a file of the visitor: an upload, or the copy that a run keeps. Other paths are not looked at.
No other module resolves references.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rankviz.catalog import models
from rankviz.core.bounds import named
from rankviz.errors import InvalidSettingError, NoSuchPathError, UnknownModelError
from rankviz.paths import ASSETS, absolute, existing, id_in, is_hub_id, named_in
from rankviz.visitor import Visitor, data_folder, is_data_folder

EMBEDDED = "embedded"
EMBEDDED_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""Hub id of the embedded base model."""
PRIVATE = (
    "This page is shared, so it reads no files of its machine, and this is no upload of yours that is still here. "
    "Upload the file."
)
NO_WEIGHTS = "A config.json has no weights to train. Give the base as a Hub id (owner/name)."
PATH_CHARACTERS = ("/", "\\", "~", "$", ":")
"""Characters that mark a text as a path. A Hub id may contain one of them too, so Hub ids are recognized first."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A model, data file or adapter that a user's text names."""

    kind: Literal["name", "path", "hub"]
    """Kind of the reference. "name" is the embedded base, a model of the catalogue or a sample."""
    text: str
    """The name, the Hub id, or the absolute and resolved path."""
    note: str = ""
    """Sentence on what was assumed, where another text was given."""

    @property
    def path(self) -> Path | None:
        """Path of a reference of kind "path"; None for other kinds."""
        return Path(self.text) if self.kind == "path" else None


class References:
    """Turns a user's text for a model, a data file or an adapter (a name, a path or a Hub id) into a Reference, and
    refuses paths that this visitor may not read.

    Args:
        home: The runs folder.
        assets: The folder of the data that ships with RankViz.
        stranger: Returns the visitor of a shared page, or None for the host, who may read every path. Called only when
            the text may be a path: names have one meaning for all visitors.
        own_upload: Tells whether this visitor uploaded the file with this resolved path.
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
        """Return the resolver with the rights of the owner of runs; an empty owner is the host."""
        return cls(home, stranger=lambda: Visitor(owner) if owner else None)

    def model(self, ref: object) -> Reference:
        """Resolve a model: the embedded base, a catalogue id or alias, an allowed path, a Hub id or address, a copy in
        another format of a model of the catalogue, or words that mean one."""
        text = id_in(_text(ref, "Model"))
        if text == EMBEDDED:
            return Reference("name", text)
        rows = models.load_index(self._assets)
        if models.is_known(rows, text):
            return Reference("name", text)
        if text.startswith(("datasets/", "spaces/")):
            raise UnknownModelError(text, reason="because this is the address of a data set or a Space, not of a model")
        name, note = models.meant(rows, text)
        is_word = not (text.startswith(".") or any(mark in text for mark in "/\\~$"))
        # A path comes first, but no relative one is a stranger's.
        if (self._stranger() is None or not (note or is_word)) and (path := self.path(text)):
            return Reference("path", str(path))
        if note:
            return Reference("name", name, note)
        if is_hub_id(text):
            return Reference("hub", text)
        if text.startswith((".", "/", "~")) or text.endswith(".json"):
            raise NoSuchPathError(text)
        raise UnknownModelError(text, models.close_names(rows, text))

    def base(self, ref: object) -> Reference:
        """Resolve a model that can be trained: the embedded base, or a model with weights on the Hub or in a folder of
        the host. Raise InvalidSettingError for a config.json alone, the only kind of model file that a visitor can
        upload, and UnknownModelError for a folder without weights."""
        model = self.model(ref)
        if (folder := model.path) is None:
            return model
        if self._stranger() is not None or folder.is_file():
            raise InvalidSettingError(NO_WEIGHTS)
        if not (folder / "config.json").is_file():
            raise UnknownModelError(model.text, reason="and its folder holds no config.json")
        if not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
            raise UnknownModelError(model.text, reason="and its folder holds no weights")
        return model

    def data(self, ref: object) -> Reference:
        """Resolve a sample, an allowed data file, or a data set on the Hub; raise BadDataError for any other text."""
        from rankviz import dataset

        text = _text(ref, "Data")
        if dataset.is_sample(text, self._assets):
            return Reference("name", text)
        name = named_in(text).removeprefix("datasets/")
        if name == text and (path := self.path(text)):
            return Reference("path", str(path))
        if is_hub_id(name) and not name.lower().endswith(dataset.SUFFIXES):
            return Reference("hub", name)
        raise dataset.unknown(text, self._assets)

    def path(self, ref: object, name: str = "The path") -> Path | None:
        """Return the file or folder that a text names; None where the text is no path or, on one's own machine, nothing
        is there. InvalidSettingError where this visitor may not read it. name: For messages."""
        text = _text(ref, name)
        if self._stranger() is None:
            return existing(text)
        is_name = is_hub_id(text) or not (text.startswith(".") or any(mark in text for mark in PATH_CHARACTERS))
        return None if is_name else self.file(text)

    def file(self, ref: object) -> Path:
        """Return the path of the file that a text names; InvalidSettingError where this visitor may not read it."""
        text = _text(ref, "The file")
        visitor = self._stranger()
        if visitor is None:
            return absolute(text)
        path = Path(text)
        if path.is_absolute() and ".." not in path.parts:
            home, resolved = (Path(os.path.realpath(each)) for each in (self._home, path))
            folder = resolved.parent.parent  # of a run's data: DATA/content/file
            owned = any(folder == data_folder(home, owner) for owner in visitor.ids)
            if owned or (visitor.admin and is_data_folder(home, folder)) or self._own_upload(resolved, visitor):
                return resolved
        raise InvalidSettingError(PRIVATE)


def _text(ref: object, name: str) -> str:
    text = str(ref) if isinstance(ref, Path) else ref
    named(text, name)
    return text.strip()
