"""Follows one job in a thread of its own, since every call may take seconds: its log, its bucket, its stage."""

import threading
import time
from collections.abc import Callable, Mapping

from rankviz.engines.hf_jobs import lines
from rankviz.engines.hf_jobs.hub import DELETED, Hub, Seen
from rankviz.engines.hf_jobs.mirror import Mirror
from rankviz.errors import EngineError, EngineUnavailableError

LATE_LOOKS = 5
"""After a job has ended, its bucket is looked at so often for files that its journals name."""
BUCKET_SECONDS = 10.0
"""While a job writes, its bucket is read no sooner than so long after the last time."""


class Watch:
    """Of one job.

    Args:
        job_id: Empty where it is not known whether the job was started; then it is looked for by its labels.
        folder: Of the bucket.
    """

    def __init__(
        self,
        hub: Hub,
        job_id: str,
        mirror: Mirror,
        *,
        folder: str,
        labels: Mapping[str, str],
        found: Callable[[str], None],
        poll_seconds: float,
    ):
        self.hub = hub
        self.job_id = job_id
        self.seen: Seen | None = None
        self.exit_code: int | None = None
        self.last_words = ""
        """The last line of its log that is no journal's."""
        self.trouble = ""
        """Why it cannot be followed now, as a sentence."""
        self.absent = False
        """Whether no such job was ever started."""
        self.done = False
        """Whether it has ended, and what there is of it is here."""
        self._mirror, self._folder, self._labels = mirror, folder, labels
        self._found = found
        self._poll_seconds = poll_seconds
        self._bucket_at = -BUCKET_SECONDS
        self._seen_at = 0.0
        self._billed = 0.0
        self._looks = 0
        self._log_is_read = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name=f"rankviz-job-{folder}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """It ends at the next line or look; nobody waits for that."""
        self._stopped.set()

    @property
    def lives(self) -> bool:
        return self._thread.is_alive() and not self._stopped.is_set()

    def see(self, seen: Seen) -> None:
        """The job was described so, just now. One that was deleted has no times any more: those before it stay."""
        self.seen, self._seen_at = seen, time.monotonic()
        self._billed = max(self._billed, seen.seconds)

    @property
    def seconds(self) -> float | None:
        """What is billed of it so far, at most: its log is followed for minutes without a new description. None while
        it cannot be read."""
        if self.seen is None or (self.trouble and not self.seen.ended):
            return None
        return self._billed + (0.0 if self.seen.ended else time.monotonic() - self._seen_at)

    def refresh(self) -> None:
        """Read what is new now. EngineUnavailableError where that cannot be."""
        self.see(self.hub.job(self.job_id))
        self._read_bucket(final=False)

    def _loop(self) -> None:
        while not self._stopped.is_set() and not (self.done or self.absent):
            try:
                self._look()
                self.trouble = ""
            except (EngineUnavailableError, EngineError) as error:
                self.trouble = str(error)
            if self.hub.rejected:
                return
            self._stopped.wait(self._poll_seconds)

    def _look(self) -> None:
        if not self.job_id:
            jobs = self.hub.find(self._labels)
            if not jobs:
                self.absent = True
                return
            self.job_id = jobs[-1].id
            self._found(self.job_id)
        self.see(self.hub.job(self.job_id))
        if self.seen.waits:
            return
        if not self._log_is_read and self.seen.stage != DELETED:  # it has no log any more
            over = self.seen.ended
            self._follow_log()
            if self._stopped.is_set():
                return
            self._log_is_read = over or self.exit_code is not None
            self.see(self.hub.job(self.job_id))
        if self.seen.ended:
            self._take_rest()
        else:
            self._read_bucket(final=False)

    def _follow_log(self) -> None:
        for line in self.hub.logs(self.job_id):
            if self._stopped.is_set():
                return
            read = lines.read(line)
            if isinstance(read, lines.Piece):
                self._mirror.take(read)
            elif read is not None:
                self.exit_code = read
            elif line.strip():
                self.last_words = line.strip()[:300]
            if not self._mirror.release(final=False) or self._mirror.has_gap:
                self._read_bucket(final=False, patient=True)

    def _read_bucket(self, *, final: bool, patient: bool = False) -> None:
        if patient and time.monotonic() - self._bucket_at < min(BUCKET_SECONDS, self._poll_seconds):
            return
        self._mirror.fill(lambda path, offset: self.hub.read(f"{self._folder}/{path}", offset), final=final)
        if final or not self._mirror.release(final=False):
            files = self.hub.files(self._folder)
            self._mirror.bring(files, lambda path, target: self.hub.fetch(f"{self._folder}/{path}", target), logs=final)
        self._mirror.release(final=False)
        self._bucket_at = time.monotonic()

    def _take_rest(self) -> None:
        """Of a job that has ended. Files may become visible a little later."""
        last = self._looks + 1 >= LATE_LOOKS
        try:
            self._read_bucket(final=True)
        except EngineError:
            if not last:
                self._looks += 1
                raise
        self._looks += 1
        if last:
            self._mirror.bridge()
        if self._mirror.release(final=last) and (last or self._mirror.is_complete):
            self.done = True
