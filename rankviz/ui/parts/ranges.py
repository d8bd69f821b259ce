"""Ranges as the page writes them: "7.1 – 8.3 GiB", "3.9 – 9.8 h"."""

from collections.abc import Callable
from typing import Protocol

from rankviz import units

NOT_KNOWN = "not known"
TIME_UNITS = ((48 * 3600, 86400, "days"), (90 * 60, 3600, "h"), (90, 60, "min"), (0, 1, "s"))


class Ends(Protocol):
    """A range, or anything else with a low and a high end."""

    @property
    def low(self) -> float: ...

    @property
    def high(self) -> float: ...


def span(values: Ends | None, text: Callable[[float], str]) -> str:
    """Low to high, with the unit once where both share it; "not known" for None."""
    if values is None:
        return NOT_KNOWN
    low, high = text(values.low), text(values.high)
    if low == high:
        return low
    (number, _, unit), (other, _, same) = low.rpartition(" "), high.rpartition(" ")
    if unit == same and all(part.replace(".", "").replace(",", "").isdigit() for part in (number, other)):
        return f"{number} – {high}"
    if low.startswith("$") and high.startswith("$"):
        return f"{low} – {high[1:]}"
    return f"{low} – {high}"


def memory_span(values: Ends | None) -> str:
    return span(values, units.memory_size)


def money_span(values: Ends | None) -> str:
    return span(values, units.usd)


def time_span(seconds: Ends | None) -> str:
    """In one unit, short enough for a row of figures; with two units, "40 s – 38 min", where the range is too wide."""
    if seconds is None:
        return NOT_KNOWN
    size, unit = next((size, unit) for limit, size, unit in TIME_UNITS if seconds.high >= limit)
    if seconds.low < size:
        return span(seconds, units.duration)
    low, high = (
        f"{value / size:.2g}" if value / size < 10 else f"{value / size:,.0f}" for value in (seconds.low, seconds.high)
    )
    return f"{low} – {high} {unit}" if low != high else f"{low} {unit}"
