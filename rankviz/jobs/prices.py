"""Costs and spending limits of paid jobs, which are billed by the minute from the start of the machine to its end.

A spending limit applies to all jobs of a sweep together: lost and cancelled jobs count, and jobs before the sweep
moved to another engine and back. Limit and costs of a sweep are in HOME/hf-jobs/SWEEP.json.
"""

import json
import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rankviz import units
from rankviz.core.quantity import Range
from rankviz.errors import EngineUnavailableError, InvalidSettingError
from rankviz.jobs.remote import Submission
from rankviz.store.durable import replace_durably

STARTING = Range(120.0, 300.0, 600.0)
"""Billed seconds before a job's base is loaded (image, packages, download of the base). Assumed, not measured."""
MOST_USD = 10**6
"""Highest spending limit of a sweep, in US dollars."""
MOST_SECONDS = 7 * 24 * 3600
"""Longest time limit of a job, in seconds."""
LEAST_SECONDS = 300
"""Shortest time limit of a job, in seconds; in less time hardly any job gets to train."""
FOLLOWED_SECONDS = 60.0
"""Seconds after its last reported time for which a running job's cost counts as known."""
DIGITS = 6
"""Decimal places kept before a floor or ceiling, so that a limit of 0.31 less 0.11 pays for as much as 0.2."""
UNREADABLE = (
    "What jobs of this sweep have cost cannot be read, so none starts. The owner of the server can mend "
    "hf-jobs/{}.json in the runs folder, or remove it: then the spending limit counts from 0."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Flavor:
    """A machine that a job can rent."""

    name: str
    label: str
    usd_per_minute: float
    gpu: str = ""
    """GPU model such as "L4"; empty for a machine without a GPU."""
    gpus: int = 0
    memory_bytes: int | None = None
    """Memory of one GPU; None where not known."""

    @property
    def usd_per_hour(self) -> float:
        return 60.0 * self.usd_per_minute


def cost_of(seconds: float, usd_per_minute: float) -> float:
    """Return the cost of a job in US dollars; each minute that has begun is billed whole."""
    return math.ceil(max(0.0, seconds) / 60.0) * usd_per_minute


def cost_range(training: Range, usd_per_minute: float) -> Range:
    """Return the cost range in US dollars of a job whose runs take `training` seconds, start-up included."""
    seconds = training.plus(STARTING)
    return Range(*(cost_of(each, usd_per_minute) for each in (seconds.low, seconds.expected, seconds.high)))


def require_limit(usd: float) -> None:
    """Raise InvalidSettingError where the spending limit is not above 0 or is more than MOST_USD."""
    if not 0 < usd <= MOST_USD:
        raise InvalidSettingError(
            f"The spending limit must be above 0 and at most {MOST_USD:,} US dollars (got {usd:g})."
        )


def seconds_left(usd: float, spent: float, usd_per_minute: float) -> int:
    """Return the time limit of a new job in seconds: what the sweep's spending limit `usd` still pays for after
    `spent` US dollars. Raise InvalidSettingError, with the limit that would be enough, where this is too little. The
    longest expected start is subtracted, since Hugging Face bills it and may not count it against the time limit."""
    require_limit(usd)
    paid = 60.0 * (usd - spent) / usd_per_minute if usd_per_minute else 24 * 3600.0
    seconds = math.floor(round(min(paid, MOST_SECONDS) - STARTING.high, DIGITS))
    if seconds >= LEAST_SECONDS:
        return seconds
    least = spent + math.ceil((STARTING.high + LEAST_SECONDS) / 60.0) * usd_per_minute
    so_far = f"is used up: this sweep's jobs have cost up to {units.usd(spent)}" if spent else "does not pay for a job"
    raise InvalidSettingError(
        f"The spending limit of {units.usd(usd)} {so_far}, and starting may take {STARTING.high / 60:.0f} minutes and "
        f"is billed. Give at least {units.usd(math.ceil(round(100 * least, DIGITS)) / 100)} for the whole sweep, or "
        "choose a cheaper machine."
    )


class Cost(NamedTuple):
    """Lower and upper bound of one job's cost, in US dollars."""

    least: float
    most: float


class Bill(NamedTuple):
    """Costs of all jobs of one sweep so far."""

    jobs: int
    usd: float
    """Lower bound of the cost."""
    is_whole: bool
    """True where the cost is exact; False where the running time of a job is not known now."""
    most_usd: float
    """Upper bound of the cost, which counts against the limit."""


def cost_so_far(submission: Submission, timeout: int, usd_per_minute: float) -> Cost:
    """Return a job's cost, from its submission. While its time is unknown, it may be the cost of the time limit."""
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
    """Files with the spending limits and the costs of ended jobs: {"limit": USD, "jobs": {JOB: [LEAST, MOST]}}."""

    def __init__(self, place: Path):
        self._place, self._lock = place, threading.Lock()

    def note_limit(self, sweep_id: str, usd: float) -> None:
        """Store the latest spending limit of a sweep; raise OSError where it cannot be written."""
        with self._lock:
            self._write(sweep_id, usd, self._read(sweep_id)[1])

    def limit(self, sweep_id: str) -> float | None:
        """Return a sweep's latest spending limit, or None; raise EngineUnavailableError where it cannot be read."""
        return self._read(sweep_id)[0]

    def add(self, sweep_id: str, job: str, cost: Cost) -> None:
        """Store the cost of an ended job, in place of an earlier entry of the same job."""
        with self._lock:
            limit, jobs = self._read(sweep_id)
            self._write(sweep_id, limit, {**jobs, job: cost})

    def bill(self, sweep_id: str, running: Mapping[str, Cost]) -> Bill:
        """Return a sweep's bill with `running`, costs by job name; EngineUnavailableError if unreadable."""
        costs = {**self._read(sweep_id)[1], **running}.values()
        is_whole = all(cost.least == cost.most for cost in costs)
        return Bill(len(costs), sum(cost.least for cost in costs), is_whole, sum(cost.most for cost in costs))

    def _write(self, sweep_id: str, limit: float | None, jobs: Mapping[str, Cost]) -> None:
        self._place.mkdir(parents=True, exist_ok=True)
        replace_durably(self._place / f"{sweep_id}.json", json.dumps({"limit": limit, "jobs": jobs}))

    def _read(self, sweep_id: str) -> tuple[float | None, Mapping[str, Cost]]:
        try:
            content = json.loads((self._place / f"{sweep_id}.json").read_text())
            limit, jobs = content["limit"], {name: Cost(*map(float, cost)) for name, cost in content["jobs"].items()}
            is_valid = limit is None or 0 < limit < math.inf
            if is_valid and all(0.0 <= cost.least <= cost.most < math.inf for cost in jobs.values()):
                return limit, jobs
        except FileNotFoundError:
            return None, {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass
        raise EngineUnavailableError(UNREADABLE.format(sweep_id))
