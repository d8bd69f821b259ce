"""What a server allows of one run, sweep or probe. Each refusal names the limit, what was asked, and what to change.

Limits of how much a visitor may have are not here, since they depend on what is there already (api.visitors.quota).
"""

from collections.abc import Sequence
from typing import Protocol

from rankviz import units
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.runs.request import RunRequest
from rankviz.errors import LimitError

SHORTER = (
    "Use fewer steps, less gradient accumulation, fewer held-out examples, a smaller batch, a shorter length or a "
    "smaller base."
)
"""What makes a run take less time."""

BYTES_PER_PARAMETER = 6
"""A checkpoint with more than this is no model of that many parameters: fp32 has 4, and some is left over."""


class RunLimits(Protocol):
    """None is no limit."""

    runs_per_sweep: int
    truncations: int | None
    steps: int
    rank: int
    tokens_per_batch: int | None
    held_out_tokens: int | None
    base_parameters: int | None
    run_minutes: int | None


def check_count(runs: int, limits: RunLimits) -> None:
    """LimitError where a sweep has more runs than the server allows."""
    _most(runs, limits, "runs_per_sweep", "runs per sweep", "Use fewer ranks, learning rates or seeds.")


def check_sweep(runs: Sequence[RunRequest], limits: RunLimits) -> None:
    """LimitError where a sweep of these runs is more than the server allows."""
    check_count(len(runs), limits)
    for run in runs:
        check_run(run, limits)


def check_run(run: RunRequest, limits: RunLimits) -> None:
    """LimitError where one run is more than the server allows; of its base check_base knows."""
    check_step(run.r, run.training, limits)
    _most(len(run.cut_ranks), limits, "truncations", "lower ranks to truncate to", "Choose fewer ranks.")
    _most(run.max_steps, limits, "steps", "steps per run", "Choose fewer steps.")
    tokens = run.held_out_examples * run.training.max_length
    advice = "Choose fewer held-out examples or a shorter length."
    _most(tokens, limits, "held_out_tokens", "held-out tokens (held-out examples × maximum length)", advice)


def check_step(r: int, training: TrainingSetup, limits: RunLimits) -> None:
    """LimitError where a step of a run or a probe is more than the server allows."""
    _most(r, limits, "rank", "as the rank", "Choose a lower rank.")
    advice = "Choose a smaller batch or a shorter length."
    tokens, what = training.tokens_per_micro_step, "tokens per batch (batch size × maximum length)"
    _most(tokens, limits, "tokens_per_batch", what, advice)


def check_base(parameters: int, limits: RunLimits) -> None:
    """LimitError where the base model has too many parameters."""
    _most(parameters, limits, "base_parameters", "parameters of the base model", "Choose a smaller base.")


def most_download_bytes(limits: RunLimits) -> int | None:
    """What the files of a base may have: its config may say less than they hold."""
    return None if limits.base_parameters is None else limits.base_parameters * BYTES_PER_PARAMETER


def check_download(weight_bytes: int | None, limits: RunLimits) -> None:
    """LimitError where the files of a base are more, or nobody knows how large they are."""
    most = most_download_bytes(limits)
    if most is None or (weight_bytes is not None and weight_bytes <= most):
        return
    is_known = weight_bytes is not None
    takes = f"take {units.file_size(weight_bytes)}" if is_known else "may take anything: the Hub does not say how much"
    raise LimitError(
        f"The weights of this base {takes}, and this server allows at most {limits.base_parameters:,} parameters of "
        f"the base model. Choose {'a smaller base' if is_known else 'a base of the catalogue, or try again later'}.",
        "base_parameters",
    )


def check_minutes(seconds: float, limits: RunLimits) -> None:
    """LimitError where a run takes so long at least, and is ended before."""
    if (minutes := limits.run_minutes) is not None and seconds > 60 * minutes:
        raise LimitError(
            f"This server allows at most {units.counted(minutes, 'minute')} per run, and one of these takes at least "
            f"{units.duration(seconds)} by the estimate. {SHORTER}",
            "run_minutes",
        )


def _most(value: int, limits: RunLimits, name: str, what: str, advice: str) -> None:
    limit = getattr(limits, name)
    if limit is not None and value > limit:
        raise LimitError(f"This server allows at most {limit:,} {what} (got {value:,}). {advice}", name)
