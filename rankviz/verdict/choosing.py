"""What is compared: each rank at its own best learning rate, on the examples that all runs share.

Taking the best of several learning rates makes a rank look better than it is (`expected_maximum` says by how much),
equally for all ranks where equally many were tried.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

import numpy as np

from rankviz.errors import BadDataError
from rankviz.units import counted
from rankviz.verdict.losses import Run, RunLosses


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """The runs that are compared."""

    ranks: tuple[int, ...]
    seeds: tuple[str, ...]
    """All that any of them ran with."""
    examples: int
    """Common to all runs."""
    losses: dict[tuple[int, str], np.ndarray]
    """Of (rank, seed), over the examples in one order."""
    rates: dict[int, float | None]
    rates_tried: dict[int, int]
    diverged: tuple[Run, ...]
    notes: tuple[str, ...]
    """What was left out and why, in sentences."""
    means: dict[tuple[int, str], float] = field(init=False, repr=False)
    """Of (rank, seed), over the examples."""
    _seeds_of: dict[int, tuple[str, ...]] = field(init=False, repr=False)

    def __post_init__(self):
        of = {r: tuple(seed for seed in self.seeds if (r, seed) in self.losses) for r in self.ranks}
        object.__setattr__(self, "_seeds_of", of)
        object.__setattr__(self, "means", {cell: float(values.mean()) for cell, values in self.losses.items()})

    def seeds_of(self, r: int) -> tuple[str, ...]:
        return self._seeds_of[r]  # every two ranks are compared by them

    @property
    def balanced(self) -> bool:
        return len(self.losses) == len(self.ranks) * len(self.seeds)


def compare(runs: Sequence[RunLosses]) -> Comparison:
    """Every rank that has a finite run; BadDataError where there is none, or no example that all share."""
    finite = [run for run in runs if not run.diverged]
    diverged = tuple(Run(r=run.r, seed=run.seed, learning_rate=run.learning_rate) for run in runs if run.diverged)
    if not finite:
        raise BadDataError("No run has a finite loss on all its examples, so nothing can be compared: train again.")
    examples, runs_of = np.unique(np.concatenate([run.examples for run in finite]), return_counts=True)
    common = examples[runs_of == len(finite)]
    if not len(common):
        raise BadDataError("No example is in every run: evaluate all runs on the same examples, under the same names.")
    finite = [run if len(run.examples) == len(common) else _of(run, common) for run in finite]
    by_rank: dict[int, dict[float | None, list[RunLosses]]] = defaultdict(lambda: defaultdict(list))
    for run in finite:
        by_rank[run.r][run.learning_rate].append(run)
    chosen = {r: _best_rate(rates, diverged) for r, rates in sorted(by_rank.items())}
    kept = [run for r, rate in chosen.items() for run in by_rank[r][rate]]
    ranks = tuple(chosen)
    return Comparison(
        ranks=ranks,
        seeds=tuple(dict.fromkeys(run.seed for run in sorted(kept, key=lambda run: (len(run.seed), run.seed)))),
        examples=len(common),
        losses={(run.r, run.seed): run.losses for run in kept},
        rates=chosen,
        rates_tried={r: len({run.learning_rate for run in runs if run.r == r}) for r in ranks},
        diverged=diverged,
        notes=tuple(_notes(kept, diverged, ranks, examples=len(common), everything=len(examples))),
    )


def _of(run: RunLosses, examples: np.ndarray) -> RunLosses:
    """The same run on some of its examples."""
    return replace(run, losses=run.losses[np.searchsorted(run.examples, examples)], examples=examples)


def _best_rate(rates: dict, diverged: Iterable[Run]) -> float | None:
    """The lowest mean over the seeds that the rates share. A rate at which a run diverged only where all have one."""
    if len(rates) == 1:
        return next(iter(rates))
    r = next(iter(rates.values()))[0].r
    bad = {run.learning_rate for run in diverged if run.r == r}
    steady = {rate: runs for rate, runs in rates.items() if rate not in bad} or rates
    shared = set.intersection(*({run.seed for run in runs} for runs in steady.values()))

    def mean(rate: float | None) -> float:
        runs = [run for run in steady[rate] if run.seed in shared] or steady[rate]
        return fmean(fmean(run.losses) for run in runs)

    return min(steady, key=lambda rate: (mean(rate), rate or 0))


def _notes(
    kept: Sequence[RunLosses], diverged: Sequence[Run], ranks: Sequence[int], *, examples: int, everything: int
) -> Iterable[str]:
    """everything: examples that are in any run."""
    if diverged:
        names = "; ".join(run.name for run in diverged)
        yield f"These runs diverged and are left out, so their ranks look more stable than they are: {names}."
        if gone := sorted({run.r for run in diverged} - set(ranks)):
            yield f"Every run of {_ranks(gone)} diverged: its loss is not known."
    if everything > examples:
        missing = everything - examples
        verb = "is" if missing == 1 else "are"
        yield f"{missing:,} of {counted(everything, 'example')} {verb} missing from some run and left out of all runs."
    seeds = {r: {run.seed for run in kept if run.r == r} for r in ranks}
    if len(set(map(frozenset, seeds.values()))) > 1:
        counts = ", ".join(f"{len(mine)} at r = {r}" for r, mine in seeds.items())
        yield (
            f"Not every rank ran with every seed ({counts}): two ranks are compared on the seeds they share, and "
            "losses are adjusted for the missing seeds."
        )


def _ranks(ranks: Sequence[int]) -> str:
    return " and ".join(f"r = {r}" for r in ranks)
