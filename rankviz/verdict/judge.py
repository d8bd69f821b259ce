"""The verdict: each pair of ranks is different, equal or undecided; and the smallest rank that is good enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from rankviz.core.from_json import as_answer, shape
from rankviz.core.quantity import brief
from rankviz.core.runs.metric import LOSS, Metric
from rankviz.errors import InvalidSettingError
from rankviz.verdict.losses import Comparison, Run, RunLosses, compare
from rankviz.verdict.noise import CONFIDENCE, LossFit, Needed, fit, half_width, needed

DIFFERENT, EQUAL, CANT_TELL = "different", "equal", "can't tell"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two ranks, r < s. A difference above zero says that r is worse."""

    r: int
    s: int
    difference: float
    """Loss of r minus loss of s; for an accuracy, errors in points."""
    low: float | None
    high: float | None
    """High end of the difference's interval over runs and examples, for all pairs at once; None: not known."""
    standard_error: float | None
    call: str
    """DIFFERENT: the interval excludes zero and is not within the tolerance. EQUAL: the interval is within the
    tolerance, even if it excludes zero. CANT_TELL: neither of these, or the interval is not known."""
    seeds: int
    """Number of seeds with which both ranks ran."""


@dataclass(frozen=True, kw_only=True)
class RankLoss:
    """One rank at its best learning rate, compared with the best rank."""

    r: int
    loss: float
    """Mean over runs and examples in nats, adjusted for missing seeds; for an accuracy, errors in points."""
    run_losses: dict[str, float]
    """Mean loss over examples of each run, by seed."""
    learning_rate: float | None
    learning_rates_tried: int
    call: str
    """Call of the pair with the best rank; EQUAL for the best rank itself."""
    above_best: float
    above_best_low: float | None
    above_best_high: float | None
    """High end of the difference from the best rank in nats or points, positive is worse; None where not known."""

    @property
    def seeds(self) -> int:
        return len(self.run_losses)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Comparison of all ranks of a sweep, with the noise that it rests on."""

    __repr__ = brief

    best: int
    """Rank with the lowest loss or the highest accuracy; `pairs` say whether it differs from others."""
    smallest_indistinguishable: int
    indistinguishable_from_best: tuple[int, ...]
    """The best rank, and all ranks that are not DIFFERENT from it."""
    ranks: tuple[RankLoss, ...]
    pairs: tuple[Pair, ...]
    metric: Metric
    within: float
    """Difference up to which two ranks count as equal, in nats or points."""
    tolerance: str
    """Tolerance as the user gave it, such as "0.02" or "2%"."""
    examples: int
    seeds: int
    unknown: str
    """Reason why no verdict is possible; empty where it is."""
    notes: tuple[str, ...]
    diverged: tuple[Run, ...]
    noise: LossFit

    @property
    def run_sd(self) -> float | None:
        """Standard deviation over seeds of a run's loss (or accuracy in points); None where not known."""
        return math.sqrt(self.noise.runs.variance) if self.noise.runs else None

    @property
    def tolerance_nats(self) -> float | None:
        """Tolerance in nats; None for an accuracy."""
        return self.within if self.metric is LOSS else None

    @property
    def noise_width(self) -> float | None:
        """Largest difference from the best rank that cannot be distinguished from zero: half of the widest interval
        with the best, or the tolerance if larger; None where no verdict is possible."""
        others = [rank for rank in self.ranks if rank.r != self.best and rank.above_best_low is not None]
        halves = [(rank.above_best_high - rank.above_best_low) / 2 for rank in others]
        return max(*halves, self.within) if halves else None

    @property
    def undecided(self) -> Pair | None:
        """Undecided pair of the best rank with the smallest rank, among pairs of known noise; None without one."""
        with_best = (pair for pair in self.pairs if self.best in (pair.r, pair.s))
        undecided = (pair for pair in with_best if pair.call == CANT_TELL and pair.low is not None)
        return min(undecided, key=lambda pair: pair.r + pair.s, default=None)

    @cached_property
    def needed(self) -> Needed | None:
        """Seeds or examples that would decide the pair `undecided`; None without such a pair."""
        if (pair := self.undecided) is None:
            return None
        return needed(self.noise.runs, self.noise.pairs[pair.r, pair.s], self.examples, pair.difference, self.within)

    def called(self, call: str) -> list[int]:
        """Return the ranks, other than the best, that have this call."""
        return [rank.r for rank in self.ranks if rank.r != self.best and rank.call == call]

    def read(self, loss: float) -> float:
        """Convert a loss to the value that is shown: nats, or for an accuracy percent."""
        return self.metric.turned(loss)

    def rank(self, r: int) -> RankLoss:
        return next(rank for rank in self.ranks if rank.r == r)


def judge(
    runs: Sequence[RunLosses],
    *,
    tolerance: float | str | None = None,
    base_loss: float | None = None,
    metric: Metric = LOSS,
) -> Verdict:
    """Compare runs that have the same data and held-out examples.

    Args:
        runs: Any number of ranks, learning rates and seeds.
        tolerance: Two ranks are equal if the whole interval of their difference is within this: nats or points, or "2%"
            of the gain over the base. None takes the metric's own tolerance.
        base_loss: Loss of the untrained base (for an accuracy, errors in points); needed for a tolerance in percent.
        metric: Metric of the runs' values.
    """
    compared = compare(runs)
    tolerance = metric.tolerance if tolerance is None else tolerance
    noise = fit(compared, counted=metric.higher_is_better)
    losses = noise.losses
    best = min(compared.ranks, key=lambda r: (losses[r], r))
    within = tolerance_in(metric, tolerance, best=losses[best], base=base_loss)
    pairs = tuple(_pair(compared, noise, r, s, within) for r, s in combinations(compared.ranks, 2))
    with_best = {pair.s if pair.r == best else pair.r: pair for pair in pairs if best in (pair.r, pair.s)}
    ranks = tuple(_rank(compared, losses, r, with_best.get(r)) for r in compared.ranks)
    indistinguishable = tuple(rank.r for rank in ranks if rank.call != DIFFERENT)
    return Verdict(
        best=best,
        smallest_indistinguishable=min(indistinguishable),
        indistinguishable_from_best=indistinguishable,
        ranks=ranks,
        pairs=pairs,
        metric=metric,
        within=within,
        tolerance=str(tolerance),
        examples=compared.examples,
        seeds=len(compared.seeds),
        unknown=_unknown(compared) if pairs and noise.runs is None else "",
        notes=compared.notes,
        diverged=compared.diverged,
        noise=noise,
    )


def tolerance_in(metric: Metric, tolerance: float | str, *, best: float, base: float | None) -> float:
    """Return a tolerance in nats or points; "2%" is a share of base - best (losses, or errors in points)."""
    text = str(tolerance).strip()
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise InvalidSettingError(
            f"The tolerance must be in {metric.units}, such as {metric.tolerance:g}, or a share of the gain, such as "
            f"2% (got {text!r})."
        )
    if not text.endswith("%"):
        return value
    if base is None:
        raise InvalidSettingError(f"A tolerance as a share of the gain needs the {metric.noun} of the base: give it.")
    if not base > best:
        raise InvalidSettingError(
            f"No rank is better than the base ({metric.text(metric.turned(base))}), so there is no gain: give the "
            f"tolerance in {metric.units}."
        )
    return value / 100 * (base - best)


def _pair(compared: Comparison, noise: LossFit, r: int, s: int, tolerance: float) -> Pair:
    difference, low, high, error, call = noise.losses[r] - noise.losses[s], None, None, None, CANT_TELL
    if of_pair := noise.pairs.get((r, s)):
        # The standard error is that of a mixed model.
        error = math.sqrt(noise.runs.paired_variance * of_pair.weight + of_pair.examples_variance)
        half = half_width(noise.runs, of_pair, compared.examples)
        low, high = difference - half, difference + half
        if -tolerance <= low and high <= tolerance:
            call = EQUAL
        elif low > 0 or high < 0:
            call = DIFFERENT
    seeds = len(compared.shared_seeds(r, s))
    return Pair(r=r, s=s, difference=difference, low=low, high=high, standard_error=error, call=call, seeds=seeds)


def _rank(compared: Comparison, losses: dict[int, float], r: int, pair: Pair | None) -> RankLoss:
    """Return the result of one rank. pair: Its pair with the best rank; None for the best rank itself."""
    above, low, high, call = 0.0, 0.0, 0.0, EQUAL
    if pair:
        above, low, high, call = pair.difference, pair.low, pair.high, pair.call
        if r == pair.s:
            above, (low, high) = -above, (None, None) if low is None else (-high, -low)
    return RankLoss(
        r=r,
        loss=losses[r],
        run_losses={seed: compared.means[r, seed] for seed in compared.seeds_of[r]},
        learning_rate=compared.rates[r],
        learning_rates_tried=compared.rates_tried[r],
        call=call,
        above_best=above,
        above_best_low=low,
        above_best_high=high,
    )


def _unknown(compared: Comparison) -> str:
    """Return the reason why the noise between runs is not known."""
    if max(map(len, compared.seeds_of.values())) == 1:
        return "each rank has one run"
    if max(len(compared.shared_seeds(r, s)) for r, s in combinations(compared.ranks, 2)) < 2:
        return "no two ranks share two seeds"
    return "runs with different seeds have identical values, as if one run was given several times"


class PairJSON(shape(Pair)):
    """Two ranks, r < s. A difference above zero says that r is worse. `would_tell` is what would decide the pair that
    the sentences name; null for all others."""

    would_tell: shape(Needed) | None


class RankVerdictJSON(shape(RankLoss)):
    """One rank at its best learning rate, and how far it is above the best rank. Losses are nats, null for an accuracy;
    values are nats or percent; `run_losses` and `run_values` are by seed."""

    loss: float | None
    run_losses: dict[str, float] | None
    value: float
    run_values: dict[str, float]
    seeds: int


class VerdictJSON(
    shape(
        Verdict,
        *("best", "smallest_indistinguishable", "indistinguishable_from_best", "within", "tolerance"),
        *("seeds", "examples", "diverged"),
    )
):
    """Which ranks differ. Differences, `within` and the noise are in `unit`; a difference above zero is worse.
    `borrowed_noise` is always null; it is kept for readers of earlier versions."""

    metric: str
    unit: str
    higher_is_better: bool
    pairs: list[PairJSON]
    ranks: list[RankVerdictJSON]
    can_tell: bool
    why_not: str | None
    tolerance_nats: float | None
    confidence: float
    run_sd: float | None
    noise_width: float | None
    borrowed_noise: None
    headline: str
    sentences: list[str]


def verdict_json(verdict: Verdict) -> VerdictJSON:
    """Return the verdict as JSON."""
    from rankviz.verdict.words import sentences

    metric, words, undecided = verdict.metric, sentences(verdict), verdict.undecided
    ranks = []
    for rank in verdict.ranks:
        values = {seed: verdict.read(loss) for seed, loss in rank.run_losses.items()}
        losses = {"loss": None, "run_losses": None} if metric.higher_is_better else {}
        ranks.append(as_answer(RankVerdictJSON, rank, value=verdict.read(rank.loss), run_values=values, **losses))
    needs = [verdict.needed if pair is undecided else None for pair in verdict.pairs]
    return as_answer(
        VerdictJSON,
        verdict,
        metric=metric.key,
        unit=metric.units,
        higher_is_better=metric.higher_is_better,
        pairs=[as_answer(PairJSON, p, would_tell=need) for p, need in zip(verdict.pairs, needs, strict=True)],
        ranks=ranks,
        can_tell=not verdict.unknown,
        why_not=verdict.unknown or None,
        confidence=CONFIDENCE,
        borrowed_noise=None,
        headline=words[0],
        sentences=words,
    )
