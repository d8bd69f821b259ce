"""Quick look: estimates from a few short runs of one sweep, for ranks between them and for the learning rate.

Losses are interpolated in r^-0.3 between the mean losses of neighbouring measured ranks. The band for one further run
combines the noise of a run, measured by repeats in this sweep, with the uncertainty of the curve's bend. Scores are not
interpolated (score_pick). Both were checked on published lines: docs/accuracy.md, `make forecast`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import NormalDist, fmean, stdev
from typing import Any, NamedTuple

from rankviz.core.forecast.bands import ENOUGH_INSIDE, GRID, rounded, share_error
from rankviz.core.from_json import as_answer, shape
from rankviz.core.runs.events import fingerprints
from rankviz.core.runs.metric import Metric
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.request import QUICK_RANKS, RATE_FACTOR
from rankviz.errors import InvalidSettingError
from rankviz.units import counted

BEND = 0.3
"""Exponent of the interpolation: the loss falls as r^-0.3. Published runs lie a fifth of the gap below log r's line."""
FALLING, RISING = (0.0, 1.0), (-1.0, 1.0)
"""Lowest and highest exponent that an 80 % band covers: from a straight line in log r (0) to a curve that saturates
early (1). For a loss that rises with rank, also one that rises late (-1: linear in r)."""
MIDDLE_80, MIDDLE_50 = NormalDist().inv_cdf(0.9), NormalDist().inv_cdf(0.75)
PICK_SHARE = 0.0025
"""The pick is the lowest rank whose estimate is at most this share above the lowest estimate. Picks are checked with
twice this share (0.5 %); the other half is left for the error of the estimate."""
APART = 2.8
"""Standard deviations of one run from which two runs count as different: twice the noise of a difference."""
SAFE_RANK = 16
"""Rank that is chosen where two scores do not differ."""
CHECKED_LOW, CHECKED_HIGH = 4, 32
"""The method was checked on sweeps with a lowest rank of at most CHECKED_LOW and a highest of at least CHECKED_HIGH."""
TOO_FEW = "A forecast from your runs needs finished runs at two ranks at least, such as r = 4 and r = 64"


class MeasuredRank(NamedTuple):
    """Mean held-out loss of the runs of one rank, nats. sd: Standard deviation between them; None for one run."""

    r: int
    loss: float
    sd: float | None = None
    runs: int = 1


class Noise(NamedTuple):
    """Standard deviation (sd) of one run. repeats: Number of runs beyond the first at each rank, which measure it."""

    sd: float
    repeats: int

    def times(self, gap: float) -> str:
        """Format a gap in loss by the noise: "3.2 times the noise of one run (0.01 nats, from 2 repeats)"."""
        repeats = counted(self.repeats, "repeat")
        return f"{gap / self.sd:.1f} times the noise of one run ({self.sd:.2g} nats, from {repeats})"


@dataclass(frozen=True, kw_only=True, slots=True)
class BentRank:
    """Expected loss of one further run at a rank, nats. Bands are None where the noise of a run is not known."""

    r: int
    median: float
    """Mean over the runs of a measured rank; an estimate for other ranks."""
    low_50: float | None
    high_50: float | None
    low_80: float | None
    high_80: float | None
    measured: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class BentForecast:
    """Loss by rank, forecast from a sweep's own runs."""

    sweep_id: str
    metric: str = "loss"
    unit: str = "nats"
    runs: tuple[MeasuredRank, ...]
    ranks: tuple[BentRank, ...]
    coverage_80: float | None
    """Share of runs inside such 80 % bands on published lines; None for sweeps unlike those that were checked."""
    validated: bool
    third_run: int | None = None
    """Always None; kept for readers of older versions. See repeat_at."""
    repeat_at: int | None
    """Rank to train again with another seed: of those with fewest runs the lowest; None while the sweep trains."""
    noise_nats: float | None
    """Standard deviation of one run; None where no rank was trained twice."""
    pick: int
    sentences: tuple[str, ...]


BentForecastJSON = shape(BentForecast)


def bent_json(bent: BentForecast) -> BentForecastJSON:
    """Return the forecast as `rankviz forecast --json` and the endpoint give it; losses are held-out, in nats."""
    return as_answer(BentForecastJSON, bent, ranks=[rounded(asdict(rank)) for rank in bent.ranks])


def bent_forecast(
    sweep_id: str, cells: Mapping[int, Sequence[RunRecord]], record: Mapping[str, Any], still_training: str = ""
) -> BentForecast:
    """Return estimates and bands for ranks between the runs of a sweep, with the accuracy of such forecasts.

    Args:
        sweep_id: Id of the sweep.
        cells: The evaluated runs by rank, of at least two ranks (measured_cells).
        record: Section "quick_look", "loss" of assets/forecast.json.
        still_training: First sentence while runs are not finished (no repeat is suggested then); empty otherwise.
    """
    every = {r: [run.loss_after.loss for run in cell] for r, cell in cells.items()}
    runs = tuple(
        MeasuredRank(r, fmean(losses), stdev(losses) if len(losses) > 1 else None, len(losses))
        for r, losses in sorted(every.items())
    )
    settings = {(run.request.lora.lora_alpha, run.request.learning_rate) for cell in cells.values() for run in cell}
    low, high, noise = runs[0], runs[-1], noise_of(every.values())
    ranks, gap = between(runs, noise), abs(low.loss - high.loss)
    checked = len(settings) == 1 and noise is not None and len(runs) == 2
    checked = checked and low.r <= CHECKED_LOW and high.r >= CHECKED_HIGH
    known = (
        "The noise of one run is not known, because no rank was trained twice: so there is no band. One more run at r "
        f"= {low.r} with another seed measures it."
    )
    if noise:
        known = f"r = {low.r} and r = {high.r} differ by {gap:.3g} nats, {noise.times(gap)}."
    held = (
        f"Not validated: this was checked for two ranks at one learning rate and alpha, one at most r = {CHECKED_LOW} "
        f"and one at least r = {CHECKED_HIGH}, with a repeat."
    )
    if checked:
        held = (
            f"On {record['lines']} published lines such 80 % bands held {100 * record['inside_80']:.0f} % of the runs "
            f"between, and the picked rank was within 0.5 % of the best one between in {100 * record['within']:.0f} %."
        )
    own = f"Held-out loss in nats between your runs at r = {', '.join(str(run.r) for run in runs)}, by r^-{BEND:g}."
    return BentForecast(
        sweep_id=sweep_id,
        runs=runs,
        ranks=ranks,
        coverage_80=record["inside_80"] if checked else None,
        validated=checked and record["inside_80"] >= ENOUGH_INSIDE,
        repeat_at=None if still_training else min(runs, key=lambda run: (run.runs, run.r)).r,
        noise_nats=noise and noise.sd,
        pick=pick_of(ranks),
        sentences=tuple(filter(None, (still_training, own, known, held))),
    )


def noise_of(cells: Iterable[Sequence[float]]) -> Noise | None:
    """Return the noise of one run, pooled over ranks. None without repeats, and where all repeats are identical, since
    true noise is never 0. cells: Losses or scores of the runs of each rank."""
    known = [(stdev(values), len(values) - 1) for values in cells if len(values) > 1]
    repeats = sum(each for _, each in known)
    sd = math.sqrt(sum(each * sd * sd for sd, each in known) / repeats) if repeats else 0.0
    return Noise(sd, repeats) if sd else None


def between(runs: Sequence[MeasuredRank], noise: Noise | None) -> tuple[BentRank, ...]:
    """Return the measured ranks, and all ranks of GRID between the lowest and the highest of them, with estimates and
    bands.

    Estimate between the measured neighbours low and high: high + (low - high) · w, with w = (r^-0.3 - high^-0.3) /
    (low^-0.3 - high^-0.3). The band adds two parts in quadrature: the noise of a further run and of the means, with
    Student's t for the number of repeats; and the change of w over the exponents of FALLING or RISING.
    """
    if len({run.r for run in runs}) < 2:
        raise InvalidSettingError(f"{TOO_FEW}.")
    ranks = [
        BentRank(r=run.r, median=run.loss, measured=run.loss, **_bands(run.loss, noise, 1 / run.runs)) for run in runs
    ]
    for low, high in pairwise(sorted(runs)):
        gap = low.loss - high.loss
        for r in (r for r in GRID if low.r < r < high.r):
            w = share_left(r, BEND, low.r, high.r)
            moved = [gap * (share_left(r, bend, low.r, high.r) - w) for bend in (FALLING if gap > 0 else RISING)]
            loss, means = high.loss + gap * w, w * w / low.runs + (1 - w) ** 2 / high.runs
            bands = _bands(loss, noise, means, -min(moved), max(moved))
            ranks.append(BentRank(r=r, median=loss, measured=None, **bands))
    return tuple(sorted(ranks, key=lambda rank: rank.r))


def share_left(r: float, bend: float, low: float, high: float) -> float:
    """Return the share of the gap left at r: 1 at low, 0 at high. bend: Exponent; 0 stands for log r."""
    if not bend:
        return math.log(high / r) / math.log(high / low)
    return (r**-bend - high**-bend) / (low**-bend - high**-bend)


def _bands(loss: float, noise: Noise | None, means: float, below: float = 0.0, above: float = 0.0) -> dict[str, Any]:
    """Return the ends of bands. means: Estimate's variance over a run's. below, above: Effect of bends, nats."""
    ends = dict.fromkeys(("low_50", "high_50", "low_80", "high_80"))
    for name, level, z in (("80", 0.9, MIDDLE_80), ("50", 0.75, MIDDLE_50)) if noise else ():
        reach, share = t_quantile(level, noise.repeats) * noise.sd * math.sqrt(1 + means), z / MIDDLE_80
        ends[f"low_{name}"] = max(0.0, loss - math.hypot(reach, share * below))
        ends[f"high_{name}"] = loss + math.hypot(reach, share * above)
    return ends


def t_quantile(p: float, freedom: int) -> float:
    """Return a quantile of Student's t; for freedom above 2 by Cornish and Fisher (Abramowitz and Stegun 26.7.5)."""
    if freedom == 1:
        return math.tan(math.pi * (p - 0.5))
    if freedom == 2:
        return (2 * p - 1) * math.sqrt(2 / (1 - (2 * p - 1) ** 2))
    z = NormalDist().inv_cdf(p)
    terms = ((z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))


def pick_of(ranks: Sequence[BentRank]) -> int:
    """Return the lowest rank whose estimate is within PICK_SHARE of the lowest estimate."""
    lowest = min(rank.median for rank in ranks)
    return next(rank.r for rank in ranks if rank.median <= lowest + PICK_SHARE * abs(lowest))


def score_pick(low: tuple[int, float], high: tuple[int, float], noise: float | None) -> int:
    """Return the higher rank if its score is better by more than APART times the noise of one run; else SAFE_RANK,
    clipped to the two ranks. low, high: (rank, score), a higher score is better. noise: None where not known."""
    if noise is not None and high[1] - low[1] > APART * noise:
        return high[0]
    return min(max(SAFE_RANK, low[0]), high[0])


def measured_cells(runs: Sequence[RunRecord]) -> dict[int, list[RunRecord]]:
    """Return the evaluated runs by rank, each rank at its best learning rate (lowest mean loss) among the rates that
    all ranks have; raise InvalidSettingError for fewer than two ranks, or for runs that cannot be compared."""
    sweep_id, ended = runs[0].request.sweep_id, [*filter(has_loss, runs)]
    cells: dict[int, dict[float, list[RunRecord]]] = {}
    for run in ended:
        cells.setdefault(run.request.r, {}).setdefault(run.request.learning_rate, []).append(run)
    if len(cells) < 2:
        known = f"r = {next(iter(cells))} only" if cells else "none"
        raise InvalidSettingError(f"{TOO_FEW}: with a finite loss, sweep {sweep_id} has {known}.")
    common = set.intersection(*map(set, cells.values()))
    if not common or not _are_alike(ended):
        raise InvalidSettingError(
            f"The runs of sweep {sweep_id} have different base models or data, or no learning rate in common, so their "
            "losses cannot be compared: train every rank with one base, the same data and one learning rate."
        )
    return {
        r: min((cells[r][rate] for rate in common), key=lambda cell: fmean(run.loss_after.loss for run in cell))
        for r in sorted(cells)
    }


def _are_alike(runs: Sequence[RunRecord]) -> bool:
    """Tell whether runs have the same base and data, by fingerprints, or by name where some have none."""
    read = [fingerprints([run.environment]) for run in runs]
    is_named_alike = all(read) or len({run.request.data for run in runs}) == 1
    return is_named_alike and len({run.request.base for run in runs}) == 1 and len(frozenset().union(*read)) <= 1


def has_loss(run: RunRecord) -> bool:
    return run.loss_after is not None and math.isfinite(run.loss_after.loss)


class RateLook(NamedTuple):
    """Learning rates compared at one rank. best: Rate with the lowest loss. differs: True if the rates differ by more
    than noise; None where the noise is not known. goes_on: True if the best rate is the lowest or highest one tried, so
    that a better one may lie beyond. sentences: The better rate, the difference over the noise, and what to do next."""

    r: int
    best: float
    differs: bool | None
    goes_on: bool
    sentences: tuple[str, str, str]


def rate_look(runs: Sequence[RunRecord]) -> RateLook | None:
    """Compare learning rates of a sweep of one rank; None with fewer than two ended rates or without a finite loss."""
    ended = [run for run in runs if run.loss_after]
    by_rate: dict[float, list[float]] = {}
    for run in ended:
        by_rate.setdefault(run.request.learning_rate, []).extend([run.loss_after.loss] if has_loss(run) else [])
    one_rank = len({run.request.r for run in ended}) == 1
    if not one_rank or len(by_rate) < 2 or not any(by_rate.values()) or not _are_alike(ended):
        return None
    r, noise = ended[0].request.r, noise_of(by_rate.values())
    losses = {rate: fmean(each) if each else math.inf for rate, each in sorted(by_rate.items())}
    (lowest, best), (second, _) = sorted((loss, rate) for rate, loss in losses.items())[:2]
    gap = second - lowest
    each = ", ".join(f"{loss:.4f} at {rate:g}".replace("inf", "diverged") for rate, loss in losses.items())
    worth, differs = "The other rate diverged.", True
    if math.isfinite(gap):
        differs = gap > APART * noise.sd if noise else None
        times = noise.times(gap) if noise else "how many times the noise is not known: no rate was trained twice"
        worth = f"The rate is worth {gap:.3g} nats; {times}."
    goes_on = differs is not False and best in (min(losses), max(losses))
    then = f"a quick look (r = {QUICK_RANKS[0]} and {QUICK_RANKS[1]}) at learning rate {best:g}."
    if goes_on:
        beyond = best / RATE_FACTOR if best == min(losses) and math.isfinite(gap) else best * RATE_FACTOR
        then = f"train r = {r} at {beyond:.3g} too, until a further step no longer helps. Then {then}"
    lower = f"At r = {r} learning rate {best:g} has the lower held-out loss: {each}."
    return RateLook(r, best, differs, goes_on, (lower, worth, f"Do next: {then}"))


class ScoreLook(NamedTuple):
    """Choice between the lowest and the highest rank of a sweep by a score. pick: Rank to take. about: Label of
    the pick. sentences: The pick, the two scores with their noise, and the rule with its past results."""

    pick: int
    about: str
    sentences: Sequence[str]


def score_look(runs: Sequence[RunRecord], metric: Metric, record: Mapping[str, Any]) -> ScoreLook | None:
    """Compare the lowest and the highest rank of a sweep by a score; None where they cannot be compared, or where every
    rank was trained twice, so that a verdict compares them."""
    try:
        cells = measured_cells(runs)
    except InvalidSettingError:
        return None
    values = {r: [metric.of(run.loss_after) for run in cell] for r, cell in cells.items()}
    if any(None in each for each in values.values()) or all(len(each) > 1 for each in values.values()):
        return None
    (low, lower), (high, higher) = ((r, fmean(values[r])) for r in (min(values), max(values)))
    if noise := noise_of(values.values()):
        sd, source = noise.sd, "from the repeat"
    else:
        examples = min(run.loss_after.examples for cell in cells.values() for run in cell)
        sd, source = share_error(lower, examples), "from the number of examples alone"
    pick = score_pick((low, lower), (high, higher), sd)
    about = "Best so far" if pick in values else "Train next"
    return ScoreLook(
        pick,
        about,
        (
            f"{about}, by {metric.noun}: r = {pick}.",
            f"r = {high} has {higher:.1f} % and r = {low} has {lower:.1f} %; the noise of one run is {sd:.2g} points, "
            f"{source}.",
            f"The higher rank is taken if it is better by more than {APART:g} times the noise, else r = {SAFE_RANK}. "
            f"On {record['lines']} published lines, with a repeat, that was within one point of the best rank in "
            f"{100 * record['within_of_all_ranks']:.0f} %, and always r = {SAFE_RANK} in "
            f"{100 * record['within_always_16']:.0f} %.",
        ),
    )
