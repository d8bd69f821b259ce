"""What Slurm's words for states and reasons mean."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rankviz.core.bounds import printable
from rankviz.core.runs.events import DISK_FULL, GPU_LOST
from rankviz.engines import process
from rankviz.engines.engine import End
from rankviz.machine import disk


class Seen(NamedTuple):
    """One job, as Slurm describes it."""

    id: str
    states: frozenset[str]
    """One, and flags such as COMPLETING beside it."""
    reason: str = ""
    nodes: str = ""


CANCELLED = "The job was cancelled."
GONE = "Slurm does not know the job any more, and its worker left no exit code."
NOT_YET_GONE = "COMPLETING"
"""Processes of it may be left."""
OTHERS = {
    "NODE_FAIL": (True, "The node failed in the middle of the job."),
    "PREEMPTED": (True, "Slurm gave the node to a job that goes first."),
    "BOOT_FAIL": (True, "The node did not boot."),
    "TIMEOUT": (
        False,
        "The job reached its time limit in Slurm. Use fewer steps. A longer limit is --time in RANKVIZ_SLURM_OPTIONS.",
    ),
    "DEADLINE": (False, "The job reached its deadline in Slurm."),
    "OUT_OF_MEMORY": (
        False,
        "The job used more memory than it had asked Slurm for. Use a smaller batch or a shorter length. More memory is "
        "--mem in RANKVIZ_SLURM_OPTIONS.",
    ),
    "CANCELLED": (False, "The job was cancelled in Slurm."),
}
"""By the state of a job that another than its worker ended: whether that is lost, and a sentence. Memory that a job
asked for is a limit of the run, so a second attempt would end the same way."""
ENDED = frozenset({"COMPLETED", "FAILED", *OTHERS})
"""With any other state, also one that is not known here, a job may go on."""
REASONS = {
    "": "Slurm has not said yet when the job may start.",
    "None": "Slurm has not said yet when the job may start.",
    "Priority": "Other jobs of the cluster go first.",
    "Resources": "No node is free.",
    "ReqNodeNotAvail": "A node that the job asks for is down, drained or reserved.",
    "Dependency": "The job waits for another job of the cluster.",
    "BeginTime": "The job may not start yet (--begin).",
    "JobHeldUser": "The job is held. `scontrol release` lets it start.",
    "JobHeldAdmin": "An administrator of the cluster holds the job.",
    "Licenses": "No licence is free.",
    "PartitionDown": "The partition is down.",
    "PartitionInactive": "The partition is inactive.",
    "PartitionTimeLimit": (
        "The job asks for more time than its partition allows. Set a shorter --time in RANKVIZ_SLURM_OPTIONS."
    ),
    "PartitionNodeLimit": "The partition has too few nodes for the job.",
    "BadConstraints": "No node has what the job asks for.",
    "Reservation": "The job waits for its reservation.",
    "NodeDown": "A node that the job asks for is down.",
}
"""By the reason of a job that waits."""
LIMITS = ("QOS", "Assoc")
"""How a reason begins that names a limit, of which Slurm has dozens."""
LIMIT = (
    "Jobs of this user, account or QOS are at a limit of the cluster ({}). The job starts once some of them have "
    "ended. If it asks for more than the limit, ask for less in RANKVIZ_SLURM_OPTIONS."
)
UNKNOWN_REASON = (
    "The cluster has a limit or a condition that holds the job: {}. Ask its administrators. Other options are set in "
    "RANKVIZ_SLURM_OPTIONS."
)


def read_jobs(text: str, user: int) -> Mapping[str, Seen]:
    """A user's jobs that `squeue --json` printed, by name; of several with one name, one that has not ended, or the
    newest. ValueError: it printed something else."""
    try:
        jobs = [(str(row["name"]), _seen(row)) for row in json.loads(text)["jobs"] if _number(row["user_id"]) == user]
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"no list of jobs: {error!r}") from None
    return dict(sorted(jobs, key=lambda job: (not job[1].states & ENDED, int(job[1].id))))


def states_of(words: str | Sequence[str]) -> frozenset[str]:
    """Of a text, as older versions print it, sacct's "CANCELLED by 1000" among them; or of a list of texts."""
    return frozenset([words.split(" ")[0]] if isinstance(words, str) else map(str, words))


def on_one_line(text: Any) -> str:
    """What Slurm says of a node or a reason, as a journal takes it."""
    return printable(" ".join(str(text or "").split()), 200)


def waits_of(seen: Seen) -> str:
    """Why a job has not begun, or does not go on, as a sentence; empty while it runs."""
    if "PENDING" in seen.states or "CONFIGURING" in seen.states:
        if "CONFIGURING" in seen.states:
            return "The node is being made ready."
        reason, _, more = seen.reason.partition(",")
        otherwise = LIMIT if reason.startswith(LIMITS) else UNKNOWN_REASON
        sentence = REASONS.get(reason, otherwise.format(seen.reason))
        return printable(f"{sentence} ({seen.reason})" if more else sentence, 300)
    if seen.states & {"SUSPENDED", "STOPPED"}:
        return "Slurm has suspended the job."
    return ""


def is_ending(seen: Seen) -> bool:
    """Whether it has ended, or was told to."""
    return bool(seen.states & {*ENDED, NOT_YET_GONE})


def end_of(seen: Seen, exit_code: int | None, *, yields: bool) -> End | None:
    """How a job ended; None while it may have processes.

    Args:
        exit_code: Of its worker, negative where a signal ended it; None where that is not known.
        yields: Whether it was asked to end between two runs.
    """
    if not seen.states & ENDED:
        return None
    for state, (lost, why) in OTHERS.items():
        if state in seen.states:
            # A node that has failed cannot say that its processes are gone; what they write counts no more.
            gone = NOT_YET_GONE not in seen.states or state == "NODE_FAIL"
            return End(exit_code, lost=lost, why=why) if gone else None
    if NOT_YET_GONE in seen.states:
        return None
    return end_by(exit_code, yields=yields) or End(
        lost=True,
        why=printable(
            f"The job ended in Slurm before its worker did: {_words(seen)}. Do the nodes see the runs folder under the "
            "same path?",
            300,
        ),
    )


def end_by(exit_code: int | None, *, yields: bool) -> End | None:
    """How a job ended, by the exit code of its worker alone."""
    if exit_code is None:
        return None
    return End(
        exit_code,
        lost=exit_code < 0 or exit_code == GPU_LOST,
        why=disk.FULL_SENTENCE if exit_code == DISK_FULL else process.describe_exit(exit_code),
        gave_way=exit_code == 0 and yields,
    )


def by_us(end: End, seen: Seen | None) -> End:
    """How a job ended that RankViz has asked Slurm to end: by that, unless it ended in another way. seen: None where
    Slurm does not list it any more."""
    was_cancelled = seen is not None and "CANCELLED" in seen.states
    return End(why=CANCELLED, by_us=True) if was_cancelled or end.lost else end


def _seen(row: Mapping[str, Any]) -> Seen:
    return Seen(
        id=str(_number(row["job_id"])),
        states=states_of(row["job_state"]),
        reason=on_one_line(row.get("state_reason")),
        nodes=on_one_line(row.get("nodes")),
    )


def _number(value: Any) -> int:
    """Newer versions print some numbers as {"set": true, "infinite": false, "number": 5}."""
    return int(value["number"] if isinstance(value, dict) else value)


def _words(seen: Seen) -> str:
    return ", ".join([*sorted(seen.states), *([seen.reason] if seen.reason not in ("", "None") else [])])
