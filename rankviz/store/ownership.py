"""Files that no export contains: owner.json, engine.json, and the key that signs visitors' cookies."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from rankviz.core.bounds import Word
from rankviz.core.from_json import build
from rankviz.store.durable import replace_durably

Held = TypeVar("Held")
FILE = "owner.json"
ENGINE_FILE = "engine.json"
MAX_BYTES = 4000


@dataclass(frozen=True, slots=True)
class Ownership:
    """Who owns a run, and whether others may see it."""

    owner: str = ""
    """Id of the visitor; empty for the host, UNKNOWN_OWNER where not known."""
    is_open: bool = False
    """True where anybody with the run's address may see it."""


NO_ONES = Ownership()
UNKNOWN_OWNER = "?"
"""Id that no visitor has, so that only the admin sees and changes runs of an unknown owner."""
UNKNOWN = Ownership(UNKNOWN_OWNER)
UNKNOWN_SENTENCE = f"Its {FILE} cannot be read, so its owner is not known. Only the admin sees it and can delete it."


def read_ownership(folder: Path) -> Ownership:
    """Return the owner of the run in a folder: the host where there is no file, UNKNOWN where it cannot be read."""
    return _read(folder / FILE, Ownership, NO_ONES, UNKNOWN)


def write_ownership(folder: Path, ownership: Ownership) -> None:
    """Write the owner into a run's folder; not for the host, if the folder has no such file yet."""
    if ownership != NO_ONES or (folder / FILE).exists():
        replace_durably(folder / FILE, json.dumps(asdict(ownership)))


@dataclass(frozen=True, slots=True)
class WantedEngine:
    """The engine on which a run is to be trained."""

    engine: Word = ""
    """Name of the engine; empty for the default engine."""
    options: dict[Word, Word] = field(default_factory=dict)

    @property
    def files(self) -> dict[str, str]:
        """Files for a run's folder that store the engine, as {name: content}; empty for ANYWHERE."""
        return {ENGINE_FILE: json.dumps(asdict(self))} if self != ANYWHERE else {}


ANYWHERE = WantedEngine()


def read_destination(folder: Path) -> WantedEngine:
    """Return the engine for the run in a folder; ANYWHERE where there is no valid file."""
    return _read(folder / ENGINE_FILE, WantedEngine, ANYWHERE, ANYWHERE)


def write_destination(folder: Path, destination: WantedEngine) -> None:
    """Write the engine into a run's folder, in place of an earlier one."""
    (folder / ENGINE_FILE).unlink(missing_ok=True)
    for name, text in destination.files.items():
        replace_durably(folder / name, text)


def _read(file: Path, kind: type[Held], missing: Held, invalid: Held) -> Held:
    """Read a JSON file with all fields of `kind`; return `missing` without a file, `invalid` for an invalid one."""
    try:
        with file.open("rb") as stream:
            row = json.loads(stream.read(MAX_BYTES))
        return build(kind, {name: row[name] for name in kind.__annotations__})
    except FileNotFoundError:
        return missing
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return invalid


KEY_FILE = "cookie.key"


def store_key(home: Path, keys: list[str]) -> bool:
    """Store a key that signs visitors' cookies on a shared page, unless the runs folder has one. Return True where the
    key will still be there at the next start; with another key, no visitor would be recognized.

    keys: Keys whose signatures are valid; the last one signs. A key that another app has stored is appended.
    """
    from filelock import FileLock

    from rankviz.settings import MIN_SECRET

    file = home / KEY_FILE

    def stored() -> str:
        text = file.read_text(errors="replace").strip() if file.is_file() else ""
        return text if len(text) >= MIN_SECRET else ""

    try:
        if not (key := stored()):
            home.mkdir(parents=True, exist_ok=True)
            with FileLock(file.with_name(f".{KEY_FILE}.lock")):
                if not (key := stored()):
                    key = keys[-1]
                    replace_durably(file, key, opener=lambda path, flags: os.open(path, flags, 0o600))
    except OSError:
        return False
    if key != keys[-1]:
        keys.append(key)
    return True
