"""Gets one packed job to Hugging Face: it is sent, asked for once, and looked for where the answer was lost.

Asking twice would pay twice. So it is written down before it is asked for, and from then on it is only looked for, by
its labels; one that is nowhere after some minutes counts as never started, and its runs go to a new job with labels of
its own.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rankviz.engines.hf_jobs import code
from rankviz.engines.hf_jobs.hub import IN, OUT, Hub
from rankviz.engines.hf_jobs.papers import Papers
from rankviz.errors import EngineError

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
        self._stopped = False
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

    def stop(self) -> bool:
        """From now on it is not asked for. Whether it never was."""
        with self._lock:
            self._stopped = True
            return not self.rented.is_asked

    def note(self, **news: Any) -> None:
        """Write down what is new of `rented`."""
        with self._lock:
            self.rented = replace(self.rented, **news)
            if self._folder.is_dir():
                self._papers.write(self._folder, self.rented)

    def step(self) -> None:
        """One try; `rented` has the job's id once it is known. EngineUnavailableError: try again later."""
        if self.rented.is_asked:
            self._look()
            return
        try:
            self._send()
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

    def _ask(self) -> None:
        with self._lock:
            if self._stopped:
                return
            self.note(is_asked=True)
        try:
            seen = self._hub.run(
                image=self._image,
                command=code.command(
                    f"{IN}/{code.archive()[0]}", f"{IN}/{self._folder.name}", f"{OUT}/{self._folder.name}", self._worker
                ),
                flavor=self.rented.flavor,
                timeout=self.rented.timeout_seconds,
                labels={**self._labels, "name": f"rankviz-{self.rented.sweep_id}"[:100]},
            )
            self.note(job_id=seen.id)
        finally:
            self._answered.set()

    def _look(self) -> None:
        jobs = self._hub.find(self._labels)
        for twin in jobs[:-1]:
            if not twin.ended:
                self._hub.cancel(twin.id)
        if jobs:
            self.note(job_id=jobs[-1].id)
        elif self._nowhere_since is None:
            self._nowhere_since = time.monotonic()
        else:
            self.absent = time.monotonic() - self._nowhere_since >= self._look_seconds

    @property
    def _labels(self) -> Mapping[str, str]:
        return self._papers.labels(self._folder)
