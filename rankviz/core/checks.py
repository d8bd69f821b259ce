"""Checks of single values. Each refusal names the setting, its limits and the value."""

import re
import reprlib
from collections.abc import Sequence

from rankviz.core.bounds import MAX_TEXT, UNPRINTABLE
from rankviz.errors import InvalidSettingError

SHOWN = 80
"""Characters of a refused value in its message."""
MAX_NAMES = 256
"""Module names in one list."""
MODULE_NAME = re.compile(r"[\w.{}-]{1,200}")
"""What a module or parameter can be called; nothing else reaches a library that takes names for patterns."""


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
