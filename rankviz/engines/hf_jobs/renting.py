"""Gets one packed job to Hugging Face: it is sent, asked for once, and looked for where the answer was lost.

Asking twice would pay twice. So it is looked for by its labels and then written down before it is asked for, and from
then on it is only looked for; one that is nowhere after some minutes counts as never started, and its runs go to a new
job with labels of its own. Where Hugging Face answers that it does not start it now, it is asked again later.
"""

import contextlib
import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rankviz.engines.hf_jobs import code, words
from rankviz.engines.hf_jobs.hub import IN, OUT, Hub
from rankviz.engines.hf_jobs.papers import Papers
from rankviz.engines.hf_jobs.prices import LEAST_SECONDS
from rankviz.errors import EngineDeclinedError, EngineError

LOOK_SECONDS = 300.0
"""How late Hugging Face may list a job that it has started."""


class Renting:
    """Of one job.

    Args:
        image, worker: As the engine has them.
        look_seconds: A job that is listed nowhere for so long was not started.
    """

    def __init__(
        self, hub: Hub, papers: Papers, folder: Path, *, image: str, worker: Sequence[str], look_seconds: float
    ):
        self.rented = papers.read(folder)
        self.absent = False
        """Whether it was asked for and is nowhere."""
        self._hub, self._papers, self._folder = hub, papers, folder
        self._image, self._worker = image, worker
        self._look_seconds = look_seconds
        self._nowhere_since: float | None = None
        self._is_sent = self._is_withdrawn = self._is_unwanted = self._is_stopped = False
        self._lock = threading.RLock()
        self._answered = threading.Event()
        if self.rented.is_asked:
            self._answered.set()

    @property
    def is_over(self) -> bool:
        """Whether no job of this folder comes any more."""
        return self.absent or bool(self.rented.refusal)

    @property
    def is_lost(self) -> bool:
        """Whether it was asked for and nobody knows what became of that."""
        return self._answered.is_set() and self.rented.is_asked and not self.rented.job_id

    def withdraw(self) -> bool:
        """From now on it is not asked for. Whether it never was; one that is found all the same is to be ended."""
        with self._lock:
            self._is_withdrawn = True
            self._is_unwanted = self._is_unwanted or not self.rented.is_asked
            return not self.rented.is_asked

    def stop(self) -> None:
        """Another one goes on with it, whose word counts from now on: nothing is asked for or written down any more,
        except the id of a job that was asked for."""
        with self._lock:
            self._is_withdrawn = self._is_stopped = True

    def note(self, **news: Any) -> None:
        """Write down what is new of `rented`, which has it also where that fails. A job that is found once nobody wants
        it any more is to be ended."""
        with self._lock:
            self.rented = replace(self.rented, **news)
            if "job_id" in news and (self._is_unwanted or not self._folder.is_dir()):
                self._papers.miss(self._folder.name, self.rented)
            if self._folder.is_dir() and not self._is_stopped:
                self._papers.write(self._folder, self.rented)
            elif self._folder.is_dir() and "job_id" in news:
                self._papers.write(self._folder, replace(self._papers.read(self._folder), **news))

    def step(self) -> None:
        """One try; `rented` has the job's id once it is known. EngineUnavailableError: try again later."""
        if self.rented.is_asked:
            self._look()
            return
        try:
            if self._find():  # what was written down of it may have been lost with the machine's power
                return
            if not self._is_sent:
                self._send()
                self._is_sent = True
            self._lower()
            self._ask()
        except EngineError as error:
            self.note(refusal=str(error))

    def _send(self) -> None:
        self._hub.make_places()
        path, data = code.archive()
        files: dict[str, bytes | Path] = {} if self._hub.has_sent(path) else {path: data}
        for file in sorted(self._folder.rglob("*")):
            if file.is_file():
                files[f"{self._folder.name}/{file.relative_to(self._folder).as_posix()}"] = file
        self._hub.send(files, f"Job {self._folder.name}")

    def _lower(self) -> None:
        """To a limit that its sweep was given while it was sent. EngineError where that pays for no job any more."""
        rented, limit = self.rented, self._papers.limit(self.rented.sweep_id, self.rented.owner)
        if limit is None or rented.limit_usd is None or limit >= rented.limit_usd:
            return
        seconds = rented.timeout_seconds
        if rented.usd_per_minute:
            seconds -= math.ceil(60.0 * (rented.limit_usd - limit) / rented.usd_per_minute)
        if seconds < LEAST_SECONDS:
            raise EngineError(words.USED_UP)
        self.note(timeout_seconds=seconds, limit_usd=limit)

    def _ask(self) -> None:
        name = self._folder.name
        command = code.command(f"{IN}/{code.archive()[0]}", f"{IN}/{name}", f"{OUT}/{name}", self._worker)
        labels = {**self._labels, "name": f"rankviz-{self.rented.sweep_id}"[:100]}
        with self._lock:
            if self._is_withdrawn:
                return
            try:
                self.note(is_asked=True)
            except BaseException:
                self.rented = replace(self.rented, is_asked=False)
                raise
        try:
            seen = self._hub.run(
                image=self._image,
                command=command,
                flavor=self.rented.flavor,
                timeout=self.rented.timeout_seconds,
                labels=labels,
            )
        except (EngineDeclinedError, EngineError):
            self.note(is_asked=False)
            raise
        except BaseException:
            self._answered.set()
            raise
        self._answered.set()
        self.note(job_id=seen.id)

    def _find(self) -> bool:
        """Whether it is listed."""
        jobs = self._hub.find(self._labels)
        for twin in jobs[:-1]:
            if not twin.ended:
                with contextlib.suppress(EngineError):  # it has ended meanwhile
                    self._hub.cancel(twin.id)
        if jobs:
            self.note(is_asked=True, job_id=jobs[-1].id)
            self._answered.set()
        return bool(jobs)

    def _look(self) -> None:
        if self._find():
            return
        if self._nowhere_since is None:
            self._nowhere_since = time.monotonic()
        else:
            self.absent = time.monotonic() - self._nowhere_since >= self._look_seconds

    @property
    def _labels(self) -> Mapping[str, str]:
        return self._papers.labels(self._folder)
