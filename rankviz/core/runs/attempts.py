"""Attempts of a run: which one counts, and where it is.

A run that was lost with its worker, or that is asked for again, is tried anew: each try has a number, and each line of
a journal says whose it is. Only lines of the current attempt count. A late line of an earlier one, of a node that was
thought lost, say, stays in the file and changes nothing.
"""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

from rankviz.core.bounds import Between, Count, Moment, Prose, Word

MAX_ATTEMPTS = 1000
MAX_REASON_CHARACTERS = 1000
AttemptNumber = Annotated[int, Between(0, MAX_ATTEMPTS)]


class Attempt(NamedTuple):
    """One try of one run, as a worker is given it: "RUN_ID@2"."""

    run_id: str
    number: int = 1

    @classmethod
    def parse(cls, text: str) -> "Attempt":
        """The first attempt where the text gives no number. ValueError where it is none."""
        run_id, _, number = text.partition("@")
        return cls(run_id, int(number or 1))

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
