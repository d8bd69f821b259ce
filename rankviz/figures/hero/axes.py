"""The five cost axes of the trade-off chart: what each rank lies at, its title and its ticks."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rankviz import units
from rankviz.core.cost.estimate import RankEstimate
from rankviz.core.forecast.bands import GRID


class XAxis(NamedTuple):
    """One axis for the ranks of one question."""

    title: str
    value: Callable[[RankEstimate], float | None]
    """In the unit of the title; None where it is not known."""
    ticks: Sequence[tuple[float, str]] = ()
    log: bool = False
    unknown: str = ""
    """What to do where no rank has a value."""


ONE_TWO_FIVE = [step * 10.0**power for power in range(-3, 7) for step in (1, 2, 5)]
"""Ticks of a logarithmic axis."""
NO_TIME = "Select a GPU with a known speed to see the time."
NO_MONEY = "Select a GPU with a price, or enter one, to see the cost."


def _file(ranks: Sequence[RankEstimate]) -> XAxis:
    return XAxis(
        "adapter file, MB (log scale)",
        lambda rank: rank.adapter_bytes / units.MB,
        ticks=[(tick, f"{tick:,g}") for tick in ONE_TWO_FIVE],
        log=True,
    )


def _memory(ranks: Sequence[RankEstimate]) -> XAxis:
    return XAxis("GPU memory, GiB (expected)", lambda rank: rank.memory.device / units.GIB)


def _time(ranks: Sequence[RankEstimate]) -> XAxis:
    longest = max((rank.duration.total.expected for rank in ranks if rank.duration), default=0)
    size, unit = units.time_unit(longest)
    return XAxis(
        f"training time, {unit} (expected)",
        lambda rank: rank.duration.total.expected / size if rank.duration else None,
        unknown=NO_TIME,
    )


def _money(ranks: Sequence[RankEstimate]) -> XAxis:
    return XAxis(
        "cost, US dollars (expected)", lambda rank: rank.cost.usd.expected if rank.cost else None, unknown=NO_MONEY
    )


def _rank(ranks: Sequence[RankEstimate]) -> XAxis:
    return XAxis("LoRA rank r (log scale)", lambda rank: rank.r, ticks=[(r, str(r)) for r in GRID], log=True)


X_AXES: dict[str, Callable[[Sequence[RankEstimate]], XAxis]] = {
    "file": _file,
    "memory": _memory,
    "time": _time,
    "money": _money,
    "rank": _rank,
}
X_LABELS = {"file": "Adapter file", "memory": "Memory", "time": "Time", "money": "Cost", "rank": "Rank"}
