"""One more run of a sweep that exists: at another rank, or a repeat of one; everything else as in a run that it is
compared with."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from rankviz.core.checks import whole
from rankviz.core.lora.config import MAX_RANK
from rankviz.core.runs.request import MAX_RUNS, RunRequest
from rankviz.errors import InvalidSettingError


def added_run(runs: Sequence[RunRequest], like: RunRequest, r: int, *, created_at: float) -> RunRequest:
    """A run at rank r for the sweep of `runs`, not truncated. like: the run whose base, data and settings it takes; its
    seed too, or the next where that rank has a run with it (a repeat).

    Alpha follows the sweep: the same for all ranks, or in proportion to rank. Where all runs have one rank it stays.
    """
    whole(r, "Rank", 1, MAX_RANK)
    if len(runs) >= MAX_RUNS:
        raise InvalidSettingError(f"A sweep has at most {MAX_RUNS} runs. Start a new one.")
    seeds = {run.seed for run in runs if (run.r, run.learning_rate) == (r, like.learning_rate)}
    existing = {run.run_id for run in runs}
    names = (f"{like.sweep_id}-{place:03d}-r{r}" for place in count(len(runs) + 1))
    request = replace(
        like,
        run_id=next(name for name in names if name not in existing),
        created_at=created_at,
        seed=max(seeds) + 1 if like.seed in seeds else like.seed,
        lora=replace(like.lora, r=r, lora_alpha=_alpha(runs, r)),
        cut_ranks=(),
    )
    request.validate()
    return request


def _alpha(runs: Sequence[RunRequest], r: int) -> float:
    fixed = {run.lora.lora_alpha for run in runs}
    if len(fixed) == 1:
        return fixed.pop()
    by_rank = {run.lora.lora_alpha / run.r for run in runs}
    if len(by_rank) == 1:
        return by_rank.pop() * r
    raise InvalidSettingError(
        "The runs of this sweep follow no common rule for alpha, so a run at another rank cannot be compared with "
        "them. Start a new sweep."
    )
