"""How much longer a run takes on a CPU because other programs use it too: of finished runs, and of the next one.

    slowdown = total / (total - waited)                of a finished part; total = max(seconds, own + waited)
    others   = load average - what one's own runs have left in it - UNSURE
    now      = max(1, (threads + others) / CPUs), for others ÷ drift to × drift
    next     = from the least to the most of now and of the last LAST runs of the hour before

own is the worker's processor time, waited the time that its threads were ready and had no processor, both added over
threads. With several busy threads the share own / (own + waited) is what the run got of the machine; with one thread,
or with a disk that is waited for, only what it waited is taken off.

Now is as if all threads had fair shares; drift (here-others-drift of assumptions.json) is how many times more or fewer
others may come. Left out: GPUs, whose time the processor's load hardly moves; priorities; a worker with fewer threads
than CPUs, which meets less slowdown; shared memory bandwidth, of which a process counts nothing. The load average is of
the last minute, so a program that has just begun or ended is not seen. Hand-worked in
tests/core/cost/pace/test_slowdown.py.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rankviz.core.quantity import Range, middle

LAST = 3
"""So many runs say how busy the machine has been."""
RECENT_SECONDS = 3600.0
"""A choice: how busy the machine was longer ago says nothing of now."""
AVERAGED_SECONDS = 60.0
"""Of the load average: what was there t seconds ago counts exp(-t / 60) (kernel/sched/loadavg.c)."""
UNSURE = 0.25
"""Threads that the load average may have too many: it counts each 5 s, so that whoever asks may be one in twelve
samples, and how many threads of its own a worker had busy is known to about a tenth."""
NONE = Range(1.0, 1.0, 1.0)
BUSY = 0.1
"""Others that take a smaller share of the processors are not worth a sentence: noise of a run is larger."""


def slowdown(seconds: float, own: float, waited: float) -> float:
    """How many times longer this took than without others. seconds: of the clock."""
    total = max(seconds, own + waited)
    return total / (total - waited) if 0 < waited < total < math.inf else 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Spell:
    """When a worker of one's own was at work, and on how many threads."""

    began_at: float
    ended_at: float
    threads: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Others:
    """Threads of other programs that want a processor now."""

    threads: float
    cpus: int
    at: float = 0.0
    """Unix seconds."""

    @property
    def share(self) -> float:
        """Of the processors that they would take without the run."""
        return self.threads / self.cpus

    def slowdown(self, threads: int, drift: float) -> Range:
        """Of a run of so many threads."""
        may_come = (self.threads / drift, self.threads, self.threads * drift)
        return Range(*(max(1.0, (threads + others) / self.cpus) for others in may_come))


def others(load_average: float, at: float, cpus: int, spells: Iterable[Spell]) -> Others:
    """What is left of the load average without one's own workers. at: when it was read, in unix seconds."""
    own = sum(_left(spell, at) for spell in spells)
    return Others(threads=max(0.0, load_average - own - UNSURE), cpus=cpus, at=at)


def _left(spell: Spell, at: float) -> float:
    if spell.began_at >= at:
        return 0.0
    since, ran = max(0.0, at - spell.ended_at), min(at, spell.ended_at) - spell.began_at
    return spell.threads * (1 - math.exp(-ran / AVERAGED_SECONDS)) * math.exp(-since / AVERAGED_SECONDS)


def expected(last: Sequence[float], now: Range | None) -> Range:
    """Of the next run. last: slowdowns of the last runs here, the latest at the end; now: as the machine is.

    Expected is the geometric mean of both: the load average says how many others there are, the last runs how much of
    the machine a run gets beside them.
    """
    last = last[-LAST:]
    ends = [*last, *((now.low, now.high) if now else ())]
    if not ends:
        return NONE
    centres = [*([middle(last)] if last else []), *([now.expected] if now else [])]
    return Range(min(ends), math.prod(centres) ** (1 / len(centres)), max(ends))
