"""What runs have cost so far: the time of the devices that they had, over all their attempts, from the journals' times,
and the US dollars of those that were rented.

An attempt counts from its first line to its end; one that was lost, to its last line, since nobody saw its end.
"""

from collections.abc import Iterable, Mapping
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

    def __add__(self, other: "DeviceTime") -> "DeviceTime":
        return DeviceTime(seconds=self.seconds + other.seconds, is_whole=self.is_whole and other.is_whole)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rent:
    """Of the machines of Hugging Face that a sweep has had."""

    usd: float | None
    """None where it is not known here."""
    is_whole: bool
    """False where it is more by what is not known now."""
    limit_usd: float | None
    """The most that all its jobs together can cost, of all who pay for them; None where it no longer has a limit."""

    @property
    def in_words(self) -> str:
        """ "$0.40 of at most $5.00"; empty where it is not known."""
        if self.usd is None or not (self.usd or self.is_whole):
            return ""
        most = f" of at most {units.usd(self.limit_usd)}" if self.limit_usd else ""
        return f"{'' if self.is_whole else 'at least '}{units.usd(self.usd)}{most}"


def device_time(runs: Iterable[RunRecord], now: float) -> DeviceTime:
    """Of all attempts of these runs until now, unix seconds."""
    return sum((time for run in runs for time in times_by_engine(run, now).values()), DeviceTime())


def times_by_engine(run: RunRecord, now: float) -> Mapping[str, DeviceTime]:
    """Of all attempts of a run until now, unix seconds, by the name of the engine; empty where it is not known.

    What runs counts to its last line only while its engine cannot read it: then it waits for something.
    """
    times: dict[str, DeviceTime] = {}

    def add(engine: str, seconds: float, is_whole: bool = True) -> None:
        times[engine] = times.get(engine, DeviceTime()) + DeviceTime(seconds=seconds, is_whole=is_whole)

    for stay in run.earlier:
        add(stay.engine, stay.seconds)
    if run.untimed_attempts:
        add(run.engine, 0.0, is_whole=False)
    if run.attempt_seconds is not None:
        is_read = run.ended_at is not None or not run.waits
        goes_on = run.ended_at is None and is_read
        add(run.engine, max(run.attempt_seconds, now - run.started_at if goes_on else 0.0), is_read)
    return times
