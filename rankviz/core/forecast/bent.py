"""The forecast bent by one's own runs: loss by rank between two or more measured ranks, in nats.

The curve of core.forecast.curve in closed form: for each bend and each noise of a run that come into question, the
limit and the gain given the measured losses are normal; the band is that mixture, weighted by how well each explains
the losses. The gain's prior is the published gain and many times wider than that, so that a task on which rank matters
far more than in any study still lies in the band.

A band is where one further run would land, its own noise included. Below the lowest and above the highest measured
rank nothing is forecast.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

from rankviz.core.forecast.bands import Bands
from rankviz.core.forecast.curve import GRID, left
from rankviz.errors import InvalidSettingError

ENOUGH_REPEATS = 4
"""Degrees of freedom from which a sweep's own repeats say how noisy a run is."""
WORTH_A_RUN = 2.0
"""A third run is offered where two differ by more than so many standard deviations of their difference."""
NEGLIGIBLE = 0.004
"""Parts of the mixture below this weight are left out."""
SQRT_2 = math.sqrt(2)
TOO_FEW = "A forecast from your runs needs finished runs at two ranks at least, such as r = 4 and r = 64"


class Shape(NamedTuple):
    """What is assumed of the curve and of the noise before a run is seen."""

    bends: tuple[float, ...] = (-0.2, 0.01, 0.2)
    """Straight in log r, and a little to either side of it; each counts the same."""
    gain_spread: float = 16.0
    """Standard deviation of the gain's prior, in published gains. Drawing the gain of short runs nearer to published
    ones made the forecasts of independent runs worse (docs/forecast.md)."""
    noise_factors: tuple[tuple[float, float], ...] = ((1.0, 0.5), (2.0, 0.3), (4.0, 0.2))
    """What the noise of a run may be, as a multiple of the assumed one where no repeats were measured, with weights."""


SHAPE = Shape()


class MeasuredRank(NamedTuple):
    """Mean held-out loss of the runs of one rank, nats. sd: spread between its runs; None of one run."""

    r: int
    loss: float
    sd: float | None = None
    runs: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class BentRank:
    """Where a run at this rank would land, nats."""

    r: int
    median: float
    low_50: float
    high_50: float
    low_80: float
    high_80: float
    measured: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class BentForecast:
    """Quality by rank from a sweep's own runs and published lines."""

    sweep_id: str
    metric: str
    unit: str
    runs: tuple[MeasuredRank, ...]
    ranks: tuple[BentRank, ...]
    coverage_80: float | None
    """Share of independent runs inside such 80 % bands, as `make forecast` counted it."""
    validated: bool
    third_run: int | None
    """A rank at which one more run would narrow the band; None where it would not."""
    sentences: tuple[str, ...]


def bent_forecast(
    sweep_id: str, runs: Sequence[MeasuredRank], gain_percent: float, bands: Bands, *, fixed_alpha: bool = True
) -> BentForecast:
    """The band of a sweep, with how such bands have held.

    Args:
        sweep_id: Whose runs these are.
        runs: Measured ranks, two at least.
        fixed_alpha: Whether every rank was trained with the same lora_alpha.
        gain_percent: The published median of the gain from r = 4 to r = 64, % of the loss.
        bands: From assets/forecast.json.
    """
    noise, known = _noise(runs, bands.run_noise_nats)
    gain = gain_percent / 100 * min(run.loss for run in runs)
    ranks = conditioned(runs, gain_nats=gain, noise_nats=noise, noise_known=known)
    third = third_run(runs, noise)
    return BentForecast(
        sweep_id=sweep_id,
        metric="loss",
        unit="nats",
        runs=tuple(runs),
        ranks=ranks,
        coverage_80=bands.bent_inside_80,
        validated=fixed_alpha and bands.bent_validated,
        third_run=third,
        sentences=(*_sentences(runs, noise, known, bands, fixed_alpha), *_offer(third, bands)),
    )


def _noise(runs: Sequence[MeasuredRank], default: float) -> tuple[float, bool]:
    """Standard deviation of one run: from the repeats of this sweep where there are enough, or the default."""
    repeats = [(run.runs - 1, run.sd) for run in runs if run.sd is not None]
    degrees = sum(each for each, _ in repeats)
    pooled = math.sqrt(sum(each * sd * sd for each, sd in repeats) / degrees) if degrees else 0.0
    return (pooled, True) if degrees >= ENOUGH_REPEATS and pooled > 0 else (default, False)


def third_run(runs: Sequence[MeasuredRank], noise_nats: float) -> int | None:
    """A rank in the middle of two measured ones, where their losses differ by more than the noise of the runs."""
    low, high = min(runs), max(runs)
    between = [r for r in GRID if low.r < r < high.r]
    if len(runs) > 2 or not between or abs(low.loss - high.loss) <= WORTH_A_RUN * math.sqrt(2) * noise_nats:
        return None
    return min(between, key=lambda r: (abs(math.log2(r * r / (low.r * high.r))), -r))


def _sentences(runs: Sequence[MeasuredRank], noise: float, known: bool, bands: Bands, fixed_alpha: bool) -> list[str]:
    ranks = ", ".join(str(run.r) for run in runs)
    origin = "measured by the repeats of this sweep" if known else "borrowed from other sweeps"
    said = [
        f"Held-out loss in nats between your runs at r = {ranks}. The noise of one run ({noise:.3f} nats) is {origin}.",
        "The band shows where one more run would land. Nothing is forecast below your lowest or above your highest "
        "rank.",
    ]
    if not fixed_alpha:
        said.append(
            "Not validated: alpha differs between your ranks, so at one learning rate their losses mostly show step "
            "size. Such bands were compared with independent runs at fixed alpha only."
        )
    elif bands.bent_inside_80 is None or bands.bent_inside_80_left_out is None:
        said.append("Not validated: such bands have not been compared with independent runs.")
    else:
        inside, left_out = (f"{100 * share:.0f} %" for share in (bands.bent_inside_80, bands.bent_inside_80_left_out))
        said.append(
            f"{'' if bands.bent_validated else 'Not validated: '}Such 80 % bands from two runs held {inside} of "
            f"{bands.bent_runs} independent runs between them, and {left_out} with the settings of the band chosen on "
            "other sweeps."
        )
    return said


def _offer(third: int | None, bands: Bands) -> tuple[str, ...]:
    if third is None:
        return ()
    offer = f"Your two runs differ by more than their noise, so a third run at r = {third} is worth its time."
    if bands.third_run_errors is None:
        return (offer,)
    two, three = bands.third_run_errors
    return (f"{offer} In such sweeps it lowered the median error of the forecast from {two:.3f} to {three:.3f} nats.",)


class _Part(NamedTuple):
    """One normal of the mixture: the loss is start + gain * (left(r) - middle), and noise."""

    weight: float
    bend: float
    start: float
    start_variance: float
    gain: float
    gain_variance: float
    middle: float
    noise_variance: float

    def at(self, r: float) -> tuple[float, float]:
        """Mean and standard deviation of one run's loss."""
        way = left(r, self.bend) - self.middle
        variance = self.start_variance + way * way * self.gain_variance + self.noise_variance
        return self.start + self.gain * way, math.sqrt(variance)


def conditioned(
    runs: Sequence[MeasuredRank],
    *,
    gain_nats: float,
    noise_nats: float,
    noise_known: bool = False,
    ranks: Sequence[int] | None = None,
    shape: Shape = SHAPE,
) -> tuple[BentRank, ...]:
    """The band at each rank between the lowest and the highest measured one.

    Args:
        runs: Measured ranks, two at least.
        gain_nats: The published median of the gain from r = 4 to r = 64, as nats of this loss.
        noise_nats: Standard deviation of one run.
        noise_known: It was measured in this sweep, and is not borrowed.
        ranks: Ranks to forecast; by default those of GRID in between, and the measured ones.
        shape: Another one is for the check of how it was chosen.
    """
    runs = sorted(runs)
    if len({run.r for run in runs}) < 2:
        raise InvalidSettingError(f"{TOO_FEW}.")
    measured = {run.r: run.loss for run in runs}
    low, high = runs[0].r, runs[-1].r
    wanted = sorted({r for r in GRID if low <= r <= high} | measured.keys()) if ranks is None else ranks
    if outside := [r for r in wanted if not low <= r <= high]:
        raise InvalidSettingError(
            f"Your runs say nothing of r = {outside[0]}: choose ranks from {low} to {high}, or measure that rank too."
        )
    parts = _mixture(runs, gain_nats, noise_nats, noise_known, shape)
    return tuple(_bent_rank(parts, r, measured.get(r)) for r in wanted)


def _mixture(
    runs: Sequence[MeasuredRank], gain_nats: float, noise_nats: float, noise_known: bool, shape: Shape
) -> tuple[_Part, ...]:
    spread = shape.gain_spread * gain_nats
    return _weighed(
        _part(runs, bend, gain_nats, spread, (noise_nats * factor) ** 2, math.log(share))
        for bend in shape.bends
        for factor, share in ([(1.0, 1.0)] if noise_known else shape.noise_factors)
    )


def _weighed(parts: Iterable[_Part]) -> tuple[_Part, ...]:
    """Log weights as shares of 1."""
    parts = tuple(parts)
    top = max(part.weight for part in parts)
    kept = [part._replace(weight=math.exp(part.weight - top)) for part in parts]
    total = sum(part.weight for part in kept)
    kept = [part for part in kept if part.weight >= NEGLIGIBLE * total]
    total = sum(part.weight for part in kept)
    return tuple(part._replace(weight=part.weight / total) for part in kept)


def _part(
    runs: Sequence[MeasuredRank], bend: float, gain: float, spread: float, noise: float, log_prior: float
) -> _Part:
    """Least squares with a flat prior for the limit and a normal one for the gain. weight: still a logarithm."""
    weights = [run.runs / noise for run in runs]
    ways = [left(run.r, bend) for run in runs]
    total = sum(weights)
    middle = sum(w * way for w, way in zip(weights, ways, strict=True)) / total
    mean = sum(w * run.loss for w, run in zip(weights, runs, strict=True)) / total
    by_way = sum(w * (way - middle) ** 2 for w, way in zip(weights, ways, strict=True))
    together = sum(w * (way - middle) * (run.loss - mean) for w, way, run in zip(weights, ways, runs, strict=True))
    by_loss = sum(w * (run.loss - mean) ** 2 for w, run in zip(weights, runs, strict=True))
    prior = 1 / spread**2
    precision = by_way + prior
    posterior = (together + prior * gain) / precision
    fit = (
        sum(math.log(w) for w in weights) / 2
        - math.log(total) / 2
        - math.log(precision / prior) / 2
        - (by_loss + prior * gain * gain - precision * posterior * posterior) / 2
    )
    return _Part(log_prior + fit, bend, mean, 1 / total, posterior, 1 / precision, middle, noise)


def _bent_rank(parts: Sequence[_Part], r: int, measured: float | None) -> BentRank:
    normals = [(part.weight, *part.at(r)) for part in parts]
    low_80, low_50, median, high_50, high_80 = (_quantile(normals, level) for level in (0.1, 0.25, 0.5, 0.75, 0.9))
    return BentRank(
        r=r, median=median, low_50=low_50, high_50=high_50, low_80=low_80, high_80=high_80, measured=measured
    )


def _quantile(normals: Sequence[tuple[float, float, float]], level: float) -> float:
    """Of a mixture of normals (weight, mean, sd), by halving."""
    each = NormalDist().inv_cdf(level)
    low = min(mean + each * sd for _, mean, sd in normals)
    high = max(mean + each * sd for _, mean, sd in normals)
    for _ in range(22):
        middle = (low + high) / 2
        below = sum(weight * math.erf((middle - mean) / (sd * SQRT_2)) for weight, mean, sd in normals)
        low, high = (middle, high) if (1 + below) / 2 < level else (low, middle)
    return (low + high) / 2
