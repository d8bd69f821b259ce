"""Bounds of stored values, and checks of single settings whose errors name the setting, its limits and the value."""

import re
import reprlib
from collections.abc import Sequence
from dataclasses import is_dataclass
from functools import cache
from pathlib import PurePath
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from rankviz.errors import InvalidSettingError, shortened

MAX_NUMBER = 10**18
MAX_TEXT = 1000
MAX_ITEMS = 100_000
MAX_KEYS = 200
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters and lone surrogates, which may not occur in a text of one line."""
ILL_FORMED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters and lone surrogates that may not occur in a text of several lines."""
HALVES = re.compile("[\ud800-\udfff]")
PLACE = re.compile(r"""(?<![\w./])~?/+(?:[^\s/:;,'"()]+/+)*(?=[^\s/:;,'"()])""")
"""Folders before the name of a file, in a text."""


class Between(NamedTuple):
    """Bound of a number: from low to high. or_nan: True to read numbers outside as NaN instead of refusing them."""

    low: float
    high: float
    or_nan: bool = False


class Letters(NamedTuple):
    """Bound of a text: one line of at most `most` characters that matches the pattern."""

    most: int
    pattern: re.Pattern | None = None


class Prose(NamedTuple):
    """Bound of a text for people: cut off after `most` characters, with unprintable characters replaced."""

    most: int
    controls: bool = False
    """True to keep control characters, which may be part of a model's output."""


class Items(NamedTuple):
    """Bound of a list or a mapping: its number of items."""

    least: int
    most: int


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Id of a run, a probe or a sweep, which is also the name of a single folder."""
INSIDE = re.compile(r"(?!\.)[A-Za-z0-9._-]+(/(?!\.)[A-Za-z0-9._-]+)*|")
"""Path below a run's folder, with plain names only; may be empty."""

Moment = Annotated[float, Between(0, 4_102_444_800)]
"""Unix seconds in the years 1970 to 2099."""
Seconds = Annotated[float, Between(0, 10**9)]
Count = Annotated[int, Between(0, 10**15)]
Bytes = Annotated[int, Between(0, 2**60)]
BytesMoved = Annotated[int, Between(-(2**60), 2**60)]
"""Difference of two numbers of bytes; may be negative."""
Loss = Annotated[float, Between(-1e-3, 1e9, or_nan=True)]
"""Nats per token; may be slightly below 0 by rounding. NaN: the run diverged, or the loss is above the limit."""
Word = Annotated[str, Letters(200)]
Id = Annotated[str, Letters(100, NAME)]
Reference = Annotated[str, Letters(1000)]
"""Id or path of a model or of data."""
PathInside = Annotated[str, Letters(200, INSIDE)]


def printable(text: str, most: int = MAX_TEXT, *, controls: bool = False) -> str:
    """Return the text cut off at `most` characters, with unprintable ones replaced. controls: True to keep controls."""
    return (HALVES if controls else ILL_FORMED).sub("\ufffd", shortened(text, most))


def name_alone(reference: str) -> str:
    """Return the last part of an absolute path; any other text unchanged."""
    path = PurePath(reference)
    return path.name or reference if path.is_absolute() else reference


SHOWN = 80
MAX_NAMES = 256
MODULE_NAME = re.compile(r"[\w.{}-]{1,200}")
"""Pattern of a module's or parameter's name. Others are refused: libraries read names as regular expressions."""


def whole(value: object, name: str, low: int, high: int) -> None:
    """Check that the value is a whole number from low to high; raise InvalidSettingError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidSettingError(f"{name} must be a whole number from {low:,} to {high:,} (got {shown(value)}).")


def number(value: object, name: str, low: float, high: float, *, above: bool = False) -> None:
    """Check that a value is a number from low to high; else raise InvalidSettingError. above: True to refuse low."""
    if not is_number(value) or not low <= value <= high or (above and value == low):
        limits = f"above {low:,} and at most {high:,}" if above else f"from {low:,} to {high:,}"
        raise InvalidSettingError(f"{name} must be a number {limits} (got {shown(value)}).")


def flag(value: object, name: str) -> None:
    """Raise InvalidSettingError unless the setting is a bool."""
    if not isinstance(value, bool):
        raise InvalidSettingError(f"{name} must be true or false (got {shown(value)}).")


def one_of(value: object, name: str, options: Sequence[str]) -> None:
    """Check that the value is one of the options; raise InvalidSettingError otherwise."""
    if value not in options:
        raise InvalidSettingError(f"{name} must be one of {', '.join(options)} (got {shown(value)}).")


def named(value: object, name: str) -> None:
    """Check that a value is a short text that is not blank; raise InvalidSettingError otherwise."""
    if not isinstance(value, str) or not value.strip():
        raise InvalidSettingError(f"{name} must be a name (got {shown(value)}).")
    plain_text(value, name)


def plain_text(value: object, name: str, most: int = MAX_TEXT) -> None:
    """Check that the value is a text of at most `most` characters on one line; raise InvalidSettingError otherwise."""
    if not isinstance(value, str):
        raise InvalidSettingError(f"{name} must be a text (got {shown(value)}).")
    if len(value) > most:
        raise InvalidSettingError(f"{name} must have at most {most:,} characters (got {len(value):,}).")
    if UNPRINTABLE.search(value):
        raise InvalidSettingError(f"{name} has a character that is no text: {shown(value)}.")


def module_names(values: object, name: str) -> None:
    """Check that the value is a list of valid module names; raise InvalidSettingError otherwise."""
    few(values, name, MAX_NAMES)
    for value in values:
        named(value, name)
        if not MODULE_NAME.fullmatch(value):
            raise InvalidSettingError(
                f"{name} must be the name of a module, such as q_proj (got {shown(value)}). Patterns are not read."
            )


def few(values: object, name: str, most: int) -> None:
    """Check that the value is a list of at most `most` entries; raise InvalidSettingError otherwise."""
    if not isinstance(values, tuple | list):
        raise InvalidSettingError(f"{name} must be a list (got {shown(values)}).")
    if len(values) > most:
        raise InvalidSettingError(f"{name} must be a list of at most {most:,} (got {len(values):,}).")


def is_number(value: object) -> bool:
    """Return True for int and float, False for bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def shown(value: object) -> str:
    """Return a value as an error message quotes it, shortened."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return repr(shortened(value, SHOWN))
    if isinstance(value, int) and abs(value) >= 10**SHOWN:
        return f"a number of more than {SHOWN} digits"
    return f"{value:,}".removesuffix(".0") if is_number(value) else _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxother = SHOWN
_SHORT.maxlevel = 2

WORDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    NoneType: "empty",
    **dict.fromkeys((list[int], tuple[int, ...]), "a list of whole numbers, such as [16]"),
    **dict.fromkeys((list[float], tuple[float, ...]), "a list of numbers, such as [0.001]"),
    **dict.fromkeys((list[str], tuple[str, ...]), "a list of texts"),
    dict[str, float]: "numbers by name",
}
"""Names of types in error messages; a type that is not listed has its own name."""


def check_type(value: object, hint: Any, name: str) -> None:
    """Check a value against a type hint; raise InvalidSettingError otherwise."""
    options = _options(hint)
    if not any(_is(value, option) for option in options):
        words = " or ".join(WORDS.get(option) or f"a {option.__name__}" for option in options)
        raise InvalidSettingError(f"{name} must be {words} (got {shown(value)}).")


def check_types(settings: Any) -> None:
    """Check each field of a dataclass, and of those in it, against its hint; raise InvalidSettingError otherwise. Lists
    become tuples. The values themselves are checked later."""
    for name, (hint, plain) in _hints(type(settings)).items():
        value = getattr(settings, name)
        if type(value) in plain:
            continue
        if isinstance(value, list | range):
            object.__setattr__(settings, name, value := tuple(value))
        check_type(value, hint, name)
        if is_dataclass(value):
            check_types(value)


@cache
def _hints(settings: type) -> dict[str, tuple[Any, set[type]]]:
    hints = get_type_hints(settings)
    return {name: (hint, {*_options(hint)} & {bool, int, float, str, NoneType}) for name, hint in hints.items()}


@cache
def _options(hint: Any) -> tuple[Any, ...]:
    """Return the types of a union, or the one type; in place of a Literal the type of its texts."""
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return tuple(dict.fromkeys(str if get_origin(option) is Literal else option for option in options))


_origin = cache(get_origin)


def _is(value: object, kind: Any) -> bool:
    origin = _origin(kind)
    if origin in (list, tuple):
        return isinstance(value, origin) and all(_is(each, *_options(get_args(kind)[0])) for each in value)
    if origin is dict:
        return isinstance(value, dict) and all(_is(each, get_args(kind)[1]) for each in value.values())
    if kind is float:
        return is_number(value)
    return isinstance(value, origin or kind) and (kind is bool or not isinstance(value, bool))
