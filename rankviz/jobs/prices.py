"""What paid jobs cost: billed by the minute, from when their machine starts until it ends, within a spending limit.

A limit is that of a sweep, for all its jobs together: those that were lost or cancelled too, and those before it moved
to another engine and back. What ended jobs have cost is in HOME/hf-jobs/spent.json, limits in HOME/hf-jobs/limit-SWEEP.
"""

import json
import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rankviz import units
from rankviz.core.quantity import Range
from rankviz.errors import EngineUnavailableError, InvalidSettingError
from rankviz.jobs.submission import Submission
from rankviz.store.durable import replace_durably

STARTING = Range(120.0, 300.0, 600.0)
"""Seconds that a job is billed for before its base is loaded: pulling the image, packages, the base's download. A
choice, not a measurement; a job that has run says what it was."""
MOST_USD = 10**6
"""No sweep may cost more, whatever its owner says."""
MOST_SECONDS = 7 * 24 * 3600
"""No job takes longer, whatever its limit."""
LEAST_SECONDS = 300
"""A job with less time than this would hardly begin."""
FOLLOWED_SECONDS = 60.0
"""A job that was seen running so long ago is taken to run still."""
DIGITS = 6
"""Rounding before a floor or ceiling, so that 0.31 - 0.11 pays for what 0.2 pays for."""
UNREADABLE = (
    "What jobs have cost cannot be read, so none starts. The owner of the server can mend hf-jobs/spent.json in the "
    "runs folder, or remove it: then spending limits count from 0."
)
NO_LIMIT = (
    "The spending limit of its sweep cannot be read any more, so no job of it starts. Cancel it, and resume it with a "
    "limit."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Flavor:
    """A machine that a job can rent."""

    name: str
    """As Hugging Face calls it: "l4x1"."""
    label: str
    """For people: "Nvidia L4"."""
    usd_per_minute: float
    gpu: str = ""
    """The model of its GPU, "L4"; empty where it has none."""
    gpus: int = 0
    memory_bytes: int | None = None
    """Of one GPU; None where it is not given."""

    @property
    def usd_per_hour(self) -> float:
        return 60.0 * self.usd_per_minute


def cost_of(seconds: float, usd_per_minute: float) -> float:
    """Return the US dollars of a job that took so long; a minute that has begun counts whole."""
    return math.ceil(max(0.0, seconds) / 60.0) * usd_per_minute


def cost_range(training: Range, usd_per_minute: float) -> Range:
    """Return the US dollars of a job whose runs take `training` seconds, with what it takes to start."""
    seconds = training.plus(STARTING)
    return Range(*(cost_of(each, usd_per_minute) for each in (seconds.low, seconds.expected, seconds.high)))


def require_limit(usd: float) -> None:
    """Raise InvalidSettingError for what is no spending limit."""
    if not 0 < usd <= MOST_USD:
        raise InvalidSettingError(
            f"The spending limit must be above 0 and at most {MOST_USD:,} US dollars (got {usd:g})."
        )


def seconds_left(usd: float, spent: float, usd_per_minute: float, *, is_whole: bool = True) -> int:
    """Return the time limit of a job that the limit of its sweep still pays for, after what its other jobs have cost,
    at most. InvalidSettingError where that is too little; it says what would do.

    Starting is billed, and may not count against Hugging Face's time limit: the most that it is expected to take is
    kept back.

    Args:
        is_whole: Whether `spent` is what they have cost, and not only the most that it can be.
    """
    require_limit(usd)
    paid = 60.0 * (usd - spent) / usd_per_minute if usd_per_minute else 24 * 3600.0
    seconds = math.floor(round(min(paid, MOST_SECONDS) - STARTING.high, DIGITS))
    if seconds >= LEAST_SECONDS:
        return seconds
    least = spent + math.ceil((STARTING.high + LEAST_SECONDS) / 60.0) * usd_per_minute
    cost = "have cost" if is_whole else "may have cost up to"
    so_far = f"this sweep's jobs {cost} {units.usd(spent)}, and " if spent else ""
    raise InvalidSettingError(
        f"The spending limit of {units.usd(usd)} {'is used up' if spent else 'does not pay for a job'}: "
        f"{so_far}starting may take "
        f"{STARTING.high / 60:.0f} minutes and is billed. Give at least "
        f"{units.usd(math.ceil(round(100 * least, DIGITS)) / 100)} for the whole sweep, or choose a cheaper machine."
    )


class Cost(NamedTuple):
    """Of one job, in US dollars: at least and at most."""

    least: float
    most: float


class Bill(NamedTuple):
    """Of the jobs of one sweep so far."""

    jobs: int
    usd: float
    """At least."""
    is_whole: bool
    """False where the time of a job is not known, or not now."""
    most_usd: float
    """What counts against the limit."""


def cost_so_far(submission: Submission, timeout: int, usd_per_minute: float) -> Cost:
    """Return what a job has cost by what is written down of it. Until its time is known, it may have cost all that its
    time limit allows."""
    longest = timeout + STARTING.high
    if not submission.submitted or (submission.end and not submission.handle):  # it was listed nowhere
        least = most = 0.0
    elif submission.seconds is None:
        least, most = 0.0, longest
    else:
        since = 0.0 if submission.end else max(0.0, time.time() - submission.seconds_at)
        least, most = submission.seconds, max(submission.seconds, min(longest, submission.seconds + since))
        if since < FOLLOWED_SECONDS:
            least = most
    return Cost(cost_of(least, usd_per_minute), cost_of(most, usd_per_minute))


class Ledger:
    """What is written down of costs and limits in one runs folder.

    Versions before 1 December 2026 kept both for each payer of a sweep, as SWEEP@PAYER: these are read as the sweep's.
    """

    def __init__(self, place: Path):
        self._place = place
        self._lock = threading.Lock()

    def note_limit(self, sweep_id: str, usd: float) -> None:
        """Keep the spending limit that a sweep was given last. OSError."""
        self._place.mkdir(parents=True, exist_ok=True)
        replace_durably(self._place / f"limit-{sweep_id}", repr(usd))

    def limit(self, sweep_id: str) -> float | None:
        """Return the spending limit that a sweep was given last; None where it had none here. EngineUnavailableError
        where that cannot be read."""
        own = self._place / f"limit-{sweep_id}"
        files = [own] if own.exists() else sorted(self._place.glob(f"limit-{sweep_id}@*"))
        try:
            limits = [float(file.read_text()) for file in files]
        except (OSError, ValueError):
            limits = [math.nan]
        if not all(0 < usd < math.inf for usd in limits):
            raise EngineUnavailableError(NO_LIMIT)
        return max(limits, default=None)

    def add(self, sweep_id: str, job: str, cost: Cost) -> None:
        """Note that a job has ended and cost so much; the same job again replaces that."""
        with self._lock:
            known = self._read()
            self._place.mkdir(parents=True, exist_ok=True)
            content = {**known, sweep_id: {**known.get(sweep_id, {}), job: cost}}
            replace_durably(self._place / "spent.json", json.dumps(content))

    def bill(self, sweep_id: str, running: Mapping[str, Cost]) -> Bill:
        """Return the bill of the jobs that have ended and those that run. EngineUnavailableError where it cannot be
        read."""
        jobs: dict[str, Cost] = {}
        for name, costs in self._read().items():
            if name.partition("@")[0] == sweep_id:
                jobs |= costs
        jobs |= running
        costs = jobs.values()
        is_whole = all(cost.least == cost.most for cost in costs)
        return Bill(len(jobs), sum(cost.least for cost in costs), is_whole, sum(cost.most for cost in costs))

    def _read(self) -> Mapping[str, Mapping[str, Cost]]:
        """Earlier versions kept one figure for all jobs of a sweep, and one for the cost of a job that is known."""
        try:
            known = json.loads((self._place / "spent.json").read_text())
            jobs = {name: costs if isinstance(costs, dict) else {"": costs} for name, costs in known.items()}
            return {name: {job: _cost(usd) for job, usd in costs.items()} for name, costs in jobs.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            raise EngineUnavailableError(UNREADABLE) from None


def _cost(usd: Any) -> Cost:
    """As written down. ValueError, TypeError where it is none."""
    cost = Cost(*map(float, usd if isinstance(usd, list) else [usd, usd]))
    if not 0.0 <= cost.least <= cost.most < math.inf:
        raise ValueError(usd)
    return cost
