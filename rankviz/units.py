"""Formats quantities: bytes, counts, seconds, dollars, and ranges of them.
Files are shown in MB and GB (10^6 and 10^9 bytes, as the Hub shows them), memory in MiB and GiB (2^20 and 2^30 bytes,
as torch and nvidia-smi show it). Nothing else in RankViz divides by 1024."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

NOT_KNOWN = "not known"
MIB = 2**20
GIB = 2**30
KB = 10**3
MB = 10**6
GB = 10**9
TIME_UNITS = ((48 * 3600, 86400, "days"), (90 * 60, 3600, "h"), (90, 60, "min"), (0, 1, "s"))
"""(shortest time in seconds for which a unit is used, seconds in the unit, name of the unit)."""


def file_size(size_bytes: int) -> str:
    """Format bytes of a file: 19,537,920 -> '19.5 MB'."""
    if size_bytes >= GB:
        return f"{size_bytes / GB:,.2f} GB"
    if size_bytes >= MB:
        return f"{size_bytes / MB:,.1f} MB"
    return f"{size_bytes / KB:,.1f} kB"


def memory_size(size_bytes: float) -> str:
    """Format bytes of memory: 2,147,483,648 -> '2.00 GiB'."""
    if abs(size_bytes) >= GIB:
        return f"{size_bytes / GIB:,.2f} GiB"
    return f"{size_bytes / MIB:,.0f} MiB"


def memory_about(size_bytes: float, largest: float = 0) -> str:
    """Format memory at one decimal, in the unit of a larger size beside it: 13,958,643,712 -> '13.0 GiB'."""
    unit, size, digits = ("GiB", GIB, 1) if max(abs(size_bytes), largest) >= GIB else ("MiB", MIB, 0)
    return f"{size_bytes / size:z,.{digits}f} {unit}".replace("-", "−")


def memory_change(size_bytes: float) -> str:
    """Format a difference of memory: 157,286,400 -> '+150 MiB', and -13,958,643,712 -> '−13.0 GiB'."""
    text = memory_about(size_bytes)
    return text if text[0] in "0−" else f"+{text}"


def counted(value: int, noun: str, plural: str = "") -> str:
    """Format a count of things: (1, 'run') -> '1 run', (1200, 'run') -> '1,200 runs'. plural: for an irregular noun."""
    return f"{value:,} {noun if value == 1 else plural or noun + 's'}"


def count(value: int) -> str:
    """Format a large number: 4,884,480 -> '4.88 M'."""
    for limit, suffix in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k")):
        if value >= limit:
            return f"{value / limit:,.2f} {suffix}"
    return f"{value:,}"


def duration(seconds: float) -> str:
    """Format seconds: 5,400 -> '1 h 30 min'."""
    if seconds < 90:
        return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.{1 if seconds < 10 else 0}f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    return f"{hours / 24:,.1f} days"


def time_about(seconds: float, longest: float = 0) -> str:
    """Format seconds at two digits, in the unit of a longer time: 4,560 -> '76 min', beside 6,840 '1.3 h'."""
    size, unit = time_unit(max(seconds, longest))
    if seconds < size:
        size, unit = time_unit(seconds)
    value = seconds / size
    return f"{value:.2g} {unit}" if value < 9.95 else f"{value:,.0f} {unit}"


def duration_change(seconds: float) -> str:
    """Format a difference of seconds: 150 -> '+2.5 min', -150 -> '−2.5 min', and '0 min' for less than 3 seconds."""
    return "0 min" if abs(seconds) < 3 else f"{'+' if seconds > 0 else '−'}{time_about(abs(seconds))}"


def usd(value: float) -> str:
    """Format US dollars: 0.1234 -> '$0.12'."""
    if 0 < value < 0.01:
        return "under $0.01"
    return f"${value:,.2f}" if value < 1000 else f"${value:,.0f}"


def usd_about(value: float, largest: float = 0) -> str:
    """Format estimated US dollars with the digits of a larger amount beside them: '$0.12', '$3.2', '$32'."""
    most = max(value, largest)
    return usd(value) if most < 1 else f"${value:,.{most < 9.95:d}f}"


def percent(share: float) -> str:
    """Format a share with two decimals: 0.0364 -> '3.64 %'."""
    value = share * 100
    return f"{value:.2f} %" if value >= 0.01 else f"{value:.4f} %"


def rounded_percent(share: float, digits: int = 1) -> str:
    """Format a share with `digits` decimals: 0.0364 -> '3.6 %'."""
    return f"{100 * share:.{digits}f} %"


def span(values: Any, text: Callable[[float], str]) -> str:
    """Format a range; None is "not known". values: Any object with `low` and `high`. A unit that both ends share is
    written once."""
    if values is None:
        return NOT_KNOWN
    low, high = text(values.low), text(values.high)
    if low == high:
        return low
    if low.startswith("$") and high.startswith("$"):
        return f"{low} to {high[1:]}"
    number, _, unit = low.rpartition(" ")
    return f"{number if unit == high.rpartition(' ')[2] else low} to {high}"


def memory_span(values: Any) -> str:
    """Format a range of memory in one unit: "13.2 to 15.2 GiB", "−1.9 to 0.1 GiB"."""
    return span(values, lambda size: memory_about(size, max(abs(values.low), abs(values.high))))


def spare(values: Any) -> str:
    """Format free memory, negative where memory is short: "13.2 to 15.2 GiB to spare", "3.4 to 5.1 GiB short"."""
    if values.low >= 0:
        return f"{memory_span(values)} to spare"
    if values.high < 0:
        return f"{memory_span(SimpleNamespace(low=-values.high, high=-values.low))} short"
    return f"{memory_about(-values.low)} short to {memory_about(values.high)} to spare"


def money_span(values: Any) -> str:
    return span(values, lambda value: usd_about(value, values.high))


def time_span(values: Any) -> str:
    """Format a range of seconds in one unit, "1.2 to 3.3 days"; a low end below 1 in a smaller unit, "7 h to 3.3 days".
    Never "1 h 30 min", so that the numbers of a column compare."""
    return span(values, lambda seconds: time_about(seconds, values.high))


def time_unit(seconds: float) -> tuple[int, str]:
    """Return the unit for a time of this length: seconds in the unit, and the unit's name."""
    return next((size, unit) for limit, size, unit in TIME_UNITS if seconds >= limit)
