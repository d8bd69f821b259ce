"""The verdict: for each pair of ranks different, equal or can't tell; and what that makes of the smallest rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from rankviz.core.runs.tradeoff import TOLERANCE_NATS
from rankviz.verdict.choosing import Comparison, compare
from rankviz.verdict.losses import RunLosses
from rankviz.verdict.tolerance import tolerance_nats

if TYPE_CHECKING:
    from rankviz.verdict.noise import Fit
    from rankviz.verdict.power import Needed

DIFFERENT, EQUAL, CANT_TELL = "different", "equal", "can't tell"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two ranks, r < s."""

    r: int
    s: int
    difference: float
    """Loss of r minus loss of s: above zero, r is worse."""
    low: float | None
    high: float | None
    """The interval of the difference, over runs and examples, all pairs at once; None: not known."""
    standard_error: float | None
    call: str
    """DIFFERENT: the interval leaves out zero and isn't within the tolerance. EQUAL: it is within the tolerance,
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
    """Mean over runs and examples, adjusted for seeds that it lacks."""
    run_losses: dict[str, float]
    """Mean over examples, by seed."""
    learning_rate: float | None
    learning_rates_tried: int
    call: str
    """Against the best."""


class AboveBest(NamedTuple):
    """A difference from the best rank, nats. low, high: None where the noise between runs is not known."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Which ranks can be told apart."""

    best: int
    """The lowest loss seen; whether it is really better is in the pairs."""
    smallest_indistinguishable: int
    indistinguishable_from_best: tuple[int, ...]
    """Ranks that aren't DIFFERENT from the best, itself among them."""
    ranks: tuple[RankLoss, ...]
    pairs: tuple[Pair, ...]
    tolerance_nats: float
    tolerance: str
    """As it was asked for."""
    examples: int
    seeds: int
    run_sd: float | None
    """Standard deviation of one run's loss over seeds; None of one run each."""
    unknown: str
    """Why nothing can be told, in a few words; empty where something can."""
    notes: tuple[str, ...]
    """What was left out and why, in sentences."""
    diverged: tuple[RunLosses, ...]
    noise: Fit

    def pair(self, r: int, s: int) -> Pair:
        return next(pair for pair in self.pairs if (pair.r, pair.s) == (min(r, s), max(r, s)))

    def above_best(self, r: int) -> AboveBest:
        """How far the rank's loss is above the best rank's, with the interval of that difference."""
        if r == self.best:
            return AboveBest(0.0, 0.0, 0.0)
        pair = self.pair(r, self.best)
        if pair.s == self.best:
            return AboveBest(pair.difference, pair.low, pair.high)
        low, high = (None, None) if pair.low is None else (-pair.high, -pair.low)
        return AboveBest(-pair.difference, low, high)

    def needed(self, pair: Pair) -> Needed | None:
        """What would tell a pair that can't be told; None where it can, or where the noise isn't known."""
        from rankviz.verdict.power import needed

        if pair.call != CANT_TELL or pair.low is None:
            return None
        noise = self.noise.pairs[pair.r, pair.s]
        return needed(self.noise.runs, noise, self.examples, pair.difference, self.tolerance_nats)

    @property
    def rates(self) -> dict[int, float | None]:
        return {rank.r: rank.learning_rate for rank in self.ranks}

    @property
    def noise_width(self) -> float | None:
        """So much above the best a rank may lie and not be told from it: the widest interval with the best, or the
        tolerance if that is more; None where nothing can be told."""
        halves = [p.half_width for p in self.pairs if self.best in (p.r, p.s) and p.half_width is not None]
        return max(*halves, self.tolerance_nats) if halves else None


def judge(
    runs: Sequence[RunLosses], *, tolerance: float | str = TOLERANCE_NATS, base_loss: float | None = None
) -> Verdict:
    """The verdict on runs that saw the same data and held-out examples.

    Args:
        runs: Any number of ranks, learning rates and seeds.
        tolerance: Differences surely smaller than this don't matter: nats, or "2%" of the gain over the base.
        base_loss: Of the untrained base, for a tolerance as a share.
    """
    from rankviz.verdict.noise import fit

    compared = compare(runs)
    found = fit(compared)
    best = min(compared.ranks, key=lambda r: (found.losses[r], r))
    nats = tolerance_nats(tolerance, best_loss=found.losses[best], base_loss=base_loss)
    ranks = compared.ranks
    pairs = tuple(_pair(compared, found, r, s, nats) for i, r in enumerate(ranks) for s in ranks[i + 1 :])
    calls = {p.s if p.r == best else p.r: p.call for p in pairs if best in (p.r, p.s)} | {best: EQUAL}
    within = tuple(r for r in ranks if calls[r] != DIFFERENT)
    return Verdict(
        best=best,
        smallest_indistinguishable=min(within),
        indistinguishable_from_best=within,
        ranks=tuple(
            RankLoss(
                r=r,
                loss=found.losses[r],
                run_losses={seed: float(compared.losses[r, seed].mean()) for seed in compared.seeds_of(r)},
                learning_rate=compared.rates[r],
                learning_rates_tried=compared.rates_tried[r],
                call=calls[r],
            )
            for r in ranks
        ),
        pairs=pairs,
        tolerance_nats=nats,
        tolerance=str(tolerance),
        examples=compared.examples,
        seeds=len(compared.seeds),
        run_sd=found.runs.sd if found.runs else None,
        unknown=_unknown(compared) if len(ranks) > 1 and found.runs is None else "",
        notes=compared.notes,
        diverged=compared.diverged,
        noise=found,
    )


def _pair(compared: Comparison, found: Fit, r: int, s: int, tolerance: float) -> Pair:
    from rankviz.verdict.noise import half_width, standard_error

    difference = found.losses[r] - found.losses[s]
    common = len(set(compared.seeds_of(r)) & set(compared.seeds_of(s)))
    noise = found.pairs.get((r, s))
    if noise is None:
        return Pair(
            r=r, s=s, difference=difference, low=None, high=None, standard_error=None, call=CANT_TELL, seeds=common
        )
    half = half_width(found.runs, noise, compared.examples)
    low, high = difference - half, difference + half
    return Pair(
        r=r,
        s=s,
        difference=difference,
        low=low,
        high=high,
        standard_error=standard_error(found.runs, noise),
        call=_call(low, high, tolerance),
        seeds=common,
    )


def _call(low: float, high: float, tolerance: float) -> str:
    if -tolerance <= low and high <= tolerance:
        return EQUAL
    return DIFFERENT if low > 0 or high < 0 else CANT_TELL


def _unknown(compared: Comparison) -> str:
    """Why the noise between runs isn't known."""
    counts = [len(compared.seeds_of(r)) for r in compared.ranks]
    if max(counts) == 1:
        return "one run each"
    if sum(n > 1 for n in counts) < 2:
        return "one run each but at one rank"
    shared = max(
        len(set(compared.seeds_of(r)) & set(compared.seeds_of(s)))
        for r in compared.ranks
        for s in compared.ranks
        if r < s
    )
    return "no two ranks share two seeds" if shared < 2 else "runs of different seeds are copies of one another"
