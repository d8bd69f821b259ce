"""The verdict in words: every sentence of it, and the three answers that a sweep gives."""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from typing import NamedTuple

from rankviz import units
from rankviz.core.forecast.decision import Decision, FinishedAdapter
from rankviz.core.forecast.quick_look import APART, BentRank, RateLook, ScoreLook
from rankviz.core.runs.fast_curve import Reading
from rankviz.core.runs.metric import LOSS
from rankviz.core.spectrum import FEW_STEPS
from rankviz.units import counted
from rankviz.verdict.judge import (
    CANT_TELL,
    DIFFERENT,
    EQUAL,
    SAME_NAMES,
    Pair,
    PairJSON,
    RankLoss,
    RankVerdictJSON,
    Verdict,
    VerdictJSON,
)
from rankviz.verdict.noise import CONFIDENCE
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
            f"The rank makes no practical difference here: {names([rank.r for rank in verdict.ranks])} are within "
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
    equal, undecided = _with_call(verdict, EQUAL), _with_call(verdict, CANT_TELL)
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
    from rankviz.verdict.distributions import expected_maximum

    by = expected_maximum(max(tried)) * math.sqrt(verdict.noise.runs.paired_variance / verdict.seeds)
    whom = "equally for all ranks" if len(set(tried)) == 1 else "more for ranks with more learning rates"
    yield f"{start} up to {verdict.metric.amount(by)} better than it is (if all its rates are equally good), {whom}."


def _ends(verdict: Verdict, pair: Pair) -> tuple[float, float]:
    """Interval of the other rank's difference from the best."""
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
    return [rank.r for rank in verdict.ranks if rank.r != verdict.best and rank.call == call]


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


def verdict_json(verdict: Verdict, *, would_tell: bool = True) -> VerdictJSON:
    """The verdict as JSON; what is not known is null. Losses are nats, the mean over examples; of an accuracy there are
    values in percent instead. Differences are nats or points, and above zero is worse.

    would_tell: Whether to find what would decide each pair, which takes a while of many.
    """
    return {
        "metric": verdict.metric.key,
        "unit": verdict.metric.units,
        "higher_is_better": verdict.metric.higher_is_better,
        **{name: getattr(verdict, name) for name in SAME_NAMES},
        "indistinguishable_from_best": list(verdict.indistinguishable_from_best),
        "pairs": [_pair(verdict, pair, would_tell) for pair in verdict.pairs],
        "ranks": [_rank(verdict, rank) for rank in verdict.ranks],
        "can_tell": not verdict.unknown,
        "why_not": verdict.unknown or None,
        "confidence": CONFIDENCE,
        "diverged": [{"r": run.r, "seed": run.seed, "learning_rate": run.learning_rate} for run in verdict.diverged],
        "borrowed_noise": None,
        "headline": headline(verdict),
        "sentences": sentences(verdict),
    }


def _rank(verdict: Verdict, rank: RankLoss) -> RankVerdictJSON:
    values = {"value": verdict.read(rank.loss)}
    values["run_values"] = {seed: verdict.read(loss) for seed, loss in rank.run_losses.items()}
    above = dict(zip(("above_best", "above_best_low", "above_best_high"), verdict.above_best(rank.r), strict=True))
    losses = {} if not verdict.metric.higher_is_better else {"loss": None, "run_losses": None}
    return asdict(rank) | losses | values | {"seeds": len(rank.run_losses)} | above


def _pair(verdict: Verdict, pair: Pair, would_tell: bool) -> PairJSON:
    need = verdict.needed(pair) if would_tell else None
    return {**asdict(pair), "would_tell": asdict(need) if need else None}


SETTLED, PARTLY, OPEN, UNTESTED = "Settled", "Partly settled", "Not settled", "Not tested"
SHIP = "Smallest good adapter"
COPIES = "Different seeds gave identical {}: check that each seed is a run of its own."
DIFFER, ALIKE = "More than noise", "Within noise"
"""Of two runs beside the noise of their repeats. Only several seeds of each would test it."""
TOO_SHORT = "Too few steps"
"""Instead of SETTLED and PARTLY: the test holds for so short a training, and says little of a longer one."""


class Answer(NamedTuple):
    """One answer: what it is about, the answer in a few characters, and a sentence."""

    about: str
    value: str
    sentence: str
    file_bytes: int | None = None
    """Of the adapter whose rounded size the answer has."""


class Shipped(NamedTuple):
    """The adapter that the answer on shipping names."""

    run_id: str
    r: int
    trained_r: int
    """The rank of its run; higher than r of a truncated one."""


def shipped(verdict: Verdict | None, decision: Decision | None, reading: Reading | None) -> Shipped | None:
    """What `summary` says to ship, of the same arguments; None where it says nothing of it."""
    if decision:
        ship = decision.ship
        return ship and Shipped(ship.run_id, ship.r, ship.trained_r)
    if not _of_one_training(verdict, reading):
        return None
    top = reading.curve.trained
    return Shipped(reading.curve.run_id, (reading.shippable or top).r, top.r)


def _of_one_training(verdict: Verdict | None, reading: Reading | None) -> bool:
    return reading is not None and (verdict is None or len(verdict.ranks) < 2)


def summary(
    verdict: Verdict | None,
    decision: Decision | None,
    reading: Reading | None,
    *,
    steps: int = FEW_STEPS,
    not_here: str = "",
    rate: RateLook | None = None,
    score: ScoreLook | None = None,
) -> tuple[Answer, ...]:
    """The three answers, as far as they are known.

    Args:
        verdict: Of a sweep in any metric; None before a run has been evaluated.
        decision: Of a sweep with finished runs at two ranks, by loss.
        reading: Of its best fast curve.
        steps: Of its shortest run.
        not_here: Why the adapter to ship cannot be downloaded, as a sentence.
        rate: Of a sweep of one rank at several learning rates.
        score: Of a sweep by a score, where no verdict compares its ranks.
    """
    return tuple(
        _after_few(each, steps) if each.about == "How sure" else _elsewhere(each, not_here)
        for each in (_of_rates(rate) if rate else _answers(verdict, decision, reading, score))
    )


def _after_few(answer: Answer, steps: int) -> Answer:
    if steps >= FEW_STEPS:
        return answer
    only = (
        f"Training had only {units.counted(steps, 'step')}: this says little, and longer training may change the ranks."
    )
    value = TOO_SHORT if answer.value in (SETTLED, PARTLY, DIFFER) else answer.value
    return answer._replace(value=value, sentence=f"{answer.sentence} {only}")


def _elsewhere(answer: Answer, not_here: str) -> Answer:
    if answer.about != SHIP or not not_here:
        return answer
    return answer._replace(sentence=f"{answer.sentence} {not_here}")


def _of_rates(rate: RateLook) -> tuple[Answer, ...]:
    first, *more = rate.sentences
    after = next(place for place, each in enumerate(more) if each.startswith("Do next"))
    sure = UNTESTED if rate.differs is None else DIFFER if rate.differs else ALIKE
    return (
        Answer("Better learning rate", f"{rate.best:g}", first),
        Answer("How sure", sure, " ".join(more[:after]) or "The other rate diverged."),
        Answer("Train next", f"r = {rate.r}" if len(more) > after + 1 else "Quick look", " ".join(more[after:])),
    )


def _answers(
    verdict: Verdict | None, decision: Decision | None, reading: Reading | None, score: ScoreLook | None
) -> tuple[Answer, ...]:
    if decision:
        answers = [_train_next(decision, verdict), _ship(decision.ship)]
        if not decision.settled:
            return tuple(filter(None, [*answers, _apart(decision)]))
    elif score:
        return (Answer("Train next", f"r = {score.pick}", " ".join(score.sentences[1:])),)
    elif _of_one_training(verdict, reading):
        return _enough(reading), _truncated(reading), _one_training(reading)
    elif verdict and len(verdict.ranks) > 1:
        answers = [_best(verdict), _smallest(verdict)]
    elif verdict:
        return (_only(verdict),)
    else:
        return ()
    answers.append(_how_sure(verdict) if verdict else None)
    return tuple(answer for answer in answers if answer)


def _train_next(decision: Decision, verdict: Verdict | None) -> Answer:
    rank = next(each for each in decision.forecast.ranks if each.r == decision.train_rank)
    lowest = min(decision.forecast.ranks, key=lambda each: each.median).r
    best = verdict.best if decision.settled and verdict else lowest
    trained = "Best rank so far" if rank.r == best else "Smallest good rank so far"
    about = "Train next" if rank.measured is None else trained
    return Answer(about, f"r = {rank.r}", _why(decision, rank, best))


def _apart(decision: Decision) -> Answer:
    """Compare the two ranks of a quick look with the noise of its repeats."""
    runs, noise = decision.forecast.runs, decision.forecast.noise_nats
    low, high = runs[0], runs[-1]
    gap = abs(low.loss - high.loss)
    differ = f"r = {low.r} and r = {high.r} differ by {LOSS.explained(gap)}"
    if noise is None:
        return Answer("How sure", UNTESTED, f"{differ}. The noise of one run is not known: no rank was trained twice.")
    if noise == 0:
        return Answer("How sure", UNTESTED, f"{differ}. {COPIES.format('losses')}")
    repeats = units.counted(sum(run.runs - 1 for run in runs), "repeat")
    times = f"{gap / noise:.1f} times the noise of one run (from {repeats})"
    return Answer("How sure", DIFFER if gap > APART * noise else ALIKE, f"{differ}, {times}.")


def _why(decision: Decision, rank: BentRank, best: int) -> str:
    if rank.r == best == decision.forecast.ranks[0].r:
        return f"It has the lowest loss. {_lower_still(rank.r)}"
    if decision.settled and rank.r == best:
        return "It has the lowest loss, and every lower rank is worse by more than the noise."
    if decision.settled:
        return f"It is the smallest rank that these runs cannot distinguish from the best one, r = {best}."
    within = LOSS.explained(decision.within, ".3g")
    if rank.r == best:
        return f"It has the lowest loss, and no lower rank here comes within {within} of it."
    sense = "estimated" if rank.measured is None else "measured"
    return f"It is the smallest rank whose {sense} loss is within {within} of the lowest, at r = {best}."


def _lower_still(r: int) -> str:
    return "No lower rank exists." if r == 1 else "It is also the lowest rank of these runs; no lower one was trained."


def _ship(ship: FinishedAdapter | None) -> Answer | None:
    if ship is None:
        return None
    size = units.file_size(ship.adapter_bytes)
    loss = f"measured held-out loss {ship.loss:.4f}"
    if ship.mean_loss is not None:
        loss += f", the best of {ship.seeds} seeds (mean {ship.mean_loss:.4f})"
    if ship.made == "trained":
        return Answer(
            SHIP,
            f"r = {ship.r}, {size}",
            f"The adapter that was trained at this rank: {loss}.",
            ship.adapter_bytes,
        )
    start = f"The adapter that was trained at r = {ship.trained_r}, truncated to r = {ship.r}"
    return Answer(SHIP, f"r = {ship.r}, about {size}", f"{start}: {loss}.", ship.adapter_bytes)


def _enough(reading: Reading) -> Answer:
    chosen, top = reading.chosen, reading.curve.trained
    within = LOSS.explained(reading.tolerance, ".3g")
    if chosen.r == top.r:
        why = f"This adapter uses its whole rank: truncated to any lower rank, it loses more than {within}."
    else:
        why = f"Truncated to r = {chosen.r}, the adapter trained at r = {top.r} stays within {within} of its best loss."
    return Answer("Enough for this adapter", f"r = {chosen.r}", why)


def _truncated(reading: Reading) -> Answer:
    point, top = reading.shippable, reading.curve.trained
    if point is None:
        size = units.file_size(top.adapter_bytes)
        return Answer(
            SHIP,
            f"r = {top.r}, {size}",
            f"The adapter as trained: held-out loss {top.loss:.4f}.",
            top.adapter_bytes,
        )
    size = units.file_size(point.adapter_bytes)
    loss = f"The adapter truncated to r = {point.r}: measured held-out loss {point.loss:.4f}."
    return Answer(SHIP, f"r = {point.r}, about {size}", loss, point.adapter_bytes)


def _one_training(reading: Reading) -> Answer:
    lower = f"r = {reading.curve.points[0].r}" if reading.curve.points[0].r < reading.chosen.r else "a lower rank"
    why = f"One training shows what this adapter needs; only a run at {lower} shows what such a run would learn."
    return Answer("How sure", "One training", why)


def _best(verdict: Verdict) -> Answer:
    best = verdict.rank(verdict.best)
    value = verdict.metric.text(verdict.read(best.loss))
    return Answer("Best rank", f"r = {best.r}", f"It has the {verdict.metric.superlative}: {value}.")


def _smallest(verdict: Verdict) -> Answer | None:
    if verdict.unknown:
        return None
    smallest = verdict.rank(verdict.smallest_indistinguishable)
    if smallest.r == verdict.best:
        why = "No smaller rank comes as near to the best as the noise allows."
        if smallest.r == verdict.ranks[0].r:
            why = _lower_still(smallest.r)
    else:
        value = verdict.metric.text(verdict.read(smallest.loss))
        why = f"The smallest rank that cannot be distinguished from the best one: {value}."
    return Answer("Smallest rank to consider", f"r = {smallest.r}", why)


def _only(verdict: Verdict) -> Answer:
    value = verdict.metric.text(verdict.read(verdict.ranks[0].loss))
    why = f"The {verdict.metric.noun} is {value}: train a second rank to compare it with."
    return Answer("Only rank", f"r = {verdict.best}", why)


def _how_sure(verdict: Verdict) -> Answer:
    if verdict.noise.copies:
        return Answer("How sure", UNTESTED, COPIES.format(verdict.metric.nouns))
    if verdict.unknown:
        reason = f"{verdict.unknown[0].upper()}{verdict.unknown[1:]}"
        why = f"{reason}, so a difference may be chance: {ENOUGH_SEEDS} seeds per rank would test it."
        return Answer("How sure", UNTESTED, why)
    return Answer("How sure", _settled(verdict), _tested(verdict))


def _settled(verdict: Verdict) -> str:
    calls = {rank.call for rank in verdict.ranks if rank.r != verdict.best}
    if CANT_TELL not in calls:
        return SETTLED
    return OPEN if calls == {CANT_TELL} else PARTLY


def _tested(verdict: Verdict) -> str:
    """Compare each rank with the best in one sentence."""
    best = f"r = {verdict.best}"
    calls = {call: _with_call(verdict, call) for call in (DIFFERENT, EQUAL, CANT_TELL)}
    parts = []
    if worse := calls[DIFFERENT]:
        parts.append(f"{names(worse)} {_is(worse)} worse than {best}")
    if equal := calls[EQUAL]:
        within = verdict.metric.explained(verdict.within, ".3g")
        parts.append(f"{names(equal)} {_is(equal)} equal to {'it' if parts else best} within {within}")
    if parts:
        parts[0] = f"With {100 * CONFIDENCE:.0f} % confidence, {parts[0]}"
    if undecided := calls[CANT_TELL]:
        seeds = units.counted(verdict.seeds, "seed")
        parts.append(f"{names(undecided)} cannot be distinguished from {'it' if parts else best} with {seeds} per rank")
    return f"{'; '.join(parts)}."
