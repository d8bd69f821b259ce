"""Measures how close fast curves are to independent runs: one case per curve, from the journals of both.

A case is one sweep: its highest rank was cut to the others, and each of the others ran independently too, on the same
data in the same order. Where several learning rates were tried, a rank stands at its own best, the highest as well.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from itertools import combinations
from statistics import fmean, median
from typing import Any, NamedTuple

from rankviz.core.runs.fast_curve import FastCurve, fast_curve, pick
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.tradeoff import TOLERANCE_NATS


class Case(NamedTuple):
    """One curve beside independent runs."""

    name: str
    made: str
    """Day of the runs, ISO."""
    base: str
    data: str
    alpha: str
    """"fixed" or "r"."""
    steps: int
    seed: int
    learning_rate: float
    """Of the run that was cut."""
    precision: str
    """In which the base was held."""
    differences: Mapping[int, float]
    """By rank: the cut's loss minus the independent run's, nats."""
    independent: Mapping[int, float]
    """By rank: the loss of the independent run, the trained one among them."""
    picked: int
    regret: float
    """Loss of the independent run at the rank that the curve picks, minus the lowest of all, nats."""
    regret_of_cut: float
    """Loss of the cut itself at that rank minus the lowest of all, nats: of training high and shipping the cut."""
    regret_of_highest: float
    """The same of always taking the highest rank."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SettingFidelity:
    """The seeds of one setting together; losses and differences are means over them, nats."""

    base: str
    data: str
    steps: int
    alpha: str
    learning_rate: float | None
    """None where it was tuned at each rank."""
    cases: int
    differences: Mapping[int, float]
    picked: tuple[int, ...]
    regret: float
    regret_of_cut: float
    regret_of_highest: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RankFidelity:
    """Differences at one rank over all cases, nats."""

    cases: int
    median_absolute: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Fidelity:
    """How near fast curves have been to independent runs, as `make fidelity` measured it. Medians are of absolute
    differences, in nats."""

    made: str | None
    tolerance_nats: float
    cases: tuple[Case, ...]
    median_absolute_difference: Mapping[str, float | None]
    independent_runs_apart: Mapping[str, float | None]
    settings: tuple[SettingFidelity, ...]
    by_rank: Mapping[int, RankFidelity]
    regret_within_tolerance: int
    cut_within_tolerance: int
    highest_within_tolerance: int
    largest_regret: float


def case(name: str, runs: Sequence[RunRecord], *, base: str, data: str, alpha: str) -> Case | None:
    """Of one seed's runs; None where the curve or a run of a rank on it is missing."""
    best: dict[int, RunRecord] = {}
    for run in runs:
        if run.loss_after is None or not math.isfinite(run.loss_after.loss):
            continue
        known = best.get(run.request.r)
        if known is None or run.loss_after.loss < known.loss_after.loss:
            best[run.request.r] = run
    curve = fast_curve(best[max(best)]) if best else None
    if curve is None or {point.r for point in curve.points} - best.keys():
        return None
    return _case(name, curve, best, base=base, data=data, alpha=alpha)


def _case(name: str, curve: FastCurve, best: Mapping[int, RunRecord], *, base: str, data: str, alpha: str) -> Case:
    independent = {r: run.loss_after.loss for r, run in sorted(best.items())}
    picked = pick(curve)
    request = best[curve.trained.r].request
    return Case(
        name=name,
        made=date.fromtimestamp(best[curve.trained.r].loss_after.time).isoformat(),
        base=base,
        data=data,
        alpha=alpha,
        steps=request.max_steps,
        seed=request.seed,
        learning_rate=request.learning_rate,
        precision=request.training.precision,
        differences={p.r: p.loss - independent[p.r] for p in curve.points[:-1]},
        independent=independent,
        picked=picked.r,
        regret=independent[picked.r] - min(independent.values()),
        regret_of_cut=picked.loss - min(independent.values()),
        regret_of_highest=independent[curve.trained.r] - min(independent.values()),
    )


def as_json(fidelity: Fidelity) -> dict[str, Any]:
    """As assets/fidelity.json keeps it."""
    return {
        **asdict(fidelity),
        "cases": [
            {
                **each._asdict(),
                "differences": _spelled(each.differences),
                "independent": _spelled(each.independent),
            }
            for each in fidelity.cases
        ],
        "settings": [
            {**asdict(each), "differences": _spelled(each.differences), "picked": list(each.picked)}
            for each in fidelity.settings
        ],
        "by_rank": {str(r): asdict(each) for r, each in fidelity.by_rank.items()},
    }


def from_json(value: Mapping[str, Any]) -> Fidelity:
    """What `as_json` wrote."""
    return Fidelity(
        **{
            **value,
            "cases": tuple(
                Case(**{**row, "differences": _ranks(row["differences"]), "independent": _ranks(row["independent"])})
                for row in value["cases"]
            ),
            "settings": tuple(
                SettingFidelity(**{**row, "differences": _ranks(row["differences"]), "picked": tuple(row["picked"])})
                for row in value["settings"]
            ),
            "by_rank": {int(r): RankFidelity(**each) for r, each in value["by_rank"].items()},
        }
    )


def _spelled(by_rank: Mapping[int, float]) -> dict[str, float]:
    """JSON has no numbers for keys."""
    return {str(r): value for r, value in by_rank.items()}


def _ranks(by_rank: Mapping[str, float]) -> dict[int, float]:
    return {int(r): value for r, value in by_rank.items()}


def report(cases: Sequence[Case]) -> Fidelity:
    """What these cases say, rounded to five digits."""
    fixed = [each for each in cases if each.alpha == "fixed"]
    return Fidelity(
        made=max((each.made for each in cases), default=None),
        tolerance_nats=TOLERANCE_NATS,
        cases=tuple(_rounded(each) for each in cases),
        median_absolute_difference={
            "r >= 8, fixed alpha": _median(fixed, lambda r: r >= 8),
            "r = 2 and 4, fixed alpha": _median(fixed, lambda r: r in (2, 4)),
            "r >= 8, alpha = r": _median([each for each in cases if each.alpha == "r"], lambda r: r >= 8),
        },
        independent_runs_apart={"r >= 8, fixed alpha": _apart(fixed, lambda r: r >= 8)},
        settings=_settings(cases),
        by_rank={
            r: RankFidelity(
                cases=len(differences),
                median_absolute=_median_absolute(differences),
                low=round(min(differences), 5),
                high=round(max(differences), 5),
            )
            for r in sorted({r for each in cases for r in each.differences})
            if (differences := [each.differences[r] for each in cases if r in each.differences])
        },
        regret_within_tolerance=sum(round(each.regret, 5) <= TOLERANCE_NATS for each in cases),
        cut_within_tolerance=sum(round(each.regret_of_cut, 5) <= TOLERANCE_NATS for each in cases),
        highest_within_tolerance=sum(round(each.regret_of_highest, 5) <= TOLERANCE_NATS for each in cases),
        largest_regret=round(max((each.regret for each in cases), default=0.0), 5),
    )


def _rounded(each: Case) -> Case:
    return each._replace(
        differences={r: round(d, 5) for r, d in each.differences.items()},
        independent={r: round(loss, 5) for r, loss in each.independent.items()},
        regret=round(each.regret, 5),
        regret_of_cut=round(each.regret_of_cut, 5),
        regret_of_highest=round(each.regret_of_highest, 5),
    )


def _settings(cases: Sequence[Case]) -> tuple[SettingFidelity, ...]:
    """The seeds of a setting together: mean losses of truncated adapters and of runs, and what a choice costs against
    the best mean. The noise of a single run weighs less there."""
    settings: dict[tuple, list[Case]] = {}
    for each in cases:
        # A tuned learning rate is each case's own.
        rate = each.learning_rate if each.alpha == "fixed" else None
        settings.setdefault((each.base, each.data, each.steps, each.alpha, rate), []).append(each)
    return tuple(_together(each) for each in settings.values())


def _together(cases: Sequence[Case]) -> SettingFidelity:
    losses = {r: fmean(each.independent[r] for each in cases) for r in cases[0].independent}
    best = min(losses.values())
    cut = fmean(each.independent[each.picked] + each.differences.get(each.picked, 0.0) for each in cases)
    first = cases[0]
    return SettingFidelity(
        base=first.base,
        data=first.data,
        steps=first.steps,
        alpha=first.alpha,
        learning_rate=first.learning_rate if first.alpha == "fixed" else None,
        cases=len(cases),
        differences={r: round(fmean(each.differences[r] for each in cases), 5) for r in first.differences},
        picked=tuple(sorted({each.picked for each in cases})),
        regret=round(fmean(losses[each.picked] for each in cases) - best, 5),
        regret_of_cut=round(cut - best, 5),
        regret_of_highest=round(losses[max(losses)] - best, 5),
    )


def _apart(cases: Sequence[Case], of_rank: Callable[[int], bool]) -> float | None:
    """The yardstick: how far independent runs of two such ranks lie from one another, the median over pairs of a case.
    Were rank without effect there, it is what the noise between runs alone makes of a difference."""
    pairs = [combinations([loss for r, loss in each.independent.items() if of_rank(r)], 2) for each in cases]
    return _median_absolute(a - b for each in pairs for a, b in each)


def _median(cases: Sequence[Case], of_rank: Callable[[int], bool]) -> float | None:
    return _median_absolute(d for each in cases for r, d in each.differences.items() if of_rank(r))


def _median_absolute(differences: Iterable[float]) -> float | None:
    distances = [abs(d) for d in differences]
    return round(median(distances), 5) if distances else None
