"""What is written down of jobs, in HOME/hf-jobs: a folder for each, and what each sweep has cost. No token is.

hf-jobs/RUN_ID-aN/        the packed job, and what has come of it (mirror)
hf-jobs/RUN_ID-aN/rented.json
hf-jobs/spent.json        US dollars by sweep
hf-jobs/closed-SWEEP      its owner cancelled its job on Hugging Face
"""

import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

RENTED, SPENT = "rented.json", "spent.json"
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
        _write(folder / RENTED, asdict(rented))

    def labels(self, folder: Path) -> Mapping[str, str]:
        """By which a job is found among all of its account."""
        return {"app": "rankviz", "home": self._home_id(), "job": re.sub(r"[^A-Za-z0-9_-]", "_", folder.name)[-100:]}

    def spent(self, sweep_id: str) -> float:
        """US dollars of the jobs of a sweep that have been read."""
        return self._spent().get(sweep_id, 0.0)

    def add(self, sweep_id: str, usd: float) -> None:
        spent = self._spent()
        _write(self.place / SPENT, {**spent, sweep_id: spent.get(sweep_id, 0.0) + usd})

    def close(self, sweep_id: str) -> None:
        """Its owner ended its job elsewhere: what is left of it does not start by itself."""
        (self.place / f"closed-{sweep_id}").touch()

    def reopen(self, sweep_id: str) -> bool:
        """Whether it was closed; it no longer is."""
        try:
            (self.place / f"closed-{sweep_id}").unlink()
        except FileNotFoundError:
            return False
        return True

    def _spent(self) -> Mapping[str, float]:
        try:
            return json.loads((self.place / SPENT).read_text())
        except (OSError, ValueError):
            return {}

    def _home_id(self) -> str:
        """Of this runs folder, made once."""
        file = self._home / HOME_FILE
        if not file.exists():
            file.write_text(secrets.token_hex(8))
        return file.read_text().strip()


def _write(path: Path, content: Mapping) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    aside.write_text(json.dumps(content))
    os.replace(aside, path)
