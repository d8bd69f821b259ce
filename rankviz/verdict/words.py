"""The verdict in sentences, and at most three short answers on a sweep."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rankviz.core.forecast.decision import SHIP, Decision, FinishedAdapter
from rankviz.core.forecast.quick_look import APART, RateLook, ScoreLook
from rankviz.core.lora.targets import listed
from rankviz.core.runs.fast_curve import Reading
from rankviz.core.runs.metric import LOSS
from rankviz.core.spectrum import FEW_STEPS
from rankviz.units import counted
from rankviz.verdict.judge import CANT_TELL, DIFFERENT, EQUAL, Verdict
from rankviz.verdict.noise import CONFIDENCE, SEEDS

ENOUGH_SEEDS = 3
"""Recommended seeds per rank. With two, intervals are wide, mostly for lack of degrees of freedom."""


def headline(verdict: Verdict, decision: Decision | None = None) -> str:
    """Return the first sentence: the result for the smallest rank. decision: by loss, where no verdict is possible."""
    best, superlative, smallest = f"r = {verdict.best}", verdict.metric.superlative, verdict.smallest_indistinguishable
    equal, undecided = verdict.called(EQUAL), verdict.called(CANT_TELL)
    if len(verdict.ranks) == 1:
        return f"Only {best} has finished runs: no other rank to compare it with."
    if verdict.unknown and decision:
        return f"{decision.about}: r = {decision.train.r}; {_two_runs(decision).sentence}"
    if verdict.unknown:
        return (
            f"No verdict possible: {verdict.unknown}. {best} has the {superlative}, but the effect of another seed is "
            "not known, so any of these ranks may be as good."
        )
    if not equal and not undecided:
        return f"{best} is best: every other rank is worse by more than the noise."
    if len(equal) + 1 == len(verdict.ranks):
        return (
            f"{best} has the {superlative}. The rank makes no practical difference here: all differences are within "
            f"{_tolerance(verdict)}."
        )
    words = [f"{best} has the {superlative}."]
    if smallest != verdict.best:
        words.append(f"The smallest rank that cannot be distinguished from it is r = {smallest}.")
    elif verdict.best != verdict.ranks[0].r:
        words.append("Every smaller rank is worse by more than the noise.")
    if others := [r for r in undecided if r != smallest]:
        words.append(f"{names(others)} cannot be distinguished from it.")
    if equal:
        words.append(f"Equal to it within {_tolerance(verdict)}: {names(equal)}.")
    return " ".join(words)


def sentences(verdict: Verdict) -> list[str]:
    """Return all sentences of a verdict, the most important first."""
    return [headline(verdict), *_differences(verdict), *_noise(verdict), *_next(verdict), *verdict.notes]


def _differences(verdict: Verdict) -> Iterable[str]:
    best, metric = verdict.best, verdict.metric
    others = [rank for rank in verdict.ranks if rank.r != best]
    spans: dict[bool, list[str]] = {True: [], False: []}
    for rank in others:
        if rank.above_best_low is not None:
            ends = (f"{end:+.{metric.digits}f}" for end in (rank.above_best_low, rank.above_best_high))
            spans[rank.call == DIFFERENT].append(f"r = {rank.r} {' to '.join(ends)}".replace("-", "−"))
    unit = f"in {metric.units} (above 0 is worse)"
    if spans[True]:
        yield f"Worse than r = {best} by more than the noise, {unit}: {'; '.join(spans[True])}."
    if spans[False]:
        yield f"Difference from r = {best} {unit}: {'; '.join(spans[False])}."
    if alone := [rank.r for rank in others if rank.above_best_low is None and not verdict.unknown]:
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
    if note := rate_note(verdict):
        yield note


def rate_note(verdict: Verdict) -> str:
    """Return a sentence on whether the learning rate, which matters more than rank, was tuned; empty where unknown."""
    metric = verdict.metric
    if (most := max(rank.learning_rates_tried for rank in verdict.ranks)) > 1:
        return (
            f"Each rank is shown at the best of up to {most} learning rates, chosen by these same {metric.nouns}, so "
            f"its {metric.noun} looks better than it is."
        )
    rates = sorted({rank.learning_rate for rank in verdict.ranks if rank.learning_rate is not None})
    if not rates or len(verdict.ranks) == 1:
        return ""
    return f"Learning rate not tuned ({listed(f'{rate:g}' for rate in rates)}): it may suit some ranks better."


def _next(verdict: Verdict) -> Iterable[str]:
    """Yield sentences on what would decide the undecided pair."""
    if verdict.unknown:
        yield f"To measure the noise between runs, run each rank with the same {ENOUGH_SEEDS} or more seeds."
    if (pair := verdict.undecided) is None:
        return
    need, gap = verdict.needed, verdict.metric.amount(abs(pair.difference))
    ways = [f"{counted(need.seeds, 'seed')} per rank ({need.seeds - pair.seeds} more)"] if need.seeds else []
    if need.examples:
        ways.append(f"{counted(need.examples, 'held-out example')} instead of {verdict.examples:,}")
    about = f"about {' or '.join(ways)} would confirm it."
    if not ways:
        about = f"more than {SEEDS[-1]} seeds per rank would be needed to confirm it: choose the smaller rank."
    yield f"If the observed gap of {gap} between r = {pair.r} and r = {pair.s} is real, {about}"


def _tolerance(verdict: Verdict, *, explained: bool = False) -> str:
    """Return the tolerance in words. explained: True to add the change of perplexity."""
    share = f" ({verdict.tolerance} of the gain)" if verdict.tolerance.strip().endswith("%") else ""
    return f"{(verdict.metric.explained if explained else verdict.metric.amount)(verdict.within, '.3g')}{share}"


def names(ranks: Sequence[int]) -> str:
    """Return ranks as a phrase: "r = 4, 16 and 64"."""
    return f"r = {listed(map(str, ranks))}"


SETTLED, PARTLY, OPEN, UNTESTED = "Settled", "Partly settled", "Not settled", "Not tested"
SURE, NEXT = "How sure", "Train next"
DIFFER, ALIKE = "More than noise", "Within noise"
"""Labels for the difference of two single runs against the noise of repeats. A test needs several seeds of each."""


class Answer(NamedTuple):
    """One short answer on a sweep: its subject, the answer in a few characters, and a sentence."""

    about: str
    value: str
    sentence: str
    file_bytes: int | None = None
    """Bytes of the adapter that the answer names; None for other answers."""


def shipped(verdict: Verdict | None, decision: Decision | None, reading: Reading | None) -> FinishedAdapter | None:
    """Return the adapter that `summary` recommends to ship for the same arguments; None where it recommends none."""
    if decision:
        return decision.ship
    if reading is None or (verdict and len(verdict.ranks) > 1):
        return None
    top, point = reading.curve.trained, reading.shippable or reading.curve.trained
    made = "trained" if point is top else "truncated"
    return FinishedAdapter(point.r, point.loss, made, point.adapter_bytes, reading.curve.run_id, top.r)


def summary(
    verdict: Verdict | None,
    decision: Decision | None,
    reading: Reading | None,
    *,
    steps: int = FEW_STEPS,
    rate: RateLook | None = None,
    score: ScoreLook | None = None,
) -> tuple[Answer, ...]:
    """Return at most three short answers, as far as they are known.

    Args:
        verdict: Verdict on the sweep in any metric; None before a run has been evaluated.
        decision: Decision by loss; None without finished runs at two ranks.
        reading: Reading of the sweep's best fast curve; None without one.
        steps: Training steps of the shortest run.
        rate: Comparison of learning rates, for a sweep of one rank.
        score: Choice by a score, where no verdict compares the ranks.
    """
    few = f" Training had only {counted(steps, 'step')}: longer training may change the ranks."
    answers = _answers(verdict, decision, reading, score)
    if rate:
        better, worth, then = rate.sentences
        answers = (
            Answer("Better learning rate", f"{rate.best:g}", better),
            Answer(SURE, UNTESTED if rate.differs is None else DIFFER if rate.differs else ALIKE, worth),
            Answer(NEXT, f"r = {rate.r}" if rate.goes_on else "Quick look", then),
        )
    return tuple(
        each._replace(sentence=each.sentence + few) if each.about == SURE and steps < FEW_STEPS else each
        for each in answers
    )


def _answers(
    verdict: Verdict | None, decision: Decision | None, reading: Reading | None, score: ScoreLook | None
) -> Iterable[Answer]:
    ship = shipped(verdict, decision, reading)
    if score:
        yield Answer(score.about, f"r = {score.pick}", " ".join(score.sentences[1:]))
        return
    if decision:
        yield Answer(decision.about, f"r = {decision.train.r}", decision.train_sentences[1])
    elif ship:
        yield Answer("Enough for this adapter", f"r = {reading.chosen.r}", reading.sentences[0])
    if ship:
        words = decision.ship_sentences[0] if decision else f"Measured held-out loss {ship.loss:.4f}."
        yield Answer(SHIP, f"r = {ship.r}, {ship.size}", words, ship.adapter_bytes)
    if decision and not decision.settled:
        yield _two_runs(decision)
    elif ship and not decision:
        one = "One training shows what this adapter needs, not what a run at a lower rank learns."
        yield Answer(SURE, "One training", one)
    elif verdict:
        yield from _of_verdict(verdict, decision)


def _of_verdict(verdict: Verdict, decision: Decision | None) -> Iterable[Answer]:
    metric, best = verdict.metric, verdict.rank(verdict.best)
    value = metric.text(verdict.read(best.loss))
    if len(verdict.ranks) == 1:
        yield Answer("Only rank", f"r = {best.r}", f"The {metric.noun} is {value}: train a second rank to compare.")
        return
    if not decision:
        yield Answer("Best rank", f"r = {best.r}", f"It has the {metric.superlative}: {value}.")
        if not verdict.unknown:
            smallest = verdict.rank(verdict.smallest_indistinguishable)
            words = f"Its {metric.noun} is {metric.text(verdict.read(smallest.loss))}."
            yield Answer("Smallest rank to consider", f"r = {smallest.r}", words)
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
