"""Whose a run is: owner.json in its folder, which no export takes along and no import brings."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

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
