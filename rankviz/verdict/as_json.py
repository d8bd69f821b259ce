"""A verdict as plain JSON: what `rankviz verdict --json` prints and pages draw."""

from dataclasses import asdict
from typing import Any

from rankviz.verdict.borrowed import Borrowed
from rankviz.verdict.judge import Pair, RankLoss, Verdict
from rankviz.verdict.noise import CONFIDENCE
from rankviz.verdict.words import headline, sentences


def verdict_json(verdict: Verdict, borrowed: Borrowed | None = None, *, would_tell: bool = True) -> dict[str, Any]:
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


def _rank(verdict: Verdict, rank: RankLoss) -> dict[str, Any]:
    values = {"value": verdict.read(rank.loss)}
    values["run_values"] = {seed: verdict.read(loss) for seed, loss in rank.run_losses.items()}
    losses = {} if not verdict.metric.higher_is_better else {"loss": None, "run_losses": None}
    return asdict(rank) | losses | values | {"seeds": len(rank.run_losses)} | _above_best(verdict, rank.r)


def _pair(verdict: Verdict, pair: Pair, would_tell: bool) -> dict[str, Any]:
    need = verdict.needed(pair) if would_tell else None
    return {**asdict(pair), "would_tell": asdict(need) if need else None}


def _above_best(verdict: Verdict, r: int) -> dict[str, float | None]:
    above = verdict.above_best(r)
    return {"above_best": above.value, "above_best_low": above.low, "above_best_high": above.high}


def _borrowed(borrowed: Borrowed | None) -> dict[str, Any] | None:
    if borrowed is None:
        return None
    return {**asdict(borrowed), "sweeps": list(borrowed.sweeps), "difference": borrowed.difference}
