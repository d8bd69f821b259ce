"""How quantities read: bytes, counts, seconds, dollars.

Files are shown in MB and GB (10^6 and 10^9 bytes, as the Hub shows them), memory in MiB and GiB (2^20 and 2^30
bytes, as torch and nvidia-smi show it). Nothing else in RankViz divides by 1024.
"""

MIB = 2**20
GIB = 2**30
KB = 10**3
MB = 10**6
GB = 10**9


def file_size(size_bytes: int) -> str:
    """19,537,920 -> '19.5 MB'."""
    if size_bytes >= GB:
        return f"{size_bytes / GB:,.2f} GB"
    if size_bytes >= MB:
        return f"{size_bytes / MB:,.1f} MB"
    return f"{size_bytes / KB:,.1f} kB"


def memory_size(size_bytes: float) -> str:
    """2,147,483,648 -> '2.00 GiB'."""
    if abs(size_bytes) >= GIB:
        return f"{size_bytes / GIB:,.2f} GiB"
    return f"{size_bytes / MIB:,.0f} MiB"


def memory_change(size_bytes: float) -> str:
    """157,286,400 -> '+150 MiB'; less is '−150 MiB'."""
    mib = round(size_bytes / MIB)
    return f"{_sign(mib)}{abs(mib):,} MiB"


def spare(size_bytes: float) -> str:
    """13,958,643,712 -> '13.0 GiB to spare'; less than nothing is '13.0 GiB short'."""
    return f"{abs(size_bytes) / GIB:,.1f} GiB {'short' if size_bytes < 0 else 'to spare'}"


def count(value: int) -> str:
    """4,884,480 -> '4.88 M'."""
    for limit, suffix in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k")):
        if value >= limit:
            return f"{value / limit:,.2f} {suffix}"
    return f"{value:,}"


def duration(seconds: float) -> str:
    """5,400 -> '1 h 30 min'."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    return f"{hours / 24:,.1f} days"


def duration_change(seconds: float) -> str:
    """150 -> '+2.5 min'; less is '−2.5 min', and what rounds to nothing '0 min'."""
    minutes = seconds / 60
    text = f"{abs(minutes):,.1f}" if abs(minutes) < 10 else f"{abs(minutes):,.0f}"
    return "0 min" if text == "0.0" else f"{_sign(minutes)}{text} min"


def _sign(value: float) -> str:
    return "+" if value > 0 else "−" if value < 0 else ""


def usd(value: float) -> str:
    """0.1234 -> '$0.12'."""
    if 0 < value < 0.01:
        return "under $0.01"
    return f"${value:,.2f}" if value < 1000 else f"${value:,.0f}"


def percent(share: float) -> str:
    """0.0364 -> '3.64 %'."""
    value = share * 100
    return f"{value:.2f} %" if value >= 0.01 else f"{value:.4f} %"
