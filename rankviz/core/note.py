"""Notes: one sentence each on what numbers rest on. A caution is a note to read before trusting them.

Both are text, so that whoever only prints notes need not tell them apart.
"""

from collections.abc import Iterable
from typing import Literal

Level = Literal["info", "warning"]


class Caution(str):
    """A note of level "warning"."""

    __slots__ = ()


def level(note: str) -> Level:
    return "warning" if isinstance(note, Caution) else "info"


def by_level(notes: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Warnings, then all others, each in their order."""
    notes = tuple(notes)
    return tuple(n for n in notes if level(n) == "warning"), tuple(n for n in notes if level(n) == "info")
