"""What the Hub answers, read: jobs and machines. What cannot be read raises whatever it raises; `Hub` makes one error
of it."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rankviz.engines.hf_jobs.prices import STARTING, Flavor
from rankviz.errors import redacted

NOT_FOR_PEOPLE = re.compile(
    r"\s*(?:\(?\b(?:request|trace|cf)[ -]?id\b\s*[:=]\s*[^\s)]+\)?|https?://\S+)", re.IGNORECASE
)
"""In what Hugging Face says: of each answer another, or nothing to read."""
DELETED = "DELETED"
ENDED = ("COMPLETED", "CANCELED", "ERROR", DELETED)


@dataclass(frozen=True, slots=True)
class Seen:
    """A job as the Hub described it."""

    id: str
    stage: str
    message: str = ""
    seconds: float | None = None
    """What is billed is no more. None where it is not known: of one that was deleted, say."""
    running_seconds: float | None = None
    """How long it has run; None where it has not, or where that is not known."""
    labels: Mapping[str, str] = field(default_factory=dict)
    flavor: str = ""

    @property
    def ended(self) -> bool:
        return self.stage in ENDED

    @property
    def waits(self) -> bool:
        return self.stage == "SCHEDULING"


def seen(job: Any, token: str = "") -> Seen:
    """Of huggingface_hub's description of a job, for which this token was given."""
    stage = text(getattr(job.status.stage, "value", job.status.stage))
    return Seen(
        id=text(job.id),
        stage=stage,
        message=plain(job.status.message or "", token),
        seconds=_billed(job.durations, stage),
        running_seconds=_seconds(job.durations and job.durations.running_secs),
        labels=labels(job),
        flavor=str(job.flavor or ""),
    )


def _billed(durations: Any, stage: str) -> float | None:
    """Starting is billed, and is the end of the time in which a job waits for its machine, which is not."""
    total = _seconds(durations and durations.total_secs)
    running = _seconds(durations and durations.running_secs)
    if total is None or (running is None and stage in ("RUNNING", "COMPLETED")):  # it ran, and for how long is not said
        return total
    return min(total, (running or 0.0) + STARTING.high)


def _seconds(value: Any) -> float | None:
    return float(value) if value is not None and 0 <= value < math.inf else None


def plain(words: Any, *tokens: str) -> str:
    """What Hugging Face says, in one line of a sentence, without the tokens that it was given."""
    return redacted(" ".join(NOT_FOR_PEOPLE.sub("", str(words)).split()), *tokens)[:300]


def labels(job: Any) -> Mapping[str, str]:
    return {str(name): str(value) for name, value in (job.labels or {}).items()}


def text(value: Any) -> str:
    """A word that must be there. TypeError, ValueError."""
    if not isinstance(value, str):
        raise TypeError(f"a word is a {type(value).__name__}")
    if not value:
        raise ValueError("a word is missing")
    return value


def flavor(hardware: Any) -> Flavor | None:
    """None of what is not billed by the minute."""
    if hardware.unit_label != "minute":
        return None
    card = hardware.accelerator
    return Flavor(
        name=text(hardware.name),
        label=text(hardware.pretty_name),
        usd_per_minute=hardware.unit_cost_micro_usd / 1e6,
        gpu=card.model if card else "",
        gpus=int(card.quantity or 1) if card else 0,
        memory_bytes=_bytes(card.vram) if card else None,
    )


def _bytes(words: str | None) -> int | None:
    """Of "24 GB"; a card's label means GiB."""
    number, _, unit = (words or "").partition(" ")
    try:
        return round(float(number) * 2**30) if unit == "GB" else None
    except ValueError:
        return None
