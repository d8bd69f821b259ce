"""Whose a run is, and on which engine it is to be: files in its folder that no export takes along."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from filelock import FileLock

from rankviz.settings import MIN_SECRET
from rankviz.store.durable import replace_durably

FILE = "owner.json"
MAX_BYTES = 1000


@dataclass(frozen=True, slots=True)
class Ownership:
    """Whose a run is."""

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
    """The host's where there is no file; an unknown owner's where it cannot be read; both closed."""
    try:
        with (folder / FILE).open("rb") as file:
            row = json.loads(file.read(MAX_BYTES))
        owner, is_open = row["owner"], row["is_open"]
    except FileNotFoundError:
        return NO_ONES
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return UNKNOWN
    return Ownership(owner, is_open) if isinstance(owner, str) and isinstance(is_open, bool) else UNKNOWN


def write_ownership(folder: Path, ownership: Ownership) -> None:
    """Nothing is written of what is no visitor's."""
    if ownership == NO_ONES and not (folder / FILE).exists():
        return
    replace_durably(folder / FILE, json.dumps(asdict(ownership)))


ENGINE_FILE = "engine.json"
ENGINE_MAX_BYTES = 4000
MAX_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Destination:
    """What whoever queued a run chose for it."""

    engine: str = ""
    """Its name; empty: the one that the settings name."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Of that engine."""

    @property
    def files(self) -> dict[str, str]:
        """What is written of it into a run's folder."""
        return {ENGINE_FILE: json.dumps(asdict(self))} if self != ANYWHERE else {}


ANYWHERE = Destination()


def read_destination(folder: Path) -> Destination:
    """The settings' engine where there is no file or none that can be read."""
    try:
        with (folder / ENGINE_FILE).open("rb") as file:
            row = json.loads(file.read(ENGINE_MAX_BYTES))
        engine, options = row["engine"], row["options"]
        texts = [engine, *options, *options.values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ANYWHERE
    if not all(isinstance(text, str) and len(text) <= MAX_CHARACTERS for text in texts):
        return ANYWHERE
    return Destination(engine, options)


def write_destination(folder: Path, destination: Destination) -> None:
    """In place of an earlier one."""
    (folder / ENGINE_FILE).unlink(missing_ok=True)
    for name, text in destination.files.items():
        replace_durably(folder / name, text)


KEY_FILE = "cookie.key"


class CookieKey:
    """Made once. While it is not on the disk, the next start would make another, and nobody would be who they were.

    Args:
        home: The runs folder.
        given: A key that is kept elsewhere.
    """

    def __init__(self, home: Path, given: str = ""):
        self._file = Path(home) / KEY_FILE
        self._given = given
        self.keys = [given or secrets.token_hex(32)]
        """Whatever one of them has signed is believed, and the last one signs: another app may have been the first to
        write one."""
        self.is_kept()

    def is_kept(self) -> bool:
        """Whether it will be there at the next start. It is written where it is not there yet, or not any more."""
        if self._given:
            return True
        try:
            kept = self._read() or self._write()
        except OSError:
            return False
        if kept != self.keys[-1]:
            self.keys.append(kept)
        return True

    def _read(self) -> str:
        """Empty where there is none, or none that can be a key: a file that was not written whole."""
        try:
            text = self._file.read_text(encoding="utf-8").strip()
        except (FileNotFoundError, UnicodeError):
            return ""
        return text if len(text) >= MIN_SECRET else ""

    def _write(self) -> str:
        """Ours, unless another app was first."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._file.with_name(f".{KEY_FILE}.lock"), thread_local=False):
            if kept := self._read():
                return kept
            replace_durably(self._file, self.keys[-1], mode=0o600)
        return self.keys[-1]
