"""How long a whole sweep takes: one load, all training, all evaluations."""

from collections.abc import Sequence

from rankviz.core.assumptions import Assumptions
from rankviz.core.duration import load_seconds
from rankviz.core.model import ModelSpec
from rankviz.core.ranges import Range
from rankviz.core.request import RunRequest
from rankviz.core.stack import Stack
from rankviz.core.training import TrainingSetup

EVALUATION_SHARE = 0.5
"""A forward pass over a row, in training steps a row, where nothing is recomputed: 2P of 4P operations."""


def sweep_seconds(
    model: ModelSpec, runs: Sequence[RunRequest], training: Sequence[Range | None], assumptions: Assumptions
) -> Range | None:
    """The base is loaded once; the held-out rows are read once before all runs, again after each, and after each cut
    of a fast curve, some of which are trained a few steps more.

    training: seconds of each run's training, as estimate_run gives; None where one isn't known.
    """
    known = [seconds for seconds in training if seconds is not None]
    if len(known) < len(runs):
        return None
    first = runs[0]
    rows = first.max_steps * first.per_device_train_batch_size * first.gradient_accumulation_steps
    evaluation = EVALUATION_SHARE * first.held_out_examples / rows
    before = evaluation / len(runs)
    stack = Stack(framework="unsloth", setup=TrainingSetup(), use_dora=False, assume=assumptions)
    total = load_seconds(model, stack)
    for run, seconds in zip(runs, known, strict=True):
        recovery = sum(run.recovery_steps(r) for r in run.cut_ranks) / run.max_steps
        total = total.plus(seconds.times(1 + before + evaluation * (1 + len(run.cut_ranks)) + recovery))
    return total
