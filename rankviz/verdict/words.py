"""The verdict as sentences, and at most three short answers of a sweep."""

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rankviz import units
from rankviz.core.forecast import decision as decisions
from rankviz.core.forecast.decision import Decision
from rankviz.core.forecast.quick_look import APART, RateLook, ScoreLook
from rankviz.core.lora.targets import listed
from rankviz.core.runs.fast_curve import Reading
from rankviz.core.runs.metric import LOSS
from rankviz.core.spectrum import FEW_STEPS
from rankviz.units import counted
from rankviz.verdict.judge import CANT_TELL, DIFFERENT, EQUAL, Verdict
from rankviz.verdict.noise import CONFIDENCE, SEEDS

ENOUGH_SEEDS = 3
"""Recommended seeds per rank: with two, intervals are wide mostly for lack of degrees of freedom."""


def headline(verdict: Verdict) -> str:
    """Return the first sentence: the result for the smallest rank."""
    best, superlative = f"r = {verdict.best}", verdict.metric.superlative
    equal, undecided = verdict.called(EQUAL), verdict.called(CANT_TELL)
    if len(verdict.ranks) == 1:
        return f"Only {best} has finished runs: no other rank to compare it with."
    if verdict.unknown:
        return (
            f"No verdict possible: {verdict.unknown}. {best} has the {superlative}, but the effect of another seed is "
            "not known, so any of these ranks may be as good."
        )
    if not equal and not undecided:
        return f"{best} is best: every other rank is worse by more than the noise."
    within, smallest = _tolerance(verdict), verdict.smallest_indistinguishable
    if len(equal) + 1 == len(verdict.ranks):
        return (
            f"{best} has the {superlative}. The rank makes no practical difference here: all differences are within "
            f"{within}."
        )
    if verdict.best == verdict.ranks[0].r:
        first = f"{best}, the smallest rank tried, has the {superlative}."
    elif verdict.best == smallest:
        first = f"{best} has the {superlative}, and every smaller rank is worse by more than the noise."
    else:
        first = (
            f"{best} has the {superlative}. The smallest rank that cannot be distinguished from it is r = {smallest}."
        )
    if others := [r for r in undecided if r != smallest]:
        first += f" {names(others)} cannot be distinguished from it{' either' if others != undecided else ''}."
    if equal:
        first += f" {names(equal)} {'is' if len(equal) == 1 else 'are'} equal to it within {within}."
    return first


def sentences(verdict: Verdict) -> list[str]:
    """Return all sentences of a verdict, the most important first."""
    return [headline(verdict), *_differences(verdict), *_noise(verdict), *_next(verdict), *verdict.notes]


def _differences(verdict: Verdict) -> Iterable[str]:
    best, metric, spans = verdict.best, verdict.metric, {True: [], False: []}
    for pair in verdict.with_best:
        if pair.low is not None:
            _, low, high = verdict.above_best(r := pair.other(best))
            ends = (f"{end:+.{metric.digits}f}".replace("-", "−") for end in (low, high))
            spans[pair.call == DIFFERENT].append(f"r = {r} {' to '.join(ends)}")
    unit = f"in {metric.units} (above 0 is worse)"
    if spans[True]:
        yield f"Worse than r = {best} by more than the noise, {unit}: {'; '.join(spans[True])}."
    if spans[False]:
        yield f"Difference from r = {best} {unit}: {'; '.join(spans[False])}."
    if alone := [pair.other(best) for pair in verdict.with_best if pair.low is None and not verdict.unknown]:
        yield f"{names(alone)} cannot be compared with r = {best}: they have fewer than two seeds in common."


def _noise(verdict: Verdict) -> Iterable[str]:
    metric = verdict.metric
    if verdict.run_sd is not None:
        yield (
            f"Intervals have {100 * CONFIDENCE:.0f} % confidence for all pairs together, from "
            f"{counted(verdict.seeds, 'seed')} and {counted(verdict.examples, 'held-out example')}. The {metric.noun} "
            f"of one run varies with its seed by {metric.amount(verdict.run_sd)} (standard deviation). Ranks count as "
            f"equal if the whole interval of their difference is within {_tolerance(verdict, explained=True)}."
        )
    if (most := max(rank.learning_rates_tried for rank in verdict.ranks)) > 1:
        yield (
            f"Each rank is shown at the best of up to {most} learning rates, chosen by these same {metric.nouns}, so "
            f"its {metric.noun} looks better than it is."
        )


def _next(verdict: Verdict) -> Iterable[str]:
    """Yield what would decide the smallest rank's pair with the best, or the first undecided pair."""
    if verdict.unknown and len(verdict.ranks) > 1:
        yield f"To measure the noise between runs, run each rank with the same {ENOUGH_SEEDS} or more seeds."
    undecided = [pair for pair in verdict.with_best if pair.call == CANT_TELL and pair.low is not None]
    if not undecided:
        return
    pair = min(undecided, key=lambda pair: pair.other(verdict.best))
    need, gap = verdict.needed(pair), verdict.metric.amount(abs(pair.difference))
    ways = []
    if need.seeds is not None:
        high = f"more than {SEEDS[-1]}" if need.seeds_high is None else need.seeds_high
        ways.append(
            f"{counted(need.seeds, 'seed')} per rank ({need.seeds - pair.seeds} more; {need.seeds_low} to {high}, "
            "because the noise is estimated from few runs)"
        )
    if need.examples is not None:
        ways.append(f"{counted(need.examples, 'held-out example')} instead of {verdict.examples:,}")
    about = f"about {' or '.join(ways)} would confirm it."
    if not ways:
        about = f"more than {SEEDS[-1]} seeds per rank would be needed to confirm it: choose the smaller rank."
    yield f"If the observed gap of {gap} between r = {pair.r} and r = {pair.s} is real, {about}"
    yield f"These {verdict.metric.nouns} do not show how large the gap is after more training steps."


def _tolerance(verdict: Verdict, *, explained: bool = False) -> str:
    """Return the tolerance in words. explained: with the change of perplexity."""
    share = f" ({verdict.tolerance} of the gain)" if verdict.tolerance.strip().endswith("%") else ""
    return f"{(verdict.metric.explained if explained else verdict.metric.amount)(verdict.within, '.3g')}{share}"


def names(ranks: Sequence[int]) -> str:
    """Return "r = 4, 16 and 64"."""
    return f"r = {listed(map(str, ranks))}"


SETTLED, PARTLY, OPEN, UNTESTED = "Settled", "Partly settled", "Not settled", "Not tested"
SURE = "How sure"
DIFFER, ALIKE = "More than noise", "Within noise"
"""Two single runs compared with the noise of repeats. Only several seeds of each would test the difference."""


class Answer(NamedTuple):
    """One answer of a sweep: subject, answer in a few characters, and sentence."""

    about: str
    value: str
    sentence: str
    file_bytes: int | None = None
    """Size of the adapter that the answer names; None for other answers."""


class Shipped(NamedTuple):
    """Adapter that the answer on shipping names."""

    run_id: str
    r: int
    trained_r: int
    """Rank of its run; higher than r for a truncated adapter."""


def shipped(verdict: Verdict | None, decision: Decision | None, reading: Reading | None) -> Shipped | None:
    """Return the adapter that `summary` recommends to ship, from the same arguments; None where it recommends none."""
    if decision:
        return decision.ship and Shipped(decision.ship.run_id, decision.ship.r, decision.ship.trained_r)
    if not _is_one_training(verdict, reading):
        return None
    top = reading.curve.trained
    return Shipped(reading.curve.run_id, (reading.shippable or top).r, top.r)


def _is_one_training(verdict: Verdict | None, reading: Reading | None) -> bool:
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
    """Return at most three answers, as far as they are known.

    Args:
        verdict: Verdict on the sweep in any metric; None before a run has been evaluated.
        decision: Decision by loss; None without finished runs at two ranks.
        reading: Reading of the sweep's best fast curve; None without one.
        steps: Training steps of the shortest run.
        not_here: Reason why the adapter to ship cannot be downloaded, as a sentence; empty where it can.
        rate: Comparison of learning rates, for a sweep of one rank.
        score: Choice by a score, where no verdict compares the ranks.
    """
    few = f"Training had only {counted(steps, 'step')}: longer training may change the ranks."
    after = {SURE: few if steps < FEW_STEPS else "", decisions.SHIP: not_here}
    answers = _of_rates(rate) if rate else _answers(verdict, decision, reading, score)
    return tuple(each._replace(sentence=f"{each.sentence} {after.get(each.about, '')}".rstrip()) for each in answers)


def _of_rates(rate: RateLook) -> Iterable[Answer]:
    yield Answer("Better learning rate", f"{rate.best:g}", rate.sentences[0])
    yield Answer(SURE, UNTESTED if rate.differs is None else DIFFER if rate.differs else ALIKE, rate.sentences[1])
    yield Answer("Train next", f"r = {rate.r}" if rate.goes_on else "Quick look", rate.sentences[2])


def _answers(
    verdict: Verdict | None, decision: Decision | None, reading: Reading | None, score: ScoreLook | None
) -> Iterable[Answer]:
    if decision:
        yield from itertools.starmap(Answer, decision.answers)
        if not decision.settled:
            yield _two_runs(decision)
            return
    elif score:
        yield Answer("Train next", f"r = {score.pick}", " ".join(score.sentences[1:]))
        return
    elif _is_one_training(verdict, reading):
        yield from _of_reading(reading)
        return
    if verdict is None:
        return
    metric, best = verdict.metric, verdict.rank(verdict.best)
    value = metric.text(verdict.read(best.loss))
    if len(verdict.ranks) == 1:
        yield Answer("Only rank", f"r = {best.r}", f"The {metric.noun} is {value}: train a second rank to compare.")
        return
    if not decision:
        yield Answer("Best rank", f"r = {best.r}", f"It has the {metric.superlative}: {value}.")
        if not verdict.unknown:
            r = verdict.smallest_indistinguishable
            value = metric.text(verdict.read(verdict.rank(r).loss))
            yield Answer("Smallest rank to consider", f"r = {r}", f"Its {metric.noun} is {value}.")
    calls = {rank.call for rank in verdict.ranks if rank.r != verdict.best}
    sure = SETTLED if CANT_TELL not in calls else OPEN if calls == {CANT_TELL} else PARTLY
    yield Answer(SURE, UNTESTED if verdict.unknown else sure, headline(verdict))


def _two_runs(decision: Decision) -> Answer:
    runs, noise = decision.forecast.runs, decision.forecast.noise_nats
    gap = abs(runs[0].loss - runs[-1].loss)
    differ = f"r = {runs[0].r} and r = {runs[-1].r} differ by {LOSS.explained(gap)}"
    if not noise:
        return Answer(SURE, UNTESTED, f"{differ}. The noise of one run is not known: no rank was trained twice.")
    repeats = counted(sum(run.runs - 1 for run in runs), "repeat")
    times = f"{gap / noise:.1f} times the noise of one run (from {repeats})"
    return Answer(SURE, DIFFER if gap > APART * noise else ALIKE, f"{differ}, {times}.")


def _of_reading(reading: Reading) -> Iterable[Answer]:
    chosen, top, point = reading.chosen, reading.curve.trained, reading.shippable
    yield Answer("Enough for this adapter", f"r = {chosen.r}", reading.sentences[0])
    ship, made, about = (top, "as trained", "") if point is None else (point, f"truncated to r = {point.r}", "about ")
    size = f"{about}{units.file_size(ship.adapter_bytes)}"
    loss = f"The adapter {made}: measured held-out loss {ship.loss:.4f}."
    yield Answer(decisions.SHIP, f"r = {ship.r}, {size}", loss, ship.adapter_bytes)
    yield Answer(
        SURE, "One training", "One training shows what this adapter needs, not what a run at a lower rank learns."
    )
