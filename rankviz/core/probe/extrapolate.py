"""From probes at small depths to a model of any depth: a straight line each, and the highest of them.

    peak(d)  = intercept + slope · d;  on a GPU the highest of such lines, one for each moment of a step
    step(d)  = intercept + slope · d

The lines are least squares over the depths measured; with two depths they go through both. The slope is what a block
takes, the intercept what there is once: embeddings, head, logits, the process. On a GPU forward, backward and
optimizer have a line each, because another of them may rule the peak of a deep model than that of a shallow one. On a
CPU the step as a whole has one: the resident set of a moment holds what malloc kept of the one before, or gave back,
which is not in proportion to depth (read apart, moments were up to 22 % off where the whole was 2 %). Left out: what
doesn't add up block by block, such as fragmentation, and caches that a small model fits into. Hand-worked in
tests/core/probe/test_extrapolate.py; compared with full depth in assets/validation/cpu_probes.csv.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rankviz.core.runs.events import DepthMeasured


@dataclass(frozen=True, slots=True)
class DepthLine:
    """intercept + slope · depth."""

    intercept: float
    slope: float

    def at(self, depth: float) -> float:
        return self.intercept + self.slope * depth


@dataclass(frozen=True, kw_only=True, slots=True)
class Extrapolation:
    """A model of `depth` blocks, from shallower ones."""

    depth: int
    peak_bytes: float
    """Above the process's baseline."""
    moment: str
    """Which moment of the step holds most at this depth: forward, backward, optimizer, or "step" on a CPU."""
    peak: DepthLine
    """Of that moment: bytes once, and bytes a block."""
    load_peak_bytes: float
    """While the base is loaded, above the baseline."""
    step_seconds: float
    step: DepthLine
    step_noise_seconds: float
    """What the spread of the timed steps makes of step_seconds: each depth's, weighed as the line weighs it."""
    trainable_parameters: int
    total_parameters: int


def extrapolate(measured: Sequence[DepthMeasured], depth: int) -> Extrapolation | None:
    """None where fewer than two depths were measured."""
    depths = [each.depth for each in measured]
    if len(set(depths)) < 2:
        return None
    names = [name for name in measured[0].moments if all(name in each.moments for each in measured)]
    if names and all(each.counts_exactly for each in measured):
        moments = {name: fit(depths, [each.moments[name] for each in measured]) for name in names}
    else:
        moments = {"step": fit(depths, [each.peak_bytes for each in measured])}
    moment = max(moments, key=lambda name: moments[name].at(depth))
    step = fit(depths, [each.step_seconds for each in measured])
    shares = _weights(depths, depth)
    noise = sum((w * each.step_noise_seconds) ** 2 for w, each in zip(shares, measured, strict=True)) ** 0.5
    return Extrapolation(
        depth=depth,
        peak_bytes=moments[moment].at(depth),
        moment=moment,
        peak=moments[moment],
        load_peak_bytes=fit(depths, [each.load_peak_bytes for each in measured]).at(depth),
        step_seconds=step.at(depth),
        step=step,
        step_noise_seconds=noise,
        trainable_parameters=round(fit(depths, [each.trainable_parameters for each in measured]).at(depth)),
        total_parameters=round(fit(depths, [each.total_parameters for each in measured]).at(depth)),
    )


def fit(depths: Sequence[float], values: Sequence[float]) -> DepthLine:
    """Least squares; at least two different depths."""
    mean_depth, mean = sum(depths) / len(depths), sum(values) / len(values)
    spread = sum((d - mean_depth) ** 2 for d in depths)
    slope = sum((d - mean_depth) * (v - mean) for d, v in zip(depths, values, strict=True)) / spread
    return DepthLine(mean - slope * mean_depth, slope)


def _weights(depths: Sequence[float], depth: float) -> list[float]:
    """How much each measured value counts in the line's value at `depth`."""
    n, mean = len(depths), sum(depths) / len(depths)
    spread = sum((d - mean) ** 2 for d in depths)
    return [1 / n + (depth - mean) * (d - mean) / spread for d in depths]
