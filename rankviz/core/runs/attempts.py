"""Attempts of a run: which one counts, and where it is.

A run that was lost with its worker, or that is asked for again, is tried anew: each try has a number, and each line of
a journal says whose it is. Only lines of the current attempt count. A late line of an earlier one, of a node that was
thought lost, say, stays in the file and changes nothing.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

from rankviz.core.bounds import Between, Count, Moment, Prose, Word

LOCAL = "local"
"""The engine of this machine."""
HF_JOBS = "hf-jobs"
"""The engine of machines that Hugging Face rents out by the minute."""
RAY = "ray"
"""The engine of a Ray cluster."""
SLURM = "slurm"
"""The engine of a Slurm cluster."""
MAX_ATTEMPTS = 10**6
MAX_REASON_CHARACTERS = 1000
MOST_STAYS = 20
"""Places of earlier attempts that one run remembers; what is more is added to one without a name."""
AttemptNumber = Annotated[int, Between(0, MAX_ATTEMPTS)]


class Attempt(NamedTuple):
    """One try of one run, as a worker is given it: "RUN_ID@2"."""

    run_id: str
    number: int = 0
    """0: the current one, whichever that is."""

    @classmethod
    def parse(cls, text: str) -> "Attempt":
        """Of a text with or without a number. ValueError where what stands for it is none."""
        run_id, _, number = text.partition("@")
        return cls(run_id, int(number or 0))

    def __str__(self) -> str:
        return f"{self.run_id}@{self.number}"


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptEvent:
    """What each event has beside its own fields."""

    attempt: AttemptNumber = 0
    """Whose it is. 0: of the current attempt, as in journals of before attempts were counted."""
    offset: Count = 0
    """Of an event that an engine brought from elsewhere: the bytes of that attempt's own journal up to the end of its
    line. What has been brought before counts once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptPlaced(AttemptEvent):
    """An engine has an attempt. Written before the engine starts it, and again when more is known of where it is. A
    number above the current one begins that attempt."""

    time: Moment
    engine: Word
    where: Word = ""
    """For people: "GPU 1", "node-3", "l4x1"."""
    job: Word = ""
    """What the engine calls the job that carries it."""
    waits: Annotated[str, Prose(MAX_REASON_CHARACTERS)] = ""
    """Why it has not begun there, as a sentence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRequeued(AttemptEvent):
    """A run is asked for again, and its next attempt begins; what it wrote before no longer counts."""

    time: Moment
    lost: Annotated[str, Prose(MAX_REASON_CHARACTERS)] = ""
    """Why the last attempt was lost, where that is the reason; empty where somebody asked again."""


class Stay(NamedTuple):
    """What the attempts that have begun in one place took there."""

    engine: str
    where: str
    seconds: float = 0.0
    """Each attempt from its first line to its last."""
    attempts: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempted(ABC):
    """What the record of a run or a probe has of its attempts."""

    attempt: int = 1
    """The number of the current one; what earlier ones wrote counts no more."""
    lost_attempts: int = 0
    """How many in a row were lost with the place where they ran; asking again starts anew."""
    lost: str = ""
    """Why the attempt before this one was lost, as a sentence; empty where it was not."""
    place: AttemptPlaced | None = None
    """Where the current one is; None while no engine has it, and in journals of before engines."""
    copied_bytes: int = 0
    """Of the current one's own journal elsewhere: how much of it is here."""
    requeued_at: float | None = None
    """When somebody asked for it again; None where nobody has."""
    earlier: tuple[Stay, ...] = ()
    """Its earlier attempts that had begun, by place; the place of the last one is last."""
    untimed_attempts: int = 0
    """Earlier ones of which nothing is here."""

    @property
    @abstractmethod
    def attempt_seconds(self) -> float | None:
        """What the current attempt took to its end, or to its last line; None where it has not begun."""

    @property
    def engine(self) -> str:
        """The engine that has the current attempt; empty where none has."""
        return self.place.engine if self.place else ""

    @property
    def where(self) -> str:
        """Where the current one is, for people; empty where no engine has it or it is not known."""
        return self.place.where if self.place else ""

    @property
    def waits(self) -> str:
        """Why the engine that has it has not begun it, as a sentence."""
        return self.place.waits if self.place else ""

    @property
    def begun_attempts(self) -> int:
        """How many have begun, those that are not here included."""
        return self.shown_attempt - (self.attempt_seconds is None)

    @property
    def shown_attempt(self) -> int:
        """Which one the current attempt is among those that have begun: one that ended before it began is not counted
        for people."""
        return 1 + self.untimed_attempts + sum(stay.attempts for stay in self.earlier)

    def counts(self, event: AttemptEvent) -> bool:
        """Whether an event is of the current attempt and has not been brought before."""
        return event.attempt in (0, self.attempt) and (not event.offset or event.offset > self.copied_bytes)

    def another(self, event: AttemptEvent, *, ended: bool) -> dict[str, Any] | None:
        """The fields that a new record begins with, where this event begins another attempt; None where it does not.
        What has ended is begun again only where it is asked for."""
        if isinstance(event, AttemptPlaced) and event.attempt > self.attempt and not ended:
            kept = {"lost_attempts": self.lost_attempts, "lost": self.lost, "requeued_at": self.requeued_at}
            return {"attempt": event.attempt, "place": event, **kept, **self._taken(self._untimed(event.attempt))}
        if isinstance(event, RunRequeued) and self.counts(event):
            lost = {"lost_attempts": self.lost_attempts + 1, "lost": event.lost, "requeued_at": self.requeued_at}
            again = {"lost_attempts": 0, "requeued_at": event.time}
            return {"attempt": following(self.attempt), **(lost if event.lost else again), **self._taken()}
        return None

    def _taken(self, untimed: int = 0) -> dict[str, Any]:
        """What all attempts until now took."""
        return {"earlier": self._stays(), "untimed_attempts": self.untimed_attempts + untimed}

    def _stays(self) -> tuple[Stay, ...]:
        if (seconds := self.attempt_seconds) is None:
            return self.earlier
        known = {(stay.engine, stay.where): stay for stay in self.earlier}
        here = self.engine, self.where
        if here not in known and len(known) >= MOST_STAYS:
            here = "", ""
        before = known.pop(here, Stay(*here))
        return (*known.values(), before._replace(seconds=before.seconds + seconds, attempts=before.attempts + 1))

    def _untimed(self, attempt: int) -> int:
        """How many attempts before this one are not here: a journal that came back from elsewhere begins with the one
        that was going then."""
        is_here = self.attempt > 1 or self.place is not None or self.attempt_seconds is not None
        return attempt - self.attempt - (1 if is_here else 0)


def queued_at(record: Any) -> float:
    """When somebody asked for a run or a probe last, by its record; unix seconds."""
    return record.request.created_at if record.requeued_at is None else record.requeued_at


def counting(events: Iterable[AttemptEvent], attempt: int) -> Iterator[AttemptEvent]:
    """The events that count, where so many attempts have begun before them."""
    for event in events:
        if isinstance(event, AttemptPlaced):
            attempt = max(attempt, event.attempt)
        if event.attempt in (0, attempt):
            yield event
            if isinstance(event, RunRequeued):
                attempt = following(attempt)


def following(attempt: int) -> int:
    """The number of the attempt after this one."""
    return min(attempt + 1, MAX_ATTEMPTS)
