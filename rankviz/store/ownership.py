"""Whose a run is: owner.json in its folder, which no export takes along and no import brings."""

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "owner.json"
MAX_BYTES = 1000


@dataclass(frozen=True, slots=True)
class Ownership:
    """Whose a run is."""

    owner: str = ""
    """A visitor's id; empty: the host's."""
    is_open: bool = False
    """Whether others may look at it, by its address."""


NO_ONES = Ownership()


def read_ownership(folder: Path) -> Ownership:
    """The host's, and closed, where there is no file or none that can be read."""
    try:
        with (folder / FILE).open("rb") as file:
            row = json.loads(file.read(MAX_BYTES))
        owner, is_open = row["owner"], row["is_open"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return NO_ONES
    return Ownership(owner, is_open) if isinstance(owner, str) and isinstance(is_open, bool) else NO_ONES


def write_ownership(folder: Path, ownership: Ownership) -> None:
    """Nothing is written of what is no visitor's."""
    if ownership == NO_ONES and not (folder / FILE).exists():
        return
    aside = folder / f".{secrets.token_hex(4)}"
    aside.write_text(json.dumps(asdict(ownership)))
    os.replace(aside, folder / FILE)
