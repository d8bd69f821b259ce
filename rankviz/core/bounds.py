"""What a stored value may be, declared beside the field that holds it: Annotated[type, bound].

core.from_json reads by these. A field without a bound has the widest one of its type, which still excludes what no
page, chart or sum can bear: numbers that are not finite, texts without an end, halves of characters.
"""

import re
from pathlib import PurePath
from typing import Annotated, NamedTuple

from rankviz.errors import shortened

MAX_NUMBER = 10**18
MAX_TEXT = 1000
MAX_ITEMS = 100_000
MAX_KEYS = 200
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters and halves of characters."""
ILL_FORMED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""The same of a text of several lines."""
HALVES = re.compile("[\ud800-\udfff]")

PLACE = re.compile(r"""(?<![\w./])~?/+(?:[^\s/:;,'"()]+/+)*(?=[^\s/:;,'"()])""")
"""The folders before the name of a file."""


class Between(NamedTuple):
    """A number from low to high; of a list, each of its items."""

    low: float
    high: float


class OrNan(NamedTuple):
    """A number from low to high; any other is read as nan."""

    low: float
    high: float


class Letters(NamedTuple):
    """A text of at most so many characters on one line, and of this pattern."""

    most: int
    pattern: re.Pattern | None = None


class Prose(NamedTuple):
    """A text to be read by people: what is longer is cut off, what cannot be printed is replaced."""

    most: int
    controls: bool = False
    """Whether control characters stay: of what a model wrote, where they are part of it."""


class Items(NamedTuple):
    """So many items of a list or a mapping."""

    least: int
    most: int


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Of a run, a probe or a sweep: one plain folder name."""
INSIDE = re.compile(r"(?!\.)[A-Za-z0-9._-]+(/(?!\.)[A-Za-z0-9._-]+)*|")
"""A path below a run's folder, in plain names; empty for none."""

Moment = Annotated[float, Between(0, 4_102_444_800)]
"""Unix seconds, of the years 1970 to 2099."""
Seconds = Annotated[float, Between(0, 10**9)]
Count = Annotated[int, Between(0, 10**15)]
Bytes = Annotated[int, Between(0, 2**60)]
BytesMoved = Annotated[int, Between(-(2**60), 2**60)]
"""A difference of two."""
Loss = Annotated[float, OrNan(-1e-3, 1e9)]
"""Nats a token, which rounding may take below 0. nan where the run diverged: what is infinite or beyond is that too."""
Word = Annotated[str, Letters(200)]
Id = Annotated[str, Letters(100, NAME)]
Reference = Annotated[str, Letters(1000)]
"""Of a model or of data: an id or a path."""
PathInside = Annotated[str, Letters(200, INSIDE)]


def printable(text: str, most: int = MAX_TEXT, *, controls: bool = False) -> str:
    """The text as it can be shown, stored and sent: cut off, and what is no character replaced."""
    return (HALVES if controls else ILL_FORMED).sub("\ufffd", shortened(text, most))


def name_alone(reference: str) -> str:
    """The name of a file or a folder that is given with all that it is in; any other reference as it is."""
    path = PurePath(reference)
    return path.name or reference if path.is_absolute() else reference


def without_places(text: str) -> str:
    """The text with the names of files and without the folders that they are in."""
    return PLACE.sub("…/", text)
