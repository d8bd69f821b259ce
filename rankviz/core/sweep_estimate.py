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
    """The base is loaded once; the held-out rows are read once before all runs and again after each.

    training: seconds of each run's training, as estimate_run gives; None where one isn't known.
    """
    known = [seconds for seconds in training if seconds is not None]
    if len(known) < len(runs):
        return None
    first = runs[0]
    rows = first.max_steps * first.per_device_train_batch_size * first.gradient_accumulation_steps
    evaluations = EVALUATION_SHARE * first.held_out_examples / rows * (len(runs) + 1) / len(runs)
    stack = Stack(framework="unsloth", setup=TrainingSetup(), use_dora=False, assume=assumptions)
    total = load_seconds(model, stack)
    for seconds in known:
        total = total.plus(seconds.times(1 + evaluations))
    return total
