"""Bounds of stored values, and checks of single values whose refusals name the setting, its limits and the value."""

import re
import reprlib
from collections.abc import Sequence
from pathlib import PurePath
from typing import Annotated, NamedTuple

from rankviz.errors import InvalidSettingError, shortened

MAX_NUMBER = 10**18
MAX_TEXT = 1000
MAX_ITEMS = 100_000
MAX_KEYS = 200
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters and halves of characters."""
ILL_FORMED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters and halves of characters in a text of several lines."""
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
"""Id of a run, a probe or a sweep: one plain folder name."""
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
"""Reference of a model or of data: an id or a path."""
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


SHOWN = 80
"""Characters of a refused value in its message."""
MAX_NAMES = 256
"""Module names in one list."""
MODULE_NAME = re.compile(r"[\w.{}-]{1,200}")
"""Name of a module or parameter; nothing else reaches a library that takes names for patterns."""


def whole(value: object, name: str, low: int, high: int) -> None:
    """InvalidSettingError unless the value is a whole number from low to high."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidSettingError(f"{name} must be a whole number from {low:,} to {high:,} (got {shown(value)}).")


def number(value: object, name: str, low: float, high: float, *, above: bool = False) -> None:
    """InvalidSettingError unless the value is a number from low to high. above: low itself is refused too."""
    if not is_number(value) or not low <= value <= high or (above and value == low):
        limits = f"above {low:,} and at most {high:,}" if above else f"from {low:,} to {high:,}"
        raise InvalidSettingError(f"{name} must be a number {limits} (got {shown(value)}).")


def one_of(value: object, name: str, options: Sequence[str]) -> None:
    """InvalidSettingError unless the value is one of the options."""
    if value not in options:
        raise InvalidSettingError(f"{name} must be one of {', '.join(options)} (got {shown(value)}).")


def named(value: object, name: str) -> None:
    """InvalidSettingError unless the value is a short text with something in it."""
    if not isinstance(value, str) or not value.strip():
        raise InvalidSettingError(f"{name} must be a name (got {shown(value)}).")
    plain_text(value, name)


def plain_text(value: object, name: str, most: int = MAX_TEXT) -> None:
    """InvalidSettingError unless the value is a text of at most so many characters on one line."""
    if not isinstance(value, str):
        raise InvalidSettingError(f"{name} must be a text (got {shown(value)}).")
    if len(value) > most:
        raise InvalidSettingError(f"{name} must have at most {most:,} characters (got {len(value):,}).")
    if UNPRINTABLE.search(value):
        raise InvalidSettingError(f"{name} has a character that is no text: {shown(value)}.")


def module_names(values: object, name: str) -> None:
    """InvalidSettingError unless the value is a list of names that modules can have."""
    few(values, name, MAX_NAMES)
    for value in values:
        named(value, name)
        if not MODULE_NAME.fullmatch(value):
            raise InvalidSettingError(
                f"{name} must be the name of a module, such as q_proj (got {shown(value)}). Patterns are not read."
            )


def few(values: object, name: str, most: int) -> None:
    """InvalidSettingError unless the value is a list of at most so many entries."""
    if not isinstance(values, tuple | list):
        raise InvalidSettingError(f"{name} must be a list (got {shown(values)}).")
    if len(values) > most:
        raise InvalidSettingError(f"{name} must be a list of at most {most:,} (got {len(values):,}).")


def is_number(value: object) -> bool:
    """True for int and float, False for bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def shown(value: object) -> str:
    """The value in a message, no more of it than tells which one it is."""
    if value is None:
        return "nothing"
    if isinstance(value, int) and abs(value) >= 10**SHOWN:
        return f"a number of more than {SHOWN} digits"
    return f"{value:,}".removesuffix(".0") if is_number(value) else _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = SHOWN
_SHORT.maxlevel = 2
