"""Files beside runs that no export takes along: owner.json, engine.json, and the key that signs visitors' cookies."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from rankviz.store.durable import replace_durably

FILE = "owner.json"
ENGINE_FILE = "engine.json"
MAX_BYTES = 4000
MAX_CHARACTERS = 200
"""Limit for a name or an option of an engine."""


@dataclass(frozen=True, slots=True)
class Ownership:
    """The owner of a run."""

    owner: str = ""
    """A visitor's id; empty: the host's; UNKNOWN_OWNER: not known."""
    is_open: bool = False
    """Whether others may look at it, by its address."""


NO_ONES = Ownership()
UNKNOWN_OWNER = "?"
"""No visitor has this id, so only the admin may see and change what is of an unknown owner."""
UNKNOWN = Ownership(UNKNOWN_OWNER)
UNKNOWN_SENTENCE = f"Its {FILE} cannot be read, so its owner is not known. Only the admin sees it and can delete it."


def read_ownership(folder: Path) -> Ownership:
    """Return the owner of the run in a folder: the host where there is no file, UNKNOWN where it cannot be read."""
    try:
        row = _read(folder / FILE)
        owner, is_open = row["owner"], row["is_open"]
    except FileNotFoundError:
        return NO_ONES
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return UNKNOWN
    return Ownership(owner, is_open) if isinstance(owner, str) and isinstance(is_open, bool) else UNKNOWN


def write_ownership(folder: Path, ownership: Ownership) -> None:
    """Write the owner into a run's folder; nothing where it is the host's."""
    if ownership != NO_ONES or (folder / FILE).exists():
        replace_durably(folder / FILE, json.dumps(asdict(ownership)))


@dataclass(frozen=True, slots=True)
class WantedEngine:
    """The engine that a run is to be trained on."""

    engine: str = ""
    """Name of the engine; empty: the one that the settings name."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Options of that engine."""

    @property
    def files(self) -> dict[str, str]:
        """Content of its file in a run's folder, by name; none for ANYWHERE."""
        return {ENGINE_FILE: json.dumps(asdict(self))} if self != ANYWHERE else {}


ANYWHERE = WantedEngine()


def read_destination(folder: Path) -> WantedEngine:
    """Return the destination of the run in a folder: ANYWHERE where there is no file or none that can be read."""
    try:
        row = _read(folder / ENGINE_FILE)
        engine, options = row["engine"], row["options"]
        texts = [engine, *options, *options.values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ANYWHERE
    known = all(isinstance(text, str) and len(text) <= MAX_CHARACTERS for text in texts)
    return WantedEngine(engine, options) if known else ANYWHERE


def write_destination(folder: Path, destination: WantedEngine) -> None:
    """Write the destination into a run's folder, in place of an earlier one."""
    (folder / ENGINE_FILE).unlink(missing_ok=True)
    for name, text in destination.files.items():
        replace_durably(folder / name, text)


def _read(file: Path) -> Any:
    with file.open("rb") as stream:
        return json.loads(stream.read(MAX_BYTES))


KEY_FILE = "cookie.key"


class CookieKey:
    """The key that the cookies of a shared page's visitors are signed with, made once and kept in the runs folder.

    While it is not on the disk, the next start would make another, and no visitor would be recognized.

    Args:
        home: The runs folder.
        given: A key that is kept elsewhere.
    """

    def __init__(self, home: Path, given: str = ""):
        self._file = Path(home) / KEY_FILE
        self._given = given
        self.keys = [given or secrets.token_hex(32)]
        """All whose signature counts; the last one signs. Another app may have been the first to write one."""
        self.is_kept()

    def is_kept(self) -> bool:
        """Return whether the key will be there at the next start, and write it where it is not there yet."""
        if self._given:
            return True
        try:
            kept = self._read()
            if not kept:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                with FileLock(self._file.with_name(f".{KEY_FILE}.lock"), thread_local=False):
                    if not (kept := self._read()):
                        kept = self.keys[-1]
                        replace_durably(self._file, kept, mode=0o600)
        except OSError:
            return False
        if kept != self.keys[-1]:
            self.keys.append(kept)
        return True

    def _read(self) -> str:
        from rankviz.settings import MIN_SECRET  # with pydantic, which no worker needs

        text = self._file.read_text(errors="replace").strip() if self._file.is_file() else ""
        return text if len(text) >= MIN_SECRET else ""
