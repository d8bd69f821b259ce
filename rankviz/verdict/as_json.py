"""A verdict as plain JSON: what `rankviz verdict --json` prints and pages draw."""

from dataclasses import asdict
from typing import TypedDict

from rankviz.core.json_shape import shape
from rankviz.verdict.borrowed import Borrowed
from rankviz.verdict.judge import Pair, RankLoss, Verdict
from rankviz.verdict.losses import Run
from rankviz.verdict.noise import CONFIDENCE
from rankviz.verdict.power import Needed
from rankviz.verdict.words import headline, sentences

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


class BorrowedJSON(shape(Borrowed)):
    """The noise between runs of other sweeps; two runs of equal rank differ by less than `difference` in 95 of 100
    cases."""

    difference: float


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
    borrowed_noise: BorrowedJSON | None
    headline: str
    sentences: list[str]


def verdict_json(verdict: Verdict, borrowed: Borrowed | None = None, *, would_tell: bool = True) -> VerdictJSON:
    """The verdict as JSON; what is not known is null. Losses are nats, the mean over examples; of an accuracy there are
    values in percent instead. Differences are nats or points, and above zero is worse.

    would_tell: Whether to find what would decide each pair, which takes a while of many.
    """
    return {
        "metric": verdict.metric.key,
        "unit": verdict.metric.units,
        "higher_is_better": verdict.metric.higher_is_better,
        "best": verdict.best,
        "smallest_indistinguishable": verdict.smallest_indistinguishable,
        "indistinguishable_from_best": list(verdict.indistinguishable_from_best),
        "pairs": [_pair(verdict, pair, would_tell) for pair in verdict.pairs],
        "ranks": [_rank(verdict, rank) for rank in verdict.ranks],
        "can_tell": not verdict.unknown,
        "why_not": verdict.unknown or None,
        "tolerance_nats": verdict.tolerance_nats,
        "within": verdict.within,
        "tolerance": verdict.tolerance,
        "confidence": CONFIDENCE,
        "seeds": verdict.seeds,
        "examples": verdict.examples,
        "run_sd": verdict.run_sd,
        "noise_width": verdict.noise_width,
        "diverged": [{"r": run.r, "seed": run.seed, "learning_rate": run.learning_rate} for run in verdict.diverged],
        "borrowed_noise": _borrowed(borrowed) if verdict.unknown else None,
        "headline": headline(verdict),
        "sentences": sentences(verdict, borrowed),
    }


def _rank(verdict: Verdict, rank: RankLoss) -> RankVerdictJSON:
    values = {"value": verdict.read(rank.loss)}
    values["run_values"] = {seed: verdict.read(loss) for seed, loss in rank.run_losses.items()}
    losses = {} if not verdict.metric.higher_is_better else {"loss": None, "run_losses": None}
    return asdict(rank) | losses | values | {"seeds": len(rank.run_losses)} | _above_best(verdict, rank.r)


def _pair(verdict: Verdict, pair: Pair, would_tell: bool) -> PairJSON:
    need = verdict.needed(pair) if would_tell else None
    return {**asdict(pair), "would_tell": asdict(need) if need else None}


def _above_best(verdict: Verdict, r: int) -> dict[str, float | None]:
    above = verdict.above_best(r)
    return {"above_best": above.value, "above_best_low": above.low, "above_best_high": above.high}


def _borrowed(borrowed: Borrowed | None) -> BorrowedJSON | None:
    if borrowed is None:
        return None
    return {**asdict(borrowed), "sweeps": list(borrowed.sweeps), "difference": borrowed.difference}
