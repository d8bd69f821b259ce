"""On which engine a run is to be: engine.json in its folder, which no export takes along and no import brings."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rankviz.store.durable import replace_durably

FILE = "engine.json"
MAX_BYTES = 4000
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
        return {FILE: json.dumps(asdict(self))} if self != ANYWHERE else {}


ANYWHERE = Destination()


def read_destination(folder: Path) -> Destination:
    """The settings' engine where there is no file or none that can be read."""
    try:
        with (folder / FILE).open("rb") as file:
            row = json.loads(file.read(MAX_BYTES))
        engine, options = row["engine"], row["options"]
        texts = [engine, *options, *options.values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ANYWHERE
    if not all(isinstance(text, str) and len(text) <= MAX_CHARACTERS for text in texts):
        return ANYWHERE
    return Destination(engine, options)


def write_destination(folder: Path, destination: Destination) -> None:
    """In place of an earlier one."""
    (folder / FILE).unlink(missing_ok=True)
    for name, text in destination.files.items():
        replace_durably(folder / name, text)
