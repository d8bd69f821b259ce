"""Fast curves: one training at the highest rank, truncated to lower ranks, and how close that is to real runs."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from itertools import combinations
from operator import attrgetter
from statistics import fmean, median
from typing import Any, NamedTuple

from rankviz.core.lora.targets import listed
from rankviz.core.runs.metric import LOSS, NOISE_NOT_MEASURED, TOLERANCE_NATS, Metric
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.request import RECOVERED_BELOW

ALARM_STANDARD_ERRORS = 2.0


class CurvePoint(NamedTuple):
    """One rank."""

    r: int
    loss: float
    parameters: int
    adapter_bytes: int
    """Of the cut adapter's file; of the trained one at the highest rank."""
    recovery_steps: int
    """Steps of training after the cut, those of the higher cuts it was made of included; 0 is the cut itself."""
    path: str = ""
    """Of a cut's own adapter in its run, where it was trained on and saved."""
    token_accuracy: float | None = None
    exact_match: float | None = None
    """Shares, as in HeldOut; None where they were not measured."""


class FastCurve(NamedTuple):
    """Points from the lowest rank to the one that was trained."""

    run_id: str
    points: tuple[CurvePoint, ...]
    base_loss: float | None

    @property
    def trained(self) -> CurvePoint:
        return self.points[-1]


class Reading(NamedTuple):
    """What a curve shows."""

    curve: FastCurve
    tolerance: float
    """Nats that count as equal."""
    chosen: CurvePoint
    shippable: CurvePoint | None
    sentences: tuple[str, ...]
    """The most important first."""

    def above_lowest(self, point: CurvePoint) -> float:
        """Nats."""
        return point.loss - min(each.loss for each in self.curve.points)


class Parting(NamedTuple):
    """An independent run that lies further from the curve than runs lie from one another."""

    r: int
    run_loss: float
    cut_loss: float
    noise: float
    """Standard deviation of one run, nats."""


def fast_curve(run: RunRecord) -> FastCurve | None:
    """Of a run that was cut, as far as it has got; None of any other. Of two cuts of one rank the later counts.
    Parameters and bytes are in proportion to rank: of the bytes the header, a few kB, is not."""
    if not run.cuts or run.loss_after is None:
        return None
    top, parameters, size = run.request.r, run.trainable_parameters or 0, run.adapter_bytes or 0
    points = [
        CurvePoint(
            r=cut.r,
            loss=cut.loss,
            parameters=parameters * cut.r // top,
            adapter_bytes=size * cut.r // top,
            recovery_steps=cut.recovery_steps,
            path=cut.path,
            token_accuracy=cut.token_accuracy,
            exact_match=cut.exact_match,
        )
        for cut in {cut.r: cut for cut in run.cuts}.values()
        if math.isfinite(cut.loss) and cut.r < top
    ]
    after = run.loss_after
    points.append(CurvePoint(top, after.loss, parameters, size, 0, "", after.token_accuracy, after.exact_match))
    return FastCurve(
        run_id=run.run_id,
        points=tuple(sorted(points, key=attrgetter("r"))),
        base_loss=run.loss_before.loss if run.loss_before else None,
    )


def fast_curves(runs: Iterable[RunRecord]) -> list[FastCurve]:
    """Of the runs that were cut, the best trained one first."""
    return sorted((curve for run in runs if (curve := fast_curve(run))), key=lambda curve: curve.trained.loss)


def shippable(curve: FastCurve, tolerance: float = TOLERANCE_NATS) -> CurvePoint | None:
    """The pick, or the next rank above it whose adapter can be had: a cut that was saved, or one that was not trained
    on and so can be cut again. None where that is the trained rank."""
    chosen = pick(curve, tolerance)
    return next((p for p in curve.points[:-1] if p.r >= chosen.r and (p.path or not p.recovery_steps)), None)


def pick(curve: FastCurve, tolerance: float = TOLERANCE_NATS, metric: Metric = LOSS) -> CurvePoint:
    """The lowest rank whose cut loses at most the tolerance against the best of the curve, in the metric's unit. A
    tolerance and not a significance, since the points share one training and differ by little else than rank.

    The metric must have been measured of some point.
    """
    values = [(p, metric.turned(value)) for p in curve.points if (value := metric.of(p)) is not None]
    best = min(value for _, value in values)
    return next(point for point, value in values if value <= best + tolerance)


def independent_runs(curve: FastCurve, runs: Sequence[RunRecord]) -> list[RunRecord]:
    """Runs of lower ranks with the seed and the learning rate of the run that was cut."""
    cut = next(run.request for run in runs if run.run_id == curve.run_id)
    return [
        run
        for run in runs
        if run.loss_after is not None
        and run.request.r < cut.r
        and (run.request.seed, run.request.learning_rate) == (cut.seed, cut.learning_rate)
    ]


def partings(curve: FastCurve, independent: Sequence[RunRecord], noise: float) -> tuple[Parting, ...]:
    """Independent runs further from the curve than two standard errors of a difference of two runs, 2 · √2 · noise."""
    cuts = {point.r: point.loss for point in curve.points}
    return tuple(
        Parting(run.request.r, run.loss_after.loss, cuts[run.request.r], noise)
        for run in independent
        if run.run_id != curve.run_id
        and run.loss_after is not None
        and run.request.r in cuts
        and abs(run.loss_after.loss - cuts[run.request.r]) > ALARM_STANDARD_ERRORS * math.sqrt(2) * noise
    )


def read(
    curve: FastCurve, runs: Sequence[RunRecord], *, run_sd: float | None, tolerance: float = TOLERANCE_NATS
) -> Reading:
    """runs: of the sweep. run_sd: the noise between its runs; None where it is not measured."""
    independent = independent_runs(curve, runs)
    apart = partings(curve, independent, run_sd or TOLERANCE_NATS)
    sentences = in_words(curve, apart, {run.request.r for run in independent}, tolerance)
    if independent and not run_sd:
        sentences.append(f"{NOISE_NOT_MEASURED} To compare the curve with runs, {TOLERANCE_NATS:g} nats are assumed.")
    return Reading(curve, tolerance, pick(curve, tolerance), shippable(curve, tolerance), tuple(sentences))


def in_words(
    curve: FastCurve, apart: Sequence[Parting], independent: Collection[int], tolerance: float = TOLERANCE_NATS
) -> list[str]:
    """What the curve shows, most important first. It never rules out a low rank: only runs of that rank can.

    independent: the ranks that also ran from the start.
    """
    chosen, top = pick(curve, tolerance), curve.trained
    if chosen.r < top.r:
        sentences = [
            f"This adapter was trained at r = {top.r} and needs at most r = {chosen.r}: truncated to that rank, its "
            f"held-out loss is {chosen.loss:.4f}, within {tolerance:.3g} nats of the best of the curve."
        ]
    else:
        sentences = [
            f"This adapter uses all of its r = {top.r}: every truncation loses more than {tolerance:.3g} nats."
        ]
    for parting in apart:
        gap = parting.run_loss - parting.cut_loss
        if gap > 0:
            sentences.append(
                f"Step-size alarm at r = {parting.r}: a run of that rank reached a loss of {parting.run_loss:.4f}, but "
                f"the adapter truncated to that rank has {parting.cut_loss:.4f}. The gap of {gap:.3f} nats is larger "
                f"than the noise between runs ({parting.noise:.3f}): this learning rate or alpha does not suit "
                f"r = {parting.r}."
            )
        else:
            sentences.append(
                f"At r = {parting.r} a run reached {parting.run_loss:.4f}, {-gap:.3f} nats below the truncated "
                f"adapter. Runs differ by only {parting.noise:.3f} nats, so a run of that rank learns more than the "
                "truncated adapter keeps. Judge low ranks by runs."
            )
    if chosen.r < top.r and chosen.r not in independent:
        sentences.append(
            f"A run of r = {chosen.r} from the start may end higher or lower than the truncated adapter; an "
            "independent run at that rank would show it."
        )
    lower = [point.r for point in curve.points if point.r < chosen.r]
    if lower:
        ranks = f"r = {lower[-1]}" if len(lower) == 1 else f"r = {lower[0]} to {lower[-1]}"
        check = "independent runs or a sweep can check this"
        if ran := [str(r) for r in lower if r in independent]:
            check = f"of these ranks, {'only ' * (len(ran) < len(lower))}r = {listed(ran)} also ran independently"
        sentences.append(
            f"This does not rule out {ranks}: an independent run may learn what the truncated adapter loses; {check}."
        )
    if any(point.recovery_steps for point in curve.points):
        steps = max(point.recovery_steps for point in curve.points)
        sentences.append(
            f"Truncated adapters below r = {RECOVERED_BELOW} were trained for a few more steps, {steps} in total."
        )
    return sentences


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
