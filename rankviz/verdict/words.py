"""The verdict in words: plain sentences, each of which stands by itself."""

import math
from collections.abc import Iterable, Sequence

from rankviz.verdict.borrowed import Borrowed
from rankviz.verdict.judge import CANT_TELL, DIFFERENT, EQUAL, Pair, Verdict
from rankviz.verdict.power import DOUBLINGS, SEEDS, Needed

ENOUGH_SEEDS = 3
"""A rank: with two, an interval is mostly its own few degrees of freedom."""


def headline(verdict: Verdict) -> str:
    """The first sentence: what one may say about the smallest rank."""
    best, smallest = f"r = {verdict.best}", f"r = {verdict.smallest_indistinguishable}"
    if len(verdict.ranks) == 1:
        return f"Only {best} has finished runs: there is nothing to compare it with."
    if verdict.unknown:
        return (
            f"Can't tell: {verdict.unknown}. {best} has the lowest loss, but how much another seed would move it is "
            "not known, so any of these ranks may be as good."
        )
    calls = {rank.call for rank in verdict.ranks if rank.r != verdict.best}
    if calls == {DIFFERENT}:
        return f"{best} is best: every other rank is worse by more than the noise."
    if calls == {EQUAL}:
        return (
            f"Rank makes no difference that matters here: {_list(_with_call(verdict, EQUAL))} surely lie within "
            f"{_tolerance(verdict)} of the best, {best}; the smallest is {smallest}."
        )
    if verdict.best == verdict.ranks[0].r:
        return f"{best}, the smallest rank tried, has the lowest loss; {_equals(verdict)}."
    if verdict.best == verdict.smallest_indistinguishable:
        return f"{best} has the lowest loss, and smaller ranks are worse by more than the noise; {_equals(verdict)}."
    return (
        f"{best} has the lowest loss; the smallest rank that can't be told from it is {smallest}: {_equals(verdict)}."
    )


def sentences(verdict: Verdict, borrowed: Borrowed | None = None) -> list[str]:
    """All there is to say, most important first."""
    return [
        headline(verdict),
        *_against_best(verdict),
        *_noise(verdict),
        *_what_would_tell(verdict),
        *_rates(verdict),
        *verdict.notes,
        *_borrowed(verdict, borrowed),
    ]


def _equals(verdict: Verdict) -> str:
    equal = [r for r in _with_call(verdict, EQUAL) if r != verdict.best]
    open_ = _with_call(verdict, CANT_TELL)
    said = [f"{_list(equal)} {_is(equal)} equal to it within {_tolerance(verdict)}"] if equal else []
    said += [f"whether {_list(open_)} {_is(open_)} worse can't be told"] if open_ else []
    return ", and ".join(said)


def _against_best(verdict: Verdict) -> Iterable[str]:
    known = [p for p in verdict.pairs if verdict.best in (p.r, p.s) and p.low is not None]
    worse = [p for p in known if p.call == DIFFERENT]
    rest = [p for p in known if p.call != DIFFERENT]
    if worse:
        yield f"Worse than r = {verdict.best}, nats: {'; '.join(_span(verdict, p) for p in worse)}."
    if rest:
        yield f"May be above or below r = {verdict.best} by, nats: {'; '.join(_span(verdict, p) for p in rest)}."
    if verdict.unknown:
        return
    if others := [p for p in verdict.pairs if verdict.best not in (p.r, p.s) and p.call == CANT_TELL]:
        yield f"Nor can these be told from one another: {', '.join(f'{p.r} and {p.s}' for p in others)}."
    if alone := [_other(p, verdict.best) for p in verdict.pairs if p.low is None and verdict.best in (p.r, p.s)]:
        names = _list(alone)
        yield f"Nothing can be said of {names} against r = {verdict.best}: fewer than two seeds in common."


def _noise(verdict: Verdict) -> Iterable[str]:
    if verdict.run_sd is None:
        return
    pairs = len([p for p in verdict.pairs if p.low is not None])
    at_once = f", over all {pairs} pairs at once" if pairs > 1 else ""
    where = f"{verdict.seeds} seeds and {verdict.examples:,} held-out examples"
    if verdict.examples == 1:
        where = f"{verdict.seeds} seeds; one loss a run is given, so the choice of examples is not in them"
    yield (
        f"Intervals are 95 %{at_once}, from {where}. One run's loss varies with its seed by {verdict.run_sd:.3f} nats "
        f"(standard deviation). Differences surely below {_tolerance(verdict)} count as equal."
    )


def _what_would_tell(verdict: Verdict) -> Iterable[str]:
    if verdict.unknown and len(verdict.ranks) > 1:
        yield f"Run each rank with the same seeds, {ENOUGH_SEEDS} or more: then the noise between runs is measured."
        return
    if (pair := _deciding(verdict)) is None:
        return
    need, seen = verdict.needed(pair), abs(pair.difference)
    start = f"Settling r = {pair.r} against r = {pair.s}, were the {seen:.3f} nats seen between them the truth"
    if need.seeds is None and need.examples is None:
        most = verdict.examples << DOUBLINGS
        yield (
            f"{start}, takes more than {SEEDS[-1]} seeds a rank, and {most:,} held-out examples alone would not do "
            "either: choose the smaller rank, or a tolerance further from that difference."
        )
    elif need.seeds is None:
        yield f"{start}, takes about {_examples(verdict, need)}; {SEEDS[-1]} seeds a rank alone would not do."
    elif need.examples is None:
        share = f": {100 * need.runs_share:.0f} % of the uncertainty lies between runs" if need.runs_share > 0.5 else ""
        yield f"{start}, takes about {_seeds(need, pair)}. More held-out examples alone would not do{share}."
    else:
        yield f"{start}, takes about {_seeds(need, pair)}, or else {_examples(verdict, need)}."
    yield "More steps would be another training: what the gap is then, these losses can't say."


def _examples(verdict: Verdict, need: Needed) -> str:
    return f"{need.examples:,} held-out examples in place of {verdict.examples:,}"


def _seeds(need: Needed, pair: Pair) -> str:
    doubt = ""
    if need.seeds_low != need.seeds_high:
        high = f"more than {SEEDS[-1]}" if need.seeds_high is None else need.seeds_high
        doubt = f"; {need.seeds_low} to {high}, since few runs show the noise"
    return f"{need.seeds} seeds a rank ({need.seeds - pair.seeds} more{doubt})"


def _deciding(verdict: Verdict) -> Pair | None:
    """The pair that the smallest rank hangs on: it and the best, or else the first that can't be told from the best."""
    open_ = [p for p in verdict.pairs if verdict.best in (p.r, p.s) and p.call == CANT_TELL and p.low is not None]
    return min(open_, key=lambda p: _other(p, verdict.best), default=None)


def _rates(verdict: Verdict) -> Iterable[str]:
    tried = [rank.learning_rates_tried for rank in verdict.ranks]
    if max(tried) < 2:
        return
    count = f"{tried[0]}" if len(set(tried)) == 1 else f"{min(tried)} to {max(tried)}"
    said = f"Each rank stands at the best of {count} learning rates, chosen by these same losses, which flatters it"
    if verdict.noise.runs is None:
        yield f"{said}, by how much one run a rate can't say."
        return
    by = flattery(max(tried)) * math.sqrt(verdict.noise.runs.paired_variance / verdict.seeds)
    alike = "all ranks alike" if len(set(tried)) == 1 else "those with more rates the more"
    yield f"{said} by up to {by:.3f} nats (were all its rates equally good), {alike}."


def flattery(tried: int) -> float:
    """By how many standard errors the best of so many equal means is better than their mean: E max of n standard
    normals, ∫ z n φ(z) Φ(z)^(n-1) dz."""
    from scipy.integrate import quad
    from scipy.special import ndtr

    def term(z: float) -> float:
        return z * tried * math.exp(-z * z / 2) / math.sqrt(2 * math.pi) * ndtr(z) ** (tried - 1)

    return quad(term, -9, 9)[0]


def _borrowed(verdict: Verdict, borrowed: Borrowed | None) -> Iterable[str]:
    if borrowed is None or not verdict.unknown:
        return
    count = len(borrowed.sweeps)
    where = (
        "with the same base, data and steps" if borrowed.same_setting else "with another base, data or number of steps"
    )
    yield (
        f"Borrowed from {count} other sweep{'s' if count > 1 else ''} {where}: one run's loss varied with its seed by "
        f"{borrowed.sd:.3f} nats, so that two runs of equal rank may differ by {borrowed.difference:.3f}. That is a "
        "scale to look at these losses by; it makes no verdict."
    )


def _span(verdict: Verdict, pair: Pair) -> str:
    """How far the other rank lies above the best."""
    low, high = (pair.low, pair.high) if pair.s == verdict.best else (-pair.high, -pair.low)
    return f"r = {_other(pair, verdict.best)} {_signed(low)} to {_signed(high)}"


def _signed(nats: float) -> str:
    return f"{nats:+.3f}".replace("-", "−")


def _other(pair: Pair, r: int) -> int:
    return pair.s if pair.r == r else pair.r


def _with_call(verdict: Verdict, call: str) -> list[int]:
    return [rank.r for rank in verdict.ranks if rank.call == call]


def _tolerance(verdict: Verdict) -> str:
    share = f" ({verdict.tolerance} of the gain)" if verdict.tolerance.strip().endswith("%") else ""
    return f"{verdict.tolerance_nats:.3g} nats{share}"


def _is(ranks: Sequence[int]) -> str:
    return "is" if len(ranks) == 1 else "are"


def _list(ranks: Sequence[int]) -> str:
    names = [f"r = {ranks[0]}", *map(str, ranks[1:])]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
