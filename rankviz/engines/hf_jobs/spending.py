"""What the jobs of each sweep have cost, in HOME/hf-jobs/spent.json.

A limit is that of a sweep, for all its jobs together: those that were lost or cancelled, and those before it moved to
another engine and back.
"""

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

SPENT = "spent.json"


class Bill(NamedTuple):
    """Of the jobs of one sweep so far."""

    jobs: int
    """How many are known here."""
    usd: float
    is_whole: bool
    """False where a job is going whose time cannot be read now."""


class Spending:
    """Of one runs folder.

    Args:
        place: The folder of jobs.
    """

    def __init__(self, place: Path):
        self._place = place

    def jobs(self, sweep_id: str) -> Mapping[str, float]:
        """US dollars of the jobs of a sweep that have been read, by the names of their folders."""
        return self._all().get(sweep_id, {})

    def add(self, sweep_id: str, job: str, usd: float) -> None:
        """A job has ended and cost so much. Once, however often this is said."""
        known = self._all()
        write(self._place / SPENT, {**known, sweep_id: {**known.get(sweep_id, {}), job: usd}})

    def bill(self, sweep_id: str, going: Mapping[str, float | None]) -> Bill:
        """Of the jobs that were read and those that are going, some of which may cost what is not known."""
        ended = self.jobs(sweep_id)
        known = {**ended, **{job: usd for job, usd in going.items() if usd is not None}}
        return Bill(len({*ended, *going}), sum(known.values()), is_whole=known.keys() >= going.keys())

    def _all(self) -> Mapping[str, Mapping[str, float]]:
        """Earlier versions kept one figure for all jobs of a sweep."""
        try:
            known = json.loads((self._place / SPENT).read_text())
        except (OSError, ValueError):
            return {}
        return {sweep_id: jobs if isinstance(jobs, dict) else {"": jobs} for sweep_id, jobs in known.items()}


def write(path: Path, content: Mapping) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    aside.write_text(json.dumps(content))
    os.replace(aside, path)
