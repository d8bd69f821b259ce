"""Gets one job going and follows it in a thread of its own, since every call may take minutes: its log, its bucket, its
stage."""

import contextlib
import logging
import threading
import time
from pathlib import Path

from rankviz.engines.hf_jobs.answers import DELETED, Seen
from rankviz.engines.hf_jobs.following import lines
from rankviz.engines.hf_jobs.following.log import Log
from rankviz.engines.hf_jobs.following.mirror import Mirror
from rankviz.engines.hf_jobs.hub import Hub
from rankviz.engines.hf_jobs.renting import LOOK_SECONDS, Renting
from rankviz.engines.hf_jobs.spending import Span, span_since
from rankviz.errors import EngineDeclinedError, EngineError, EngineUnavailableError, redacted

LATE_LOOKS = 5
"""After a job has ended, its bucket is looked at so often for files that its journals name."""
NOTED_SECONDS = 10.0
"""How often is written down what is billed of a job that runs, for other processes and later ones."""
SEEN_SECONDS = 30.0
"""While its log is followed, a job is looked at no sooner: its log does not say what is billed. One that has ended and
whose log has said nothing for so long says nothing more, also where its log stays open."""
BUCKET_SECONDS = 10.0
"""While a job writes, its bucket is read no sooner than so long after the last time."""
PAUSE_SECONDS = 30.0
"""After an error that nobody expected, it is tried again no sooner."""
DECLINED_SECONDS = 60.0
"""While Hugging Face declines, as where it is asked too often, it is asked half as often each time, down to this."""
ENDING_SECONDS = 60.0
"""Hugging Face has ended a job by then. One that still runs was not ended by RankViz."""
UNKNOWN = (
    "Hugging Face does not know its job just now. RankViz goes on asking; a job that stays unknown for some minutes "
    "counts as deleted."
)
LEFT = "Its login has ended, or another one has taken its place."
UNEXPECTED = "RankViz could not follow it, because of an error of its own ({}). It tries again."
_logger = logging.getLogger(__name__)


class Watch:
    """Of one job.

    Args:
        folder: Of the bucket.
        look_seconds: A job that Hugging Face does not know for so long counts as deleted.
    """

    def __init__(
        self,
        hub: Hub,
        renting: Renting,
        mirror: Mirror,
        *,
        folder: str,
        poll_seconds: float,
        look_seconds: float = LOOK_SECONDS,
    ):
        self.hub = hub
        self.renting = renting
        self.seen: Seen | None = None
        self.exit_code: int | None = None
        self.last_words = ""
        """The last line of its log that is no journal's."""
        self.trouble = ""
        """Why it cannot be followed now, as a sentence."""
        self.is_foreign = False
        """Whether its owner is logged in with another account."""
        self.done = False
        """Whether it has ended, and what there is of it is here."""
        self._mirror, self._folder = mirror, folder
        self._poll_seconds, self._look_seconds = poll_seconds, look_seconds
        self._unknown_since: float | None = None
        self._ending_at = time.monotonic()
        """When it was last known that RankViz may have asked Hugging Face to end it."""
        self._bucket_at = -BUCKET_SECONDS
        rented = renting.rented
        self._billed = rented.billed_seconds
        """When it was last described with them."""
        self._billed_at = time.monotonic() - max(0.0, time.time() - rented.billed_at)
        self._noted_at = -NOTED_SECONDS
        self._is_billed = False
        """Whether that is all."""
        self._ended_at: float | None = None
        self._looks = 0
        self._log: Log | None = None
        self._log_is_read = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name=f"rankviz-job-{folder}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """It asks for nothing any more, closes the log and ends; nobody waits for that."""
        self._stopped.set()
        if self._log is not None:
            self._log.close()
        self._mirror.close()
        self.renting.stop()

    def join(self) -> None:
        """Return when its thread has ended."""
        self._thread.join()

    @property
    def job_id(self) -> str:
        """Empty as long as it is not known."""
        return self.renting.rented.job_id

    @property
    def lives(self) -> bool:
        return self._thread.is_alive() and not self._stopped.is_set()

    @property
    def has_ended(self) -> bool:
        """Whether the job has, as far as is known; what it left may still be on its way."""
        return self._ended_at is not None

    @property
    def holds_back(self) -> bool:
        """Whether runs have completed whose files are not here yet, and may still come."""
        return self._mirror.waits and not self.done

    def wait(self, seconds: float) -> bool:
        """False once it was stopped."""
        return not self._stopped.wait(seconds)

    def note_ending(self) -> None:
        """Before Hugging Face is asked to end the job: how it ends is told by it. EngineUnavailableError where this
        login has ended."""
        self._ending_at = time.monotonic()
        with contextlib.suppress(OSError):  # a full disk keeps no job going
            self.renting.note(is_ending=True)
        if self._stopped.is_set():
            raise EngineUnavailableError(LEFT)

    def see(self, seen: Seen) -> None:
        """The job was described so, just now. EngineUnavailableError where it is not known, and was known not long ago:
        it may still run."""
        now = time.monotonic()
        if seen.stage != DELETED:
            self._unknown_since = None
        elif self._unknown_since is None:
            self._unknown_since = now
        if self._unknown_since is not None and now - self._unknown_since < self._look_seconds:
            raise EngineUnavailableError(UNKNOWN)
        news = {}
        if not seen.ended and self.renting.rented.is_ending and now - self._ending_at > ENDING_SECONDS:
            news["is_ending"] = False
        if seen.seconds is not None:
            self._billed, self._billed_at = max(self._billed or 0.0, seen.seconds), now
            self._is_billed = seen.ended
            if seen.ended or now - self._noted_at >= NOTED_SECONDS:
                self._noted_at = now
                news |= {"billed_seconds": self._billed, "billed_at": time.time()}
        self.seen, self._ended_at = seen, (self._ended_at or now) if seen.ended else None
        if news:
            self.renting.note(**news)

    @property
    def span(self) -> Span:
        """What is billed of it so far. Its log is followed for minutes without a new description: it counts as running
        meanwhile. One that has ended without its times, as a deleted one, ran until then at most."""
        rented = self.renting.rented
        if self._billed is None or not rented.is_asked:
            return rented.span
        if self._is_billed:
            return Span(self._billed, self._billed)
        since = (self._ended_at or time.monotonic()) - self._billed_at
        most = span_since(self._billed, since, rented.timeout_seconds).most
        is_followed = self.seen is not None and not self.trouble and not self.has_ended
        return Span(most if is_followed else self._billed, most)

    def refresh(self) -> None:
        """Read what is new now. EngineUnavailableError where that cannot be."""
        self.see(self.hub.job(self.job_id))
        self._read_bucket(final=False)

    def _loop(self) -> None:
        declined_pause = 0.0
        while not self._stopped.is_set() and not (self.done or self.is_foreign or self.renting.is_over):
            pause = self._poll_seconds
            try:
                self._look()
                self.trouble, declined_pause = "", 0.0
            except EngineDeclinedError as error:
                self.trouble = str(error)
                declined_pause = min(2 * declined_pause or pause, DECLINED_SECONDS)
                pause = max(pause, declined_pause)
            except (EngineUnavailableError, EngineError) as error:
                self.trouble = str(error)
            except Exception as error:
                if self._stopped.is_set():  # its folder may have gone meanwhile
                    return
                _logger.exception("A job on Hugging Face could not be followed")
                self.trouble, pause = UNEXPECTED.format(type(error).__name__), max(pause, PAUSE_SECONDS)
            if self.hub.rejected:
                return
            self._stopped.wait(pause)

    def _look(self) -> None:
        if self.hub.name != self.renting.rented.account:
            self.is_foreign = True
            return
        if not self.job_id:
            self.renting.step()
        if not self.job_id:
            return
        self.see(self.hub.job(self.job_id))
        if self.seen.waits:
            return
        if not self._log_is_read and self.seen.stage != DELETED:  # it has no log any more
            over = self.seen.ended
            with contextlib.suppress(EngineError, EngineUnavailableError):  # the bucket has it too; it is tried again
                is_read = self._follow_log()
                self._log_is_read = over or is_read or self.exit_code is not None
            if self._stopped.is_set():
                return
            self.see(self.hub.job(self.job_id))
        if self.seen.ended:
            self._take_rest()
        else:
            self._read_bucket(final=False)

    def _follow_log(self) -> bool:
        """Whether no more of it is to be read: it says nothing more, or is too long, and the bucket has the rest."""
        self._log = log = self.hub.log(self.job_id)
        if self._stopped.is_set():  # before there was anything to close
            return False
        self.trouble, seen_at = "", time.monotonic()  # the log may go on for hours
        spoke_at = seen_at
        for line in self.hub.lines(log):
            if self._stopped.is_set():
                break
            read = lines.read(line)
            if isinstance(read, lines.Piece):
                if self._mirror.take(read):
                    self._mirror.release(final=False)
            elif read is not None:
                self.exit_code = read
            elif line.strip():
                self.last_words = redacted(line.strip())[:300]
            spoke_at = time.monotonic() if line else spoke_at
            if self._mirror.waits:
                self._read_bucket(final=False, patient=True)
            if time.monotonic() - seen_at >= SEEN_SECONDS:
                seen_at = time.monotonic()
                is_silent = seen_at - spoke_at >= SEEN_SECONDS
                with contextlib.suppress(EngineError, EngineUnavailableError):  # its log goes on
                    self.see(self.hub.job(self.job_id))
                    if self.has_ended and is_silent:
                        return True
                    if is_silent:
                        self._read_bucket(final=False)
        return log.is_cut

    def _read_bucket(self, *, final: bool, patient: bool = False) -> None:
        if patient and time.monotonic() - self._bucket_at < min(BUCKET_SECONDS, self._poll_seconds):
            return
        self._mirror.fill(lambda path, offset: self.hub.read(f"{self._folder}/{path}", offset), final=final)
        if final or not self._mirror.release(final=False):
            files = self.hub.files(self._folder)
            self._mirror.bring(files, self._fetch, logs=final)
        self._mirror.release(final=False)
        self._bucket_at = time.monotonic()

    def _fetch(self, path: str, target: Path, offset: int, most: int) -> None:
        self.hub.fetch(f"{self._folder}/{path}", target, offset, most)

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


def unsend(hub: Hub, folder: str, watch: Watch | None) -> None:
    """Remove in a thread what was sent of a job and has been read, or is not needed; the repository's history has it
    still."""

    def remove() -> None:
        if watch is not None:
            watch.join()  # or it would be sent afterwards
        with contextlib.suppress(EngineError, EngineUnavailableError):
            hub.unsend(folder)

    threading.Thread(target=remove, daemon=True).start()
