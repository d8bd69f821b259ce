"""The verdict: each pair of ranks is different, equal or undecided ("can't tell"); and which smallest rank follows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from rankviz.core.from_json import shape
from rankviz.core.runs.metric import LOSS, Metric
from rankviz.errors import InvalidSettingError
from rankviz.verdict.losses import Comparison, Run, RunLosses, compare
from rankviz.verdict.power import Needed, needed

if TYPE_CHECKING:
    from rankviz.verdict.noise import LossFit


def tolerance_in(metric: Metric, tolerance: float | str, *, best: float, base: float | None) -> float:
    """0.02 or "0.02" is nats or points; "2%" is a share of the gain, base - best: losses, or errors in points."""
    text = str(tolerance).strip()
    share = text.endswith("%")
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise InvalidSettingError(
            f"The tolerance must be in {metric.units}, such as {metric.tolerance:g}, or a share of the gain, such as "
            f"2% (got {text!r})."
        )
    if not share:
        return value
    if base is None:
        raise InvalidSettingError(
            f"A tolerance as a share of the gain needs the {metric.noun} of the base: give it, or give the tolerance "
            f"in {metric.units}."
        )
    if not base > best:
        shown = f"{base:.4f} nats" if not metric.higher_is_better else metric.text(metric.turned(base))
        raise InvalidSettingError(
            f"No rank is better than the base ({shown}), so there is no gain: give the tolerance in {metric.units}."
        )
    return value / 100 * (base - best)


SAME = 1e-9
"""Of two means: what the order of their sums may move."""
DIFFERENT, EQUAL, CANT_TELL = "different", "equal", "can't tell"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two ranks, r < s."""

    r: int
    s: int
    difference: float
    """Loss of r minus loss of s, or errors: above zero, r is worse."""
    low: float | None
    high: float | None
    """The interval of the difference, over runs and examples, all pairs at once; None: not known."""
    standard_error: float | None
    call: str
    """DIFFERENT: the interval leaves out zero and is not within the tolerance. EQUAL: it is within the tolerance,
    whether or not it leaves out zero. CANT_TELL: neither, or not known."""
    seeds: int
    """That both ranks ran with."""

    @property
    def half_width(self) -> float | None:
        return None if self.low is None else (self.high - self.low) / 2


@dataclass(frozen=True, kw_only=True)
class RankLoss:
    """One rank at its best learning rate."""

    r: int
    loss: float
    """Mean over runs and examples, adjusted for seeds that it lacks; errors in points of an accuracy."""
    run_losses: dict[str, float]
    """Mean over examples, by seed."""
    learning_rate: float | None
    learning_rates_tried: int
    call: str
    """Against the best."""


class AboveBest(NamedTuple):
    """A difference from the best rank, nats or points: above zero is worse. low, high: None where the noise between
    runs is not known."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Which ranks differ."""

    best: int
    """The rank with the lowest loss or the highest accuracy; whether it is really better is in the pairs."""
    smallest_indistinguishable: int
    indistinguishable_from_best: tuple[int, ...]
    """Ranks that are not DIFFERENT from the best, and the best itself."""
    ranks: tuple[RankLoss, ...]
    pairs: tuple[Pair, ...]
    metric: Metric
    within: float
    """Differences that count as equal, in nats or points."""
    tolerance: str
    """The same as it was requested."""
    examples: int
    seeds: int
    run_sd: float | None
    """Standard deviation of one run's loss over seeds, or of its accuracy in points; None of one run each."""
    unknown: str
    """Why no verdict is possible, in a few words; empty where one is."""
    notes: tuple[str, ...]
    """What was left out and why, in sentences."""
    diverged: tuple[Run, ...]
    noise: LossFit

    @property
    def tied(self) -> tuple[int, ...]:
        """Ranks whose value is the best rank's, it among them."""
        lowest = min(rank.loss for rank in self.ranks)
        return tuple(rank.r for rank in self.ranks if math.isclose(rank.loss, lowest, rel_tol=SAME, abs_tol=SAME))

    @property
    def tolerance_nats(self) -> float | None:
        """The tolerance in nats; None in another metric."""
        return self.within if self.metric is LOSS else None

    def read(self, loss: float) -> float:
        """A rank's or a run's loss as it is read: nats, or an accuracy in percent."""
        return self.metric.turned(loss)

    def rank(self, r: int) -> RankLoss:
        return next(rank for rank in self.ranks if rank.r == r)

    def pair(self, r: int, s: int) -> Pair:
        return self._by_ranks[min(r, s), max(r, s)]

    @cached_property
    def _by_ranks(self) -> dict[tuple[int, int], Pair]:
        return {(pair.r, pair.s): pair for pair in self.pairs}

    def above_best(self, r: int) -> AboveBest:
        """Difference of a rank's loss from the best rank's, with its interval."""
        if r == self.best:
            return AboveBest(0.0, 0.0, 0.0)
        pair = self.pair(r, self.best)
        if pair.s == self.best:
            return AboveBest(pair.difference, pair.low, pair.high)
        low, high = (None, None) if pair.low is None else (-pair.high, -pair.low)
        return AboveBest(-pair.difference, low, high)

    def needed(self, pair: Pair) -> Needed | None:
        """What would decide an undecided pair; None where it is decided, or where the noise is not known."""
        if pair.call != CANT_TELL or pair.low is None:
            return None
        noise = self.noise.pairs[pair.r, pair.s]
        return needed(self.noise.runs, noise, self.examples, pair.difference, self.within)

    @property
    def rates(self) -> dict[int, float | None]:
        return {rank.r: rank.learning_rate for rank in self.ranks}

    @property
    def noise_width(self) -> float | None:
        """Largest distance from the best at which a rank cannot be distinguished from it: the half-width of the widest
        interval with the best, or the tolerance if that is more; None where no verdict is possible."""
        halves = [p.half_width for p in self.pairs if self.best in (p.r, p.s) and p.half_width is not None]
        return max(*halves, self.within) if halves else None


def judge(
    runs: Sequence[RunLosses],
    *,
    tolerance: float | str | None = None,
    base_loss: float | None = None,
    metric: Metric = LOSS,
) -> Verdict:
    """The verdict on runs that saw the same data and held-out examples.

    Args:
        runs: Any number of ranks, learning rates and seeds.
        tolerance: Differences whose whole interval is within this count as equal: nats or points, or "2%" of the gain
            over the base. None: the metric's own.
        base_loss: Of the untrained base, for a tolerance as a share; errors in points of an accuracy.
        metric: What the runs' values are.
    """
    from rankviz.verdict.noise import fit

    compared = compare(runs)
    tolerance = metric.tolerance if tolerance is None else tolerance
    noise = fit(compared, counted=metric.higher_is_better)
    best = min(compared.ranks, key=lambda r: (noise.losses[r], r))
    within_tolerance = tolerance_in(metric, tolerance, best=noise.losses[best], base=base_loss)
    ranks = compared.ranks
    pairs = tuple(_pair(compared, noise, r, s, within_tolerance) for i, r in enumerate(ranks) for s in ranks[i + 1 :])
    calls = {p.s if p.r == best else p.r: p.call for p in pairs if best in (p.r, p.s)} | {best: EQUAL}
    within = tuple(r for r in ranks if calls[r] != DIFFERENT)
    return Verdict(
        best=best,
        smallest_indistinguishable=min(within),
        indistinguishable_from_best=within,
        ranks=tuple(
            RankLoss(
                r=r,
                loss=noise.losses[r],
                run_losses={seed: compared.means[r, seed] for seed in compared.seeds_of(r)},
                learning_rate=compared.rates[r],
                learning_rates_tried=compared.rates_tried[r],
                call=calls[r],
            )
            for r in ranks
        ),
        pairs=pairs,
        metric=metric,
        within=within_tolerance,
        tolerance=str(tolerance),
        examples=compared.examples,
        seeds=len(compared.seeds),
        run_sd=noise.runs.sd if noise.runs else None,
        unknown=_unknown(compared, metric) if len(ranks) > 1 and noise.runs is None else "",
        notes=compared.notes,
        diverged=compared.diverged,
        noise=noise,
    )


def _pair(compared: Comparison, noise: LossFit, r: int, s: int, tolerance: float) -> Pair:
    from rankviz.verdict.noise import half_width, standard_error

    difference = noise.losses[r] - noise.losses[s]
    of_pair = noise.pairs.get((r, s))
    common = of_pair.seeds if of_pair else len(set(compared.seeds_of(r)) & set(compared.seeds_of(s)))
    if of_pair is None:
        return Pair(
            r=r, s=s, difference=difference, low=None, high=None, standard_error=None, call=CANT_TELL, seeds=common
        )
    half = half_width(noise.runs, of_pair, compared.examples)
    low, high = difference - half, difference + half
    return Pair(
        r=r,
        s=s,
        difference=difference,
        low=low,
        high=high,
        standard_error=standard_error(noise.runs, of_pair),
        call=_call(low, high, tolerance),
        seeds=common,
    )


def _call(low: float, high: float, tolerance: float) -> str:
    if -tolerance <= low and high <= tolerance:
        return EQUAL
    return DIFFERENT if low > 0 or high < 0 else CANT_TELL


def _unknown(compared: Comparison, metric: Metric) -> str:
    """Why the noise between runs is not known."""
    counts = [len(compared.seeds_of(r)) for r in compared.ranks]
    if max(counts) == 1:
        return "each rank has one run"
    if sum(n > 1 for n in counts) < 2:
        return "only one rank has several runs"
    shared = max(
        len(set(compared.seeds_of(r)) & set(compared.seeds_of(s)))
        for r in compared.ranks
        for s in compared.ranks
        if r < s
    )
    return "no two ranks share two seeds" if shared < 2 else f"runs with different seeds have identical {metric.nouns}"


NeededJSON = shape(Needed)
DivergedJSON = shape(Run)


class PairJSON(shape(Pair)):
    """Two ranks, r < s. A difference above zero says that r is worse; `would_tell` what would decide it."""

    would_tell: NeededJSON | None


class RankVerdictJSON(TypedDict):
    """One rank at its best learning rate, and how far it is above the best rank. Losses are nats, null of an accuracy;
    values nats or percent. Those of runs are by seed."""

    r: int
    loss: float | None
    run_losses: dict[str, float] | None
    value: float
    run_values: dict[str, float]
    learning_rate: float | None
    learning_rates_tried: int
    call: str
    seeds: int
    above_best: float
    above_best_low: float | None
    above_best_high: float | None


class VerdictJSON(TypedDict):
    """Which ranks differ. Differences, `within` and the noise are in `unit`."""

    metric: str
    unit: str
    higher_is_better: bool
    best: int
    smallest_indistinguishable: int
    indistinguishable_from_best: list[int]
    pairs: list[PairJSON]
    ranks: list[RankVerdictJSON]
    can_tell: bool
    why_not: str | None
    tolerance_nats: float | None
    within: float
    tolerance: str
    confidence: float
    seeds: int
    examples: int
    run_sd: float | None
    noise_width: float | None
    diverged: list[DivergedJSON]
    borrowed_noise: None
    """Of earlier versions."""
    headline: str
    sentences: list[str]


SAME_NAMES = (
    "best", "smallest_indistinguishable", "tolerance_nats", "within", "tolerance", "seeds", "examples", "run_sd",
    "noise_width",
)  # fmt: skip
"""Fields of a Verdict that its JSON has as they are."""
