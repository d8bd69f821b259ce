"""What a sweep says in at most three sentences: what to train next, what to ship now, and how sure that is."""

from collections.abc import Sequence
from typing import NamedTuple

from rankviz import units
from rankviz.core.forecast.decision import Decision, FinishedAdapter
from rankviz.core.forecast.quick_look import APART, BentRank, RateLook, ScoreLook
from rankviz.core.runs.fast_curve import Reading
from rankviz.core.runs.metric import LOSS
from rankviz.core.spectrum import FEW_STEPS
from rankviz.verdict.judge import CANT_TELL, DIFFERENT, EQUAL, RankLoss, Verdict
from rankviz.verdict.noise import CONFIDENCE
from rankviz.verdict.words import ENOUGH_SEEDS, names

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
        answers = [_train(decision, verdict), _ship(decision.ship)]
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


def _train(decision: Decision, verdict: Verdict | None) -> Answer:
    rank = next(each for each in decision.forecast.ranks if each.r == decision.train_rank)
    best = _best_rank(decision, verdict)
    trained = "Best rank so far" if rank.r == best else "Smallest good rank so far"
    about = "Train next" if rank.measured is None else trained
    return Answer(about, f"r = {rank.r}", _why(decision, rank, best))


def _apart(decision: Decision) -> Answer:
    """How sure a quick look is: its two ranks, in the noise of its repeats."""
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


def _best_rank(decision: Decision, verdict: Verdict | None) -> int:
    return verdict.best if decision.settled and verdict else min(decision.forecast.ranks, key=_loss).r


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


def _loss(rank: BentRank) -> float:
    return rank.median


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
    best = _rank(verdict, verdict.best)
    value = verdict.metric.text(verdict.read(best.loss))
    return Answer("Best rank", f"r = {best.r}", f"It has the {verdict.metric.superlative}: {value}.")


def _smallest(verdict: Verdict) -> Answer | None:
    if verdict.unknown:
        return None
    smallest = _rank(verdict, verdict.smallest_indistinguishable)
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
    """How each rank compares with the best, in one sentence."""
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


def _with_call(verdict: Verdict, call: str) -> list[int]:
    return [rank.r for rank in verdict.ranks if rank.r != verdict.best and rank.call == call]


def _rank(verdict: Verdict, r: int) -> RankLoss:
    return next(rank for rank in verdict.ranks if rank.r == r)


def _is(ranks: Sequence[int]) -> str:
    return "is" if len(ranks) == 1 else "are"
