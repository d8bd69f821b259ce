"""The verdict in words: sentences, each of which can be read by itself."""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from typing import TypedDict

from rankviz.core.from_json import shape
from rankviz.core.runs.metric import LOSS
from rankviz.units import counted
from rankviz.verdict.judge import CANT_TELL, DIFFERENT, EQUAL, Pair, RankLoss, Verdict
from rankviz.verdict.losses import Run
from rankviz.verdict.noise import CONFIDENCE, expected_maximum
from rankviz.verdict.power import DOUBLINGS, SEEDS, Needed

ENOUGH_SEEDS = 3
"""Per rank: with two, an interval is wide mostly for lack of degrees of freedom."""
MOST = 0.5
"""A share of the uncertainty above this is named."""


def headline(verdict: Verdict) -> str:
    """The first sentence: what holds for the smallest rank."""
    best, smallest = f"r = {verdict.best}", f"r = {verdict.smallest_indistinguishable}"
    top = verdict.metric.superlative
    if len(verdict.ranks) == 1:
        return f"Only {best} has finished runs: no other rank to compare it with."
    if verdict.unknown:
        return (
            f"No verdict possible: {verdict.unknown}. {_leaders(verdict)}, but the effect of another seed is "
            "not known, so any of these ranks may be as good."
        )
    calls = {rank.call for rank in verdict.ranks if rank.r != verdict.best}
    if calls == {DIFFERENT}:
        return f"{best} is best: every other rank is worse by more than the noise."
    if len(verdict.tied) > 1:
        return f"{_leaders(verdict)}. {_tie(verdict, calls)}"
    if calls == {EQUAL}:
        return (
            f"The rank makes no practical difference here: {names(_with_call(verdict, EQUAL))} are within "
            f"{_tolerance(verdict)} of the best rank, {best}. The smallest of them is {smallest}."
        )
    if verdict.best == verdict.ranks[0].r:
        return f"{best}, the smallest rank tried, has the {top}. {_others(verdict)}"
    if verdict.best == verdict.smallest_indistinguishable:
        return f"{best} has the {top}, and every smaller rank is worse by more than the noise. {_others(verdict)}"
    return (
        f"{best} has the {top}. The smallest rank that cannot be distinguished from it is {smallest}. "
        f"{_others(verdict)}"
    ).rstrip()


def _leaders(verdict: Verdict) -> str:
    """Which rank has the best value, or which ranks share it."""
    if len(verdict.tied) == 1:
        return f"r = {verdict.best} has the {verdict.metric.superlative}"
    value = verdict.metric.text(verdict.read(min(rank.loss for rank in verdict.ranks)))
    if len(verdict.tied) == len(verdict.ranks):
        return f"{names(verdict.tied)} have the same {verdict.metric.noun}, {value}"
    return f"{names(verdict.tied)} share the {verdict.metric.superlative}, {value}"


def _tie(verdict: Verdict, calls: Collection[str]) -> str:
    """What equal values show."""
    if calls == {EQUAL}:
        return f"The rank makes no practical difference here: all differences are within {_tolerance(verdict)}."
    if len(verdict.tied) < len(verdict.ranks):
        return f"The smallest rank that cannot be distinguished from them is r = {verdict.smallest_indistinguishable}."
    most = max((pair.high for pair in verdict.pairs if pair.high is not None), default=None)
    bound = "" if most is None else f": the ranks may differ by up to {verdict.metric.amount(most)}"
    return f"This does not show that they are equal{bound}."


def sentences(verdict: Verdict) -> list[str]:
    """All sentences of a verdict, most important first."""
    return [
        headline(verdict),
        *_against_best(verdict),
        *_noise(verdict),
        *_what_would_decide(verdict),
        *_rates(verdict),
        *verdict.notes,
    ]


def _others(verdict: Verdict) -> str:
    equal = [r for r in _with_call(verdict, EQUAL) if r != verdict.best]
    undecided = _with_call(verdict, CANT_TELL)
    others = [r for r in undecided if r != verdict.smallest_indistinguishable]  # the headline names that one
    either = " either" if others != undecided else ""
    parts = [f"{names(equal)} {_is(equal)} equal to it within {_tolerance(verdict)}."] if equal else []
    parts += [f"{names(others)} cannot be distinguished from the best rank{either}."] if others else []
    return " ".join(parts)


def _against_best(verdict: Verdict) -> Iterable[str]:
    known = [p for p in verdict.pairs if verdict.best in (p.r, p.s) and p.low is not None]
    worse = [p for p in known if p.call == DIFFERENT]
    rest = [p for p in known if p.call != DIFFERENT]
    if worse:
        spans = "; ".join(_worse_by(verdict, p) for p in worse)
        yield f"Worse than r = {verdict.best}: {spans}."
    if rest:
        spans = "; ".join(_span(verdict, p) for p in rest)
        yield f"Difference from r = {verdict.best} in {verdict.metric.units} (above 0 is worse): {spans}."
    if verdict.unknown:
        return
    if others := [p for p in verdict.pairs if verdict.best not in (p.r, p.s) and p.call == CANT_TELL]:
        yield f"No difference detected between {', '.join(f'r = {p.r} and {p.s}' for p in others)}."
    if alone := [_other(p, verdict.best) for p in verdict.pairs if p.low is None and verdict.best in (p.r, p.s)]:
        yield f"{names(alone)} cannot be compared with r = {verdict.best}: they have fewer than two seeds in common."


def _noise(verdict: Verdict) -> Iterable[str]:
    if verdict.run_sd is None:
        return
    pairs = len([p for p in verdict.pairs if p.low is not None])
    at_once = f" for all {pairs} pairs together" if pairs > 1 else ""
    where = f"{counted(verdict.seeds, 'seed')} and {counted(verdict.examples, 'held-out example')}"
    if verdict.examples == 1:
        where = (
            f"{counted(verdict.seeds, 'seed')}; each run has a single {verdict.metric.noun}, so the choice of examples "
            "is not included"
        )
    noun, sd = verdict.metric.noun, verdict.metric.amount(verdict.run_sd)
    varies = f"The {noun} of one run varies with its seed by {sd} (standard deviation)."
    if verdict.noise.assumed:
        varies = (
            f"The {noun} was the same with every seed; a variation of {sd} (standard deviation) is assumed, as if half "
            "an example had differed."
        )
    yield (
        f"Intervals have {100 * CONFIDENCE:.0f} % confidence{at_once}, from {where}. {varies} Ranks count as "
        f"equal if the whole interval of their difference is within {_tolerance(verdict, explained=True)}."
    )


def _what_would_decide(verdict: Verdict) -> Iterable[str]:
    if verdict.noise.copies:
        check = "Check that each seed is a run of its own"
        if verdict.metric is LOSS:
            yield f"{check}: two runs never have the same losses."
        else:
            yield f"{check}. If it is, compare the ranks by held-out loss, or evaluate more held-out examples."
        return
    if verdict.unknown and len(verdict.ranks) > 1:
        yield f"To measure the noise between runs, run each rank with the same {ENOUGH_SEEDS} or more seeds."
        return
    if (pair := _deciding(verdict)) is None:
        return
    need, gap = verdict.needed(pair), abs(pair.difference)
    start = f"If the observed gap of {verdict.metric.amount(gap)} between r = {pair.r} and r = {pair.s} is real"
    if {pair.r, pair.s} <= set(verdict.tied):
        start = f"If r = {pair.r} and r = {pair.s} are really equal"
    if need.seeds is None and need.examples is None:
        most = verdict.examples << DOUBLINGS
        yield (
            f"{start}, more than {SEEDS[-1]} seeds per rank would be needed to confirm it, and {most:,} held-out "
            "examples alone would not be enough: choose the smaller rank, or a tolerance further from that gap."
        )
    elif need.seeds is None:
        yield f"{start}, about {_examples(verdict, need)} would confirm it; {SEEDS[-1]} seeds per rank alone would not."
    elif need.examples is None:
        share = f": {100 * need.runs_share:.0f} % of the uncertainty is between runs" if need.runs_share > MOST else ""
        yield f"{start}, about {_seeds(need, pair)} would confirm it. More held-out examples alone would not{share}."
    else:
        yield f"{start}, about {_seeds(need, pair)}, or {_examples(verdict, need)}, would confirm it."
    yield f"These {verdict.metric.nouns} do not show how large the gap is after more training steps."


def _examples(verdict: Verdict, need: Needed) -> str:
    return f"{counted(need.examples, 'held-out example')} instead of {verdict.examples:,}"


def _seeds(need: Needed, pair: Pair) -> str:
    doubt = ""
    if need.seeds_low != need.seeds_high:
        high = f"more than {SEEDS[-1]}" if need.seeds_high is None else need.seeds_high
        doubt = f"; {need.seeds_low} to {high}, because the noise is estimated from few runs"
    return f"{counted(need.seeds, 'seed')} per rank ({need.seeds - pair.seeds} more{doubt})"


def _deciding(verdict: Verdict) -> Pair | None:
    """The pair that decides the smallest rank: it and the best, or the first undecided one."""
    undecided = [p for p in verdict.pairs if verdict.best in (p.r, p.s) and p.call == CANT_TELL and p.low is not None]
    return min(undecided, key=lambda p: _other(p, verdict.best), default=None)


def _rates(verdict: Verdict) -> Iterable[str]:
    tried = [rank.learning_rates_tried for rank in verdict.ranks]
    if max(tried) < 2:
        return
    count = f"{tried[0]}" if len(set(tried)) == 1 else f"{min(tried)} to {max(tried)}"
    start = (
        f"Each rank is shown at the best of {count} learning rates, chosen by these same {verdict.metric.nouns}, so "
        f"its {verdict.metric.noun} looks"
    )
    if verdict.noise.runs is None:
        yield f"{start} better than it is; one run per learning rate does not show by how much."
        return
    by = expected_maximum(max(tried)) * math.sqrt(verdict.noise.runs.paired_variance / verdict.seeds)
    whom = "equally for all ranks" if len(set(tried)) == 1 else "more for ranks with more learning rates"
    yield f"{start} up to {verdict.metric.amount(by)} better than it is (if all its rates are equally good), {whom}."


def _ends(verdict: Verdict, pair: Pair) -> tuple[float, float]:
    """How far the other rank lies above the best."""
    return (pair.low, pair.high) if pair.s == verdict.best else (-pair.high, -pair.low)


def _worse_by(verdict: Verdict, pair: Pair) -> str:
    low, high = _ends(verdict, pair)
    return f"r = {_other(pair, verdict.best)} by {low:.{verdict.metric.digits}f} to {verdict.metric.amount(high)}"


def _span(verdict: Verdict, pair: Pair) -> str:
    low, high = _ends(verdict, pair)
    return f"r = {_other(pair, verdict.best)} {_signed(verdict, low)} to {_signed(verdict, high)}"


def _signed(verdict: Verdict, difference: float) -> str:
    return f"{difference:+.{verdict.metric.digits}f}".replace("-", "−")


def _other(pair: Pair, r: int) -> int:
    return pair.s if pair.r == r else pair.r


def _with_call(verdict: Verdict, call: str) -> list[int]:
    return [rank.r for rank in verdict.ranks if rank.call == call]


def _tolerance(verdict: Verdict, *, explained: bool = False) -> str:
    """explained: with what nats are in perplexity, which is said once."""
    share = f" ({verdict.tolerance} of the gain)" if verdict.tolerance.strip().endswith("%") else ""
    metric = verdict.metric
    return f"{(metric.explained if explained else metric.amount)(verdict.within, '.3g')}{share}"


def _is(ranks: Sequence[int]) -> str:
    return "is" if len(ranks) == 1 else "are"


def names(ranks: Sequence[int]) -> str:
    """ "r = 4, 16 and 64"."""
    each = [f"r = {ranks[0]}", *map(str, ranks[1:])]
    return each[0] if len(each) == 1 else f"{', '.join(each[:-1])} and {each[-1]}"


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


def verdict_json(verdict: Verdict, *, would_tell: bool = True) -> VerdictJSON:
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
        "borrowed_noise": None,
        "headline": headline(verdict),
        "sentences": sentences(verdict),
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
