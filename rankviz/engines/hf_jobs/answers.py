"""What the Hub answers, read: jobs and machines. What cannot be read raises whatever it raises; `Hub` makes one error
of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rankviz.engines.hf_jobs.prices import Flavor

DELETED = "DELETED"
ENDED = ("COMPLETED", "CANCELED", "ERROR", DELETED)


@dataclass(frozen=True, slots=True)
class Seen:
    """A job as the Hub described it."""

    id: str
    stage: str
    message: str = ""
    seconds: float | None = None
    """Since it was created; what is billed is no more. None where it is not known: of one that was deleted, say."""
    labels: Mapping[str, str] = field(default_factory=dict)
    flavor: str = ""

    @property
    def ended(self) -> bool:
        return self.stage in ENDED

    @property
    def waits(self) -> bool:
        return self.stage == "SCHEDULING"


def seen(job: Any) -> Seen:
    """Of huggingface_hub's description of a job."""
    spent = job.durations.total_secs if job.durations else None
    stage = getattr(job.status.stage, "value", job.status.stage)
    seconds = None if spent is None else float(spent)
    message = str(job.status.message or "")[:300]
    return Seen(text(job.id), text(stage), message, seconds, labels(job), str(job.flavor or ""))


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
