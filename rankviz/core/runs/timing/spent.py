"""What runs have cost so far: the time of the devices that they had, over all their attempts, from the journals' times.

An attempt counts from its first line to its end; one that was lost, to its last line, since nobody saw its end.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from rankviz import units
from rankviz.core.runs.record import RunRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceTime:
    """Of one run or of several, added up."""

    seconds: float = 0.0
    is_whole: bool = True
    """False where it is longer by a time that is not known."""

    @property
    def in_words(self) -> str:
        """ "18 min", "at least 18 min", "not known"; empty where nothing has begun."""
        if not self.seconds:
            return "" if self.is_whole else units.NOT_KNOWN
        return f"{'' if self.is_whole else 'at least '}{units.duration(self.seconds)}"


def device_time(runs: Iterable[RunRecord], now: float) -> DeviceTime:
    """Of all attempts of these runs until now, unix seconds.

    What runs counts to its last line only while its engine cannot read it: then it waits for something.
    """
    seconds, is_whole = 0.0, True
    for run in runs:
        seconds += run.earlier_seconds + (run.attempt_seconds or 0.0)
        is_whole = is_whole and not run.untimed_attempts
        if run.started_at is not None and run.ended_at is None:
            if run.waits:
                is_whole = False
            else:
                seconds += max(0.0, now - run.started_at - run.attempt_seconds)
    return DeviceTime(seconds=seconds, is_whole=is_whole)


def places_of(runs: Iterable[RunRecord]) -> str:
    """Where the runs that have begun are or were, for people: "GPU 1", "GPU 0, GPU 1"; empty where it is not known, or
    where earlier attempts were elsewhere."""
    begun = [run for run in runs if run.started_at is not None or run.earlier_seconds]
    if any(run.attempt > 1 or not run.where for run in begun):
        return ""
    return ", ".join(dict.fromkeys(run.where for run in begun))
