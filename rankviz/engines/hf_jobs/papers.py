"""What is written down of jobs, in HOME/hf-jobs: a folder for each. No token is.

hf-jobs/RUN_ID-aN/        the packed job, and what has come of it (mirror)
hf-jobs/RUN_ID-aN/rented.json
hf-jobs/forgotten         folders of jobs that have been read
hf-jobs/spent.json        US dollars by sweep and job (spending)
hf-jobs/closed-SWEEP      its owner cancelled its job on Hugging Face
"""

import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from rankviz.engines.hf_jobs.spending import write

RENTED, FORGOTTEN = "rented.json", "forgotten"
HOME_FILE = "hf-jobs.id"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rented:
    """Of one job."""

    job_id: str = ""
    """Empty as long as it is not known whether the job was started."""
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
        return Rented(**json.loads((folder / RENTED).read_text()))

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

    def close(self, sweep_id: str) -> None:
        """Its owner ended its job elsewhere: what is left of it does not start by itself."""
        (self.place / f"closed-{sweep_id}").write_text(str(time.time()))

    def closed_at(self, sweep_id: str) -> float:
        """When that was last, unix seconds; what was queued later may start. 0 where it never was."""
        try:
            return float((self.place / f"closed-{sweep_id}").read_text())
        except (OSError, ValueError):
            return 0.0

    def _home_id(self) -> str:
        """Of this runs folder, made once; of a Space, whose disk is emptied by a restart, its own."""
        if space := os.environ.get("SPACE_ID"):
            return hashlib.sha256(space.encode()).hexdigest()[:16]
        file = self._home / HOME_FILE
        if not file.exists():
            self._home.mkdir(parents=True, exist_ok=True)
            file.write_text(secrets.token_hex(8))
        return file.read_text().strip()
