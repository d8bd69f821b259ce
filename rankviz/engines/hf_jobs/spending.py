"""What the jobs of each sweep have cost, in HOME/hf-jobs/spent.json.

A limit is that of a sweep, for all its jobs together: those that were lost or cancelled, and those before it moved to
another engine and back. Where several pay for jobs of one sweep, each has a limit of their own for theirs.
"""

import hashlib
import json
import math
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rankviz.engines.hf_jobs.prices import cost_of, longest_seconds
from rankviz.errors import EngineUnavailableError
from rankviz.store.durable import replace_durably

SPENT = "spent.json"
UNREADABLE = (
    "What jobs have cost cannot be read, so none starts. The owner of the server can mend hf-jobs/{} in the runs "
    "folder, or remove it: then spending limits count from 0."
)


def purse(sweep_id: str, payer: str) -> str:
    """What somebody pays of a sweep is written down under this name. Of the owner of a machine it is the sweep's, and
    so was everybody's in earlier versions. No id of a sweep has an @."""
    return f"{sweep_id}@{hashlib.sha256(payer.encode()).hexdigest()[:16]}" if payer else sweep_id


class Cost(NamedTuple):
    """Of one job, in US dollars: at least and at most."""

    least: float
    most: float


class Span(NamedTuple):
    """What one job is billed for, in seconds: at least and at most."""

    least: float
    most: float

    def cost(self, usd_per_minute: float) -> Cost:
        return Cost(cost_of(self.least, usd_per_minute), cost_of(self.most, usd_per_minute))


def span_of(seconds: float | None, timeout: int) -> Span:
    """Of a job that has ended, of which Hugging Face may not say how long it took."""
    return Span(0.0, longest_seconds(timeout)) if seconds is None else Span(seconds, seconds)


def span_since(billed: float, since: float, timeout: int) -> Span:
    """Of a job that was described with so many seconds, so many seconds ago."""
    return Span(billed, max(billed, min(longest_seconds(timeout), billed + since)))


class Bill(NamedTuple):
    """Of the jobs of one sweep so far, or of those that one pays."""

    jobs: int
    """How many are known here."""
    usd: float
    """At least."""
    is_whole: bool
    """False where the time of a job is not known, or not now."""
    most_usd: float
    """What counts against a limit."""


class Spending:
    """Of one runs folder.

    Args:
        place: The folder of jobs.
    """

    def __init__(self, place: Path):
        self._place = place
        self._lock = threading.Lock()

    def jobs(self, sweep_id: str, payer: str | None = None) -> Mapping[str, Cost]:
        """Of the jobs of a sweep that have been read, by the names of their folders. EngineUnavailableError where what
        is written down cannot be read.

        Args:
            payer: Whose jobs; None: everybody's.
        """
        known = self._all()
        everybody = [name for name in known if name.startswith(f"{sweep_id}@")]
        names = (sweep_id, *(everybody if payer is None else [purse(sweep_id, payer)]))
        return {job: cost for name in names for job, cost in known.get(name, {}).items()}

    def add(self, sweep_id: str, job: str, cost: Cost, payer: str = "") -> None:
        """A job has ended and cost so much. Once, however often this is said."""
        name = purse(sweep_id, payer)
        with self._lock:
            known = self._all()
            write(self._place / SPENT, {**known, name: {**known.get(name, {}), job: cost}})

    def bill(self, sweep_id: str, going: Mapping[str, Cost], payer: str | None = None) -> Bill:
        """Of the jobs that were read and those that are going. As `jobs`."""
        jobs = {**self.jobs(sweep_id, payer), **going}
        least, most = (sum(cost[which] for cost in jobs.values()) for which in (0, 1))
        return Bill(len(jobs), least, is_whole=all(cost.least == cost.most for cost in jobs.values()), most_usd=most)

    def _all(self) -> Mapping[str, Mapping[str, Cost]]:
        """Earlier versions kept one figure for all jobs of a sweep, and one for the cost of a job that is known."""
        file = self._place / SPENT
        try:
            known = json.loads(file.read_text())
            jobs = {sweep_id: jobs if isinstance(jobs, dict) else {"": jobs} for sweep_id, jobs in known.items()}
            return {sweep_id: {job: _cost(usd) for job, usd in costs.items()} for sweep_id, costs in jobs.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            raise EngineUnavailableError(UNREADABLE.format(SPENT)) from None


def _cost(usd: Any) -> Cost:
    """As written down. ValueError, TypeError where it is none."""
    cost = Cost(*map(float, usd if isinstance(usd, list) else [usd, usd]))
    if not 0.0 <= cost.least <= cost.most < math.inf:
        raise ValueError(usd)
    return cost


def write(path: Path, content: Mapping) -> None:
    """On the disk when this returns, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_durably(path, json.dumps(content))
