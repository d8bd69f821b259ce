"""The forecast bent by one's own runs: loss by rank between two or more measured ranks, in nats.

A band is where one further run would land, its own noise included; mixture.py makes it. Below the lowest and above the
highest measured rank nothing is forecast.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rankviz.core.forecast.bands import Bands
from rankviz.core.forecast.bent_words import basis_words, record_words, third_run_words
from rankviz.core.forecast.curve import GRID
from rankviz.core.forecast.mixture import BentRank, MeasuredRank, conditioned

ENOUGH_REPEATS = 4
"""Degrees of freedom from which a sweep's own repeats say how noisy a run is."""
CHECKED_LOW, CHECKED_HIGH = 4, 32
"""The lowest rank is at most the first and the highest at least the second in a sweep like those that were checked."""
WORTH_A_RUN = 2.0
"""A third run is offered where two differ by more than so many standard deviations of their difference."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BentForecast:
    """Quality by rank from a sweep's own runs and published lines."""

    sweep_id: str
    metric: str
    unit: str
    runs: tuple[MeasuredRank, ...]
    ranks: tuple[BentRank, ...]
    coverage_80: float | None
    """Share of independent runs inside such 80 % bands, as `make forecast` counted it; None where such runs were not
    checked."""
    validated: bool
    third_run: int | None
    """A rank between two measured ones that differ by more than their noise; None where there is none."""
    sentences: tuple[str, ...]


def bent_forecast(
    sweep_id: str,
    runs: Sequence[MeasuredRank],
    gain_percent: float,
    bands: Bands,
    *,
    fixed_alpha: bool = True,
    one_rate: bool = True,
    without: Sequence[int] = (),
    still_training: str = "",
) -> BentForecast:
    """The band of a sweep, with how such bands have held.

    Args:
        sweep_id: Whose runs these are.
        runs: Measured ranks, two at least.
        gain_percent: The published median of the gain from r = 4 to r = 64, % of the loss.
        bands: From assets/forecast.json.
        fixed_alpha: Whether every rank was trained with the same lora_alpha.
        one_rate: Whether the ranks stand at the same learning rate.
        without: Ranks whose runs ended without a finite loss.
        still_training: A sentence that comes first where runs are to come; no third run is then suggested.
    """
    noise, known = _noise(runs, bands.run_noise_nats)
    gain = gain_percent / 100 * min(run.loss for run in runs)
    ranks = conditioned(runs, gain_nats=gain, noise_nats=noise, noise_known=known)
    third = third_run(runs, noise)
    third = None if still_training or third in without else third
    checked = _as_checked(runs) and one_rate
    return BentForecast(
        sweep_id=sweep_id,
        metric="loss",
        unit="nats",
        runs=tuple(runs),
        ranks=ranks,
        coverage_80=bands.bent_inside_80 if checked and fixed_alpha else None,
        validated=checked and fixed_alpha and bands.bent_validated,
        third_run=third,
        sentences=(
            *filter(None, [still_training]),
            *basis_words([run.r for run in runs], noise, known, without),
            record_words(bands, fixed_alpha=fixed_alpha, checked=checked),
            *third_run_words(third, bands),
        ),
    )


def _as_checked(runs: Sequence[MeasuredRank]) -> bool:
    """Whether these are two ranks with one run each, as far apart as those that were compared with runs between."""
    return (
        len(runs) == 2
        and all(run.runs == 1 for run in runs)
        and min(runs).r <= CHECKED_LOW
        and max(runs).r >= CHECKED_HIGH
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
