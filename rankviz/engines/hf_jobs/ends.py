"""How a job ended, from its stage, its message and the last lines of its log."""

import signal

from rankviz.engines.engine import End
from rankviz.engines.hf_jobs.answers import DELETED, Seen
from rankviz.engines.hf_jobs.papers import Rented
from rankviz.engines.process import describe_exit

CANCELLED = "The job was cancelled."
RESUME = "Resume the sweep to start what is left."
CANCELLED_THERE = "Its job was cancelled on Hugging Face. Resume the sweep to start it again."


def end_of(seen: Seen, exit_code: int | None, last_words: str, rented: Rented) -> End:
    """exit_code: of the worker, where the log says it; last_words: its last line that is no journal's. What came back
    to an emptied runs folder is not tried again by itself: how often it was tried is not known here. RankViz may have
    wanted to end a job that then ended in another way: one that is lost may have ended by that."""
    if rented.is_ending and (seen.stage in ("CANCELED", DELETED) or exit_code == -signal.SIGTERM):
        return End(why=CANCELLED, by_us=True)
    end = _end_of(seen, exit_code, last_words, rented)
    if rented.has_returned and not (rented.is_ending and end.lost):
        return end._replace(lost=False, is_final=True, why=f"{end.why} {RESUME}")
    return end


def _end_of(seen: Seen, exit_code: int | None, last_words: str, rented: Rented) -> End:
    """Hugging Face may end a worker by a signal, which its exit code then says: why comes first."""
    if seen.stage == "CANCELED":
        return End(why=CANCELLED_THERE, is_final=True)
    words, had_failed = seen.message.lower(), exit_code is not None and exit_code >= 0
    is_over = (seen.running_seconds or 0.0) >= rented.timeout_seconds and not had_failed
    if "timeout" in words or "timed out" in words or is_over:
        return End(
            why=(
                f"Hugging Face ended the job for its time limit ({rented.timeout_seconds / 60:.0f} minutes, which the "
                "spending limit pays for). Resume the sweep with a higher limit or a faster machine."
            ),
            is_final=True,
        )
    if exit_code is not None:
        return End(exit_code, lost=exit_code < 0, why=describe_exit(exit_code))
    said = ". ".join(each.rstrip(".") for each in (seen.message, last_words) if each)
    why = f"The job ended on Hugging Face before its runs did ({seen.stage.lower()})."
    return End(lost=True, why=f"{why} {said}." if said else why)
