"""Formats quantities: bytes, counts, seconds, dollars, and ranges of them.
Files are shown in MB and GB (10^6 and 10^9 bytes, as the Hub shows them), memory in MiB and GiB (2^20 and 2^30 bytes,
as torch and nvidia-smi show it). Nothing else in RankViz divides by 1024."""

import re
from collections.abc import Callable
from functools import partial
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
NUMBER = re.compile(r"[\d.,]+")
WIDE = 1.2
"""High end over low end from which a range of money is shown with two digits, since cents would mean nothing."""


def file_size(size_bytes: int, like: int | None = None) -> str:
    """Format bytes of a file, in the unit of `like` if it is given: 19,537,920 -> '19.5 MB'."""
    of_unit = like or size_bytes
    if of_unit >= GB:
        return f"{size_bytes / GB:,.2f} GB"
    if of_unit >= MB:
        return f"{size_bytes / MB:,.1f} MB"
    return f"{size_bytes / KB:,.1f} kB"


def memory_size(size_bytes: float, ends: Any = None) -> str:
    """Format bytes of memory, in the unit of the high end of `ends`: 2,147,483,648 -> '2.00 GiB'."""
    if abs(ends.high if ends else size_bytes) >= GIB:
        return f"{size_bytes / GIB:,.2f} GiB"
    return f"{size_bytes / MIB:,.0f} MiB"


def gib(size_bytes: float) -> str:
    """Format bytes of memory in GiB: 13,958,643,712 -> '13.0 GiB', and -13,958,643,712 -> '−13.0 GiB'."""
    return f"{size_bytes / GIB:,.1f} GiB".replace("-", "−")


def memory_change(size_bytes: float) -> str:
    """Format a difference of memory: 157,286,400 -> '+150 MiB', and -65,390,000,000 -> '−60.9 GiB'."""
    mib = round(size_bytes / MIB)
    text = f"{size_bytes / GIB:+,.1f} GiB" if abs(mib) >= 1024 else f"{mib:+} MiB" if mib else "0 MiB"
    return text.replace("-", "−")


def counted(value: int, noun: str, plural: str = "") -> str:
    """Format a count of things: (1, 'run') -> '1 run', (1200, 'run') -> '1,200 runs'. plural: for an irregular noun."""
    return f"{value:,} {noun if value == 1 else plural or noun + 's'}"


def count(value: int, like: int | None = None) -> str:
    """Format a large number, in the unit of `like` if it is given: 4,884,480 -> '4.88 M'."""
    for limit, suffix in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k")):
        if (like or value) >= limit:
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


def duration_change(seconds: float) -> str:
    """Format a difference of seconds: 150 -> '+2.5 min', -9,000 -> '−2.5 h', and '0 min' for what rounds to 0."""
    size, unit = time_unit(max(90.0, abs(seconds)))
    text = f"{seconds / size:+,.{1 if abs(seconds) < 10 * size else 0}f}".replace("-", "−")
    return "0 min" if text[1:] == "0.0" else f"{text} {unit}"


def usd(value: float, ends: Any = None) -> str:
    """Format US dollars: 0.1234 -> '$0.12', with two digits where they lie in a wide range, `ends`: '$2.8'."""
    if 0 < value < 0.01:
        return "under $0.01"
    if ends and ends.high > WIDE * ends.low:
        value = float(f"{value:.2g}")
        return f"${value:,.{0 if value >= 10 else 1 if value >= 1 else 2}f}"
    return f"${value:,.2f}" if value < 1000 else f"${value:,.0f}"


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
    (number, _, unit), (other, _, same) = low.rpartition(" "), high.rpartition(" ")
    if unit == same and NUMBER.fullmatch(number) and NUMBER.fullmatch(other):
        return f"{number} – {high}"
    if low.startswith("$") and high.startswith("$"):
        return f"{low} – {high[1:]}"
    return f"{low} to {high}"


def gib_span(values: Any) -> str:
    """Format a range of memory: "13.2 to 15.2 GiB", "−1.9 to 0.1 GiB"; a single size where both ends have the same
    text."""
    low, high = gib(values.low), gib(values.high)
    return low if low == high else f"{low.removesuffix(' GiB')} to {high}"


def spare(values: Any) -> str:
    """Format free memory, negative where memory is short: "13.2 to 15.2 GiB to spare", "3.4 to 5.1 GiB short"."""
    if values.low >= 0:
        return f"{gib_span(values)} to spare"
    if values.high < 0:
        return f"{gib_span(SimpleNamespace(low=-values.high, high=-values.low))} short"
    return f"{gib(-values.low)} short to {gib(values.high)} to spare"


def time_in(seconds: float, ends: Any) -> str:
    """Format seconds in the unit of the high end of a range, or in a smaller one if they are less than one unit."""
    size, unit = time_unit(ends.high)
    size, unit = (size, unit) if seconds >= size else time_unit(seconds)
    value = seconds / size
    return duration(seconds) if seconds < 1 else f"{value:.2g} {unit}" if value < 9.95 else f"{value:,.0f} {unit}"


def time_unit(seconds: float) -> tuple[int, str]:
    """Return the unit for a time of this length: seconds in the unit, and the unit's name."""
    for limit, size, unit in TIME_UNITS:  # a loop, since an answer asks a thousand times
        if seconds >= limit:
            return size, unit
    return TIME_UNITS[-1][1:]


def _like_high_end(text: Callable[[float, Any], str], values: Any) -> str:
    return span(values, lambda value: text(value, values))


memory_span = partial(_like_high_end, memory_size)
"""Format a range of memory in the unit of its high end: "0.94 – 1.20 GiB"."""
money_span = partial(_like_high_end, usd)
"""Format a range of US dollars, in cents only where it is narrow: "$1.8 – 4.5"."""
time_span = partial(_like_high_end, time_in)
"""Format a range of seconds in the unit of its high end, such as "1.1 – 1.8 h"; a low end below one such unit has its
own: "7 h to 3.3 days". Never "1 h 30 min", so that the numbers of a column compare."""
