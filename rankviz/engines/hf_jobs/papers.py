"""What is written down of jobs, in HOME/hf-jobs: a folder for each. No token is.

hf-jobs/RUN_ID-aN/        the packed job, and what has come of it (mirror)
hf-jobs/RUN_ID-aN/rented.json
hf-jobs/forgotten         folders of jobs that have been read
hf-jobs/spent.json        US dollars by sweep and job (spending)
hf-jobs/closed-SWEEP      when and why its runs were not to start again by themselves
hf-jobs/missing/NAME.json the rented.json of a job that was asked for and is nowhere (missing)
"""

import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rankviz.engines.hf_jobs.spending import write

RENTED, FORGOTTEN, MISSING = "rented.json", "forgotten", "missing"
HOME_FILE = "hf-jobs.id"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rented:
    """Of one job."""

    job_id: str = ""
    """Empty as long as it is not known whether the job was started."""
    is_asked: bool = True
    """Whether Hugging Face may have been asked for it; False while it is sent."""
    owner: str = ""
    account: str
    flavor: str
    usd_per_minute: float
    timeout_seconds: int
    sweep_id: str
    limit_usd: float | None = None
    """The spending limit of its sweep; None of a job of an earlier version."""


class Papers:
    """Of one runs folder."""

    def __init__(self, home: Path):
        self._home = home
        self.place = home / "hf-jobs"

    def folders(self) -> Iterator[Path]:
        """Of jobs that were started, or that somebody was about to start."""
        if self.place.is_dir():
            yield from (path.parent for path in sorted(self.place.glob(f"*/{RENTED}")))

    def folder(self, name: str) -> Path:
        """Of a job by its name, RUN_ID@N."""
        return self.place / name.replace("@", "-a")

    def read(self, folder: Path) -> Rented:
        return read_rented(folder / RENTED)

    def write(self, folder: Path, rented: Rented) -> None:
        write(folder / RENTED, asdict(rented))

    def labels(self, folder: Path) -> Mapping[str, str]:
        """By which a job is found among all of its account."""
        return {**self.labels_of_home(), "job": re.sub(r"[^A-Za-z0-9_-]", "_", folder.name)[-100:]}

    def labels_of_home(self) -> Mapping[str, str]:
        """Those of all jobs of this runs folder."""
        return {"app": "rankviz", "home": self._home_id()}

    def forget(self, folder: Path) -> None:
        """A job has been read, and does not come back."""
        with (self.place / FORGOTTEN).open("a") as file:
            file.write(f"{folder.name}\n")

    def forgotten(self) -> set[str]:
        """Names of the folders of jobs that were read."""
        file = self.place / FORGOTTEN
        return set(file.read_text().split()) if file.exists() else set()

    def miss(self, folder: Path) -> None:
        """A job that was asked for is nowhere: it is looked for still."""
        (self.place / MISSING).mkdir(exist_ok=True)
        os.replace(folder / RENTED, self.place / MISSING / f"{folder.name}.json")

    def missing(self) -> Sequence[Path]:
        """Files of such jobs."""
        return sorted((self.place / MISSING).glob("*.json"))

    def close(self, sweep_id: str, why: str) -> None:
        """What is left of a sweep does not start by itself."""
        (self.place / f"closed-{sweep_id}").write_text(f"{time.time()}\n{why}")

    def closed(self, sweep_id: str) -> tuple[float, str]:
        """When that was last, unix seconds, and why; what was queued later may start. 0 where it never was, or where
        the clock was ahead then."""
        try:
            at, _, why = (self.place / f"closed-{sweep_id}").read_text().partition("\n")
            return (float(at), why) if float(at) <= time.time() else (0.0, "")
        except (OSError, ValueError):
            return 0.0, ""

    def _home_id(self) -> str:
        """Of this runs folder, made once; of a Space, whose disk is emptied by a restart, its own."""
        if space := os.environ.get("SPACE_ID"):
            return hashlib.sha256(space.encode()).hexdigest()[:16]
        file = self._home / HOME_FILE
        if not file.exists():
            self._home.mkdir(parents=True, exist_ok=True)
            file.write_text(secrets.token_hex(8))
        return file.read_text().strip()


def read_rented(file: Path) -> Rented:
    return Rented(**json.loads(file.read_text()))
