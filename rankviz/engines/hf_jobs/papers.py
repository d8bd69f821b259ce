"""What is written down of jobs, in HOME/hf-jobs: a folder for each. No token is. Each file is on the disk, whole, when
its call returns: what a job costs goes on while this machine is without power.

hf-jobs/RUN_ID-aN/        the packed job, and what has come of it (mirror)
hf-jobs/RUN_ID-aN/rented.json
hf-jobs/forgotten         folders of jobs that have been read
hf-jobs/spent.json        US dollars by sweep and job (spending)
hf-jobs/missing/NAME.json the rented.json of a job that may run and is nowhere (missing)
hf-jobs/limit-SWEEP       the spending limit that a sweep was given last, in US dollars; @PAYER of each payer
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from rankviz.core.bounds import Between, Moment, Prose, Seconds, Word
from rankviz.core.from_json import build
from rankviz.core.runs.events import MAX_REASON_CHARACTERS
from rankviz.core.runs.request import RunRequest
from rankviz.engines import bundle, listing
from rankviz.engines.hf_jobs.prices import MOST_USD
from rankviz.engines.hf_jobs.spending import Span, purse, span_of, span_since, write
from rankviz.errors import EngineError, EngineUnavailableError, UserError
from rankviz.store.durable import aside_of, remove_left, replace_durably
from rankviz.store.journal import parse_request

RENTED, FORGOTTEN, MISSING = "rented.json", "forgotten", "missing"
GONE = ".gone-"
LEFT_SECONDS = 24 * 3600
"""What is made takes less, unless whoever makes it was killed."""
LOOK_THERE = "Look at https://huggingface.co/settings/jobs whether the job still runs, and end it there."
NO_LIMIT = (
    "The spending limit of its sweep cannot be read any more, so no job of it starts. Cancel it, and resume it with a "
    "limit."
)
HOME_FILE = "hf-jobs.id"
HOME_ID = re.compile(r"[0-9a-f]{16}\s*")

Usd = Annotated[float, Between(0, MOST_USD)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rented:
    """Of one job."""

    job_id: str = ""
    """Empty as long as it is not known whether the job was started."""
    is_asked: bool = True
    """Whether Hugging Face may have been asked for it; False while it is sent."""
    owner: str = ""
    account: str
    flavor: Word
    usd_per_minute: Usd
    timeout_seconds: Annotated[int, Between(0, 10**9)]
    sweep_id: Word
    limit_usd: Usd | None = None
    """The spending limit of its sweep; None of a job of an earlier version."""
    refusal: Annotated[str, Prose(MAX_REASON_CHARACTERS)] = ""
    """Why Hugging Face does not start it, as a sentence."""
    has_returned: bool = False
    """Whether it came back from its account after this runs folder had been emptied."""
    is_coming: bool = False
    """Whether it is just coming back, and its runs may not be here yet."""
    is_ending: bool = False
    """Whether RankViz has asked Hugging Face to end it."""
    billed_seconds: Seconds | None = None
    """When it was last described with them; None where it never was."""
    billed_at: Moment = 0.0
    """When that was, unix seconds."""

    @property
    def span(self) -> Span:
        """What is billed of it, as far as is written down."""
        if not self.is_asked:
            return Span(0.0, 0.0)
        if self.billed_seconds is None:
            return span_of(None, self.timeout_seconds)
        return span_since(self.billed_seconds, time.time() - self.billed_at, self.timeout_seconds)


class Papers:
    """Of one runs folder."""

    def __init__(self, home: Path):
        self._home = home
        self.place = home / "hf-jobs"
        self._lock = threading.Lock()

    def all(self) -> Sequence[Path]:
        """The folders of all jobs, whatever of what was in them has gone or cannot be read. OSError where they cannot
        be seen now."""
        with contextlib.suppress(FileNotFoundError):
            return list(
                filter(listing.is_folder_of_job, (self.place / name for name in sorted(os.listdir(self.place))))
            )
        return []

    def folders(self, *, coming: bool = False) -> Iterator[Path]:
        """Of jobs that were started, or that somebody was about to start, as far as they can be read now. coming: with
        those that are coming back."""
        for folder in self.all():
            with contextlib.suppress(EngineError, OSError):  # another thread may just remove it
                if not self.trouble(folder) and (coming or not self.read(folder).is_coming):
                    yield folder

    def trouble(self, folder: Path) -> str:
        """Why what is written down of a job is damaged; empty where it is not. OSError where it may be read later."""
        try:
            self.read(folder)
            bundle.read_job(folder)
        except EngineError as error:
            return f"{error} {LOOK_THERE}"
        return ""

    def folder(self, name: str) -> Path:
        """Of a job by its name, RUN_ID@N."""
        return self.place / name.replace("@", "-a")

    def read(self, folder: Path) -> Rented:
        return read_rented(folder / RENTED)

    def sweep_of(self, folder: Path) -> str:
        """Of the runs of a job whose papers cannot be read, by their requests in it; empty where those cannot be
        either."""
        for file in sorted((folder / "runs").glob("*/request.json")):
            with contextlib.suppress(OSError, ValueError, UserError):
                if isinstance(request := parse_request(file.read_bytes()), RunRequest):
                    return request.sweep_id
        return ""

    def write(self, folder: Path, rented: Rented) -> None:
        replace_durably(folder / RENTED, json.dumps(asdict(rented)))

    @contextlib.contextmanager
    def making(self, folder: Path) -> Iterator[Path]:
        """A place aside, which becomes the folder of a job once all of it is written there. EngineError where that job
        is here already."""
        aside = aside_of(folder)
        try:
            yield aside
            try:
                os.rename(aside, folder)
            except OSError as error:
                if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                    raise EngineError("This job is here already.") from None
                raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def labels(self, folder: Path) -> Mapping[str, str]:
        """By which a job is found among all of its account."""
        return {**self.labels_of_home(), "job": re.sub(r"[^A-Za-z0-9_-]", "_", folder.name)[-100:]}

    def labels_of_home(self) -> Mapping[str, str]:
        """Those of all jobs of this runs folder."""
        return {"app": "rankviz", "home": self._home_id()}

    def forget(self, folder: Path) -> None:
        """A job has been read, and does not come back."""
        with self._lock:
            if folder.name not in (known := self.forgotten()):
                replace_durably(self.place / FORGOTTEN, "".join(f"{name}\n" for name in sorted({*known, folder.name})))

    def forgotten(self) -> set[str]:
        """Names of the folders of jobs that were read."""
        file = self.place / FORGOTTEN
        return set(file.read_text(errors="replace").split()) if file.exists() else set()

    def miss(self, name: str, rented: Rented) -> None:
        """A job that was asked for is nowhere: it is looked for still, and what it did does not come back."""
        write(self.place / MISSING / f"{name}.json", asdict(rented))
        self.forget(self.folder(name))

    def remove(self, folder: Path) -> None:
        """In one step, so that nobody reads half of it later."""
        with contextlib.suppress(OSError):
            os.replace(folder, self.place / f"{GONE}{secrets.token_hex(4)}")
        for gone in self.place.glob(f"{GONE}*"):
            shutil.rmtree(gone, ignore_errors=True)

    def remove_left(self) -> None:
        """What somebody who was killed has left of what was made: it has somebody's data."""
        for folder in (self.place, self.place / MISSING):
            remove_left(folder, LEFT_SECONDS)

    def note_limit(self, sweep_id: str, usd: float, payer: str = "", *, anew: bool = True) -> None:
        """anew: also where the sweep was given one before."""
        file = self.place / f"limit-{purse(sweep_id, payer)}"
        if anew or not file.exists():
            self.place.mkdir(parents=True, exist_ok=True)
            replace_durably(file, repr(usd))

    def limit(self, sweep_id: str, payer: str = "") -> float | None:
        """The spending limit that somebody gave a sweep last, or in earlier versions whoever was last; None where it
        had none here. EngineUnavailableError where that cannot be read."""
        files = (self.place / f"limit-{name}" for name in (purse(sweep_id, payer), sweep_id))
        return next((read_limit(file) for file in files if file.exists()), None)

    def limits(self, sweep_id: str, asks: str = "") -> Sequence[float]:
        """That of each who pays for a sweep. EngineUnavailableError, as of `limit`.

        Args:
            asks: A payer. Where that is the owner of a machine, the sweep's own limit is theirs; else it is one of an
                earlier version, and counts as long as no payer has another.
        """
        of_payers, own = sorted(self.place.glob(f"limit-{sweep_id}@*")), self.place / f"limit-{sweep_id}"
        files = [own, *of_payers] if own.exists() and not (asks and of_payers) else of_payers
        return [read_limit(file) for file in files]

    def more_usd(self, sweep_id: str, payer: str | None = None, limit: float | None = None) -> float:
        """By how much jobs that run may exceed the limit of their payer, which was higher when they started, in US
        dollars. payer: only of theirs; limit: instead of the one that was given last. EngineUnavailableError, as of
        `limit`."""
        more = 0.0
        for folder in self.folders():
            with contextlib.suppress(EngineError):  # another thread may just remove it
                rented = self.read(folder)
                if rented.sweep_id == sweep_id and payer in (None, rented.owner) and rented.is_asked:
                    had = rented.limit_usd or 0.0
                    more += max(0.0, had - (limit or self.limit(sweep_id, rented.owner) or had))
        return more

    def is_missing(self, name: str) -> bool:
        """Whether a job is looked for, by the name of its folder."""
        return (self.place / MISSING / f"{name}.json").exists()

    def missing(self) -> Mapping[Path, Rented]:
        """Files of such jobs, as far as they can be read."""
        found = {}
        for file in sorted((self.place / MISSING).glob("*.json")):
            with contextlib.suppress(EngineError, OSError):
                found[file] = read_rented(file)
        return found

    def damaged(self) -> Sequence[str]:
        """Names of those whose files cannot be read."""
        names = []
        for file in sorted((self.place / MISSING).glob("*.json")):
            try:
                read_rented(file)
            except EngineError:
                if file.exists() and listing.FOLDER.fullmatch(file.stem):
                    names.append(file.stem)
            except OSError:  # it may be read later
                continue
        return names

    def _home_id(self) -> str:
        """Of this runs folder, made once; of a Space, whose disk is emptied by a restart, its own."""
        if space := os.environ.get("SPACE_ID"):
            return hashlib.sha256(space.encode()).hexdigest()[:16]
        file = self._home / HOME_FILE
        with self._lock:
            known = file.read_text(errors="replace") if file.exists() else ""
            if not HOME_ID.fullmatch(known):
                known = secrets.token_hex(8)
                self._home.mkdir(parents=True, exist_ok=True)
                replace_durably(file, known)
            return known.strip()


def read_limit(file: Path) -> float:
    """In US dollars. EngineUnavailableError where it cannot be read."""
    try:
        usd = float(file.read_text())
    except (OSError, ValueError):
        usd = math.nan
    if not 0 < usd < math.inf:
        raise EngineUnavailableError(NO_LIMIT)
    return usd


def read_rented(file: Path) -> Rented:
    """EngineError where it cannot be read; OSError where that may go better later."""
    try:
        return build(Rented, bundle.read_json(file))
    except ValueError:
        raise EngineError(f"What is written down of its job cannot be read ({file.parent.name}/{file.name}).") from None
