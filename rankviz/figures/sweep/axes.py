"""The costs and qualities that a run can be plotted by."""

from collections.abc import Callable
from typing import NamedTuple

from rankviz import units
from rankviz.core.runs.metric import EXACT_MATCH, LOSS, TOKEN_ACCURACY, Metric
from rankviz.core.runs.record import RunRecord


class CostAxis(NamedTuple):
    """A cost of one run. unit: one step of the axis, so that its ticks are short numbers."""

    label: str
    title: str
    value: Callable[[RunRecord], float | None]
    text: Callable[[float], str]
    unit: int = 1
    per_rank: bool = False
    """Grows in proportion to rank: the axis is logarithmic, and a rank that was not run has its place too."""


def _peak(run: RunRecord) -> float | None:
    return run.completed.peak_memory_bytes if run.completed else None


def _seconds(run: RunRecord) -> float | None:
    return run.completed.train_seconds if run.completed else None


COST_AXES = {
    "adapter": CostAxis(
        "Adapter file", "adapter file, MB", lambda run: run.adapter_bytes, units.file_size, units.MB, per_rank=True
    ),
    "parameters": CostAxis(
        "Trainable parameters",
        "trainable parameters, millions",
        lambda run: run.trainable_parameters,
        lambda n: f"{n:,.0f} parameters",
        unit=10**6,
        per_rank=True,
    ),
    "memory": CostAxis("Peak memory", "peak memory, GiB", _peak, units.memory_size, unit=units.GIB),
    "time": CostAxis("Training time", "training time, seconds", _seconds, units.duration),
    "money": CostAxis("Money", "cost, US dollars", _seconds, units.usd),
}
"""Of "money" the value is seconds; whoever plots it multiplies by the price."""


class QualityAxis(NamedTuple):
    """A quality of one run. sign: -1 where higher is better, since the core's rule is that lower is better.
    metric: what its verdict is in."""

    label: str
    title: str
    value: Callable[[RunRecord], float | None]
    column: str
    metric: Metric = LOSS
    sign: int = 1


def _of_metric(metric: Metric, column: str) -> QualityAxis:
    return QualityAxis(
        metric.label,
        metric.title,
        lambda run: metric.of(run.loss_after),
        column,
        metric,
        sign=-1 if metric.higher_is_better else 1,
    )


QUALITY_AXES = {
    "loss": _of_metric(LOSS, "held_out_loss"),
    "gain": QualityAxis(
        "Gain over the base",
        "gain over the base, nats per token (higher is better)",
        lambda run: run.gain,
        "gain",
        sign=-1,
    ),
    "token_accuracy": _of_metric(TOKEN_ACCURACY, "token_accuracy_percent"),
    "exact_match": _of_metric(EXACT_MATCH, "exact_match_percent"),
}
