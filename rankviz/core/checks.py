"""Checks of single values. Each refusal names the setting, its limits and the value."""

from collections.abc import Sequence

from rankviz.errors import InvalidSettingError


def whole(value: object, name: str, low: int, high: int) -> None:
    """InvalidSettingError unless the value is a whole number from low to high."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidSettingError(f"{name} must be a whole number from {low:,} to {high:,} (got {_shown(value)}).")


def number(value: object, name: str, low: float, high: float, *, above: bool = False) -> None:
    """InvalidSettingError unless the value is a number from low to high. above: low itself is refused too."""
    if not is_number(value) or not low <= value <= high or (above and value == low):
        limits = f"above {low:,} and at most {high:,}" if above else f"from {low:,} to {high:,}"
        raise InvalidSettingError(f"{name} must be a number {limits} (got {_shown(value)}).")


def one_of(value: object, name: str, options: Sequence[str]) -> None:
    """InvalidSettingError unless the value is one of the options."""
    if value not in options:
        raise InvalidSettingError(f"{name} must be one of {', '.join(options)} (got {_shown(value)}).")


def named(value: object, name: str) -> None:
    """InvalidSettingError unless the value is a text with something in it."""
    if not isinstance(value, str) or not value.strip():
        raise InvalidSettingError(f"{name} must be a name (got {_shown(value)}).")


def is_number(value: object) -> bool:
    """True for int and float, False for bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    return f"{value:,}" if is_number(value) else repr(value)
