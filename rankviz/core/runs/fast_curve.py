"""Fast curves: an adapter trained at the highest rank, truncated to lower ranks, and its agreement with real runs."""

import math
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import NamedTuple

from rankviz.core.runs.metric import LOSS, NOISE_NOT_MEASURED, TOLERANCE_NATS, Metric
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.request import RECOVERED_BELOW

APART = 2 * math.sqrt(2)
"""Standard deviations of one run from which a run and the curve differ: two standard errors of a difference."""


class CurvePoint(NamedTuple):
    """One rank of a fast curve: the truncated adapter, or at the highest rank the trained one."""

    r: int
    loss: float
    parameters: int
    adapter_bytes: int
    """Bytes of the adapter's file."""
    recovery_steps: int
    """Training steps after truncation, including those of higher ranks on the way down; 0 without recovery."""
    path: str = ""
    """Folder of the adapter in its run; empty where it was not saved, because it had no recovery steps."""
    token_accuracy: float | None = None
    exact_match: float | None = None
    """Share of exact matches; like token_accuracy None where it was not measured."""


MEASURED = ("r", "loss", "recovery_steps", "path", "token_accuracy", "exact_match")
"""Fields of a CurvePoint that an AdapterCut has."""


class FastCurve(NamedTuple):
    """Points of one fast curve, from the lowest rank to the trained rank."""

    run_id: str
    points: tuple[CurvePoint, ...]
    base_loss: float | None

    @property
    def trained(self) -> CurvePoint:
        return self.points[-1]


class Reading(NamedTuple):
    """A fast curve with the recommended rank, and sentences on it."""

    curve: FastCurve
    tolerance: float
    """Difference in loss (nats) up to which two losses count as equal."""
    chosen: CurvePoint
    shippable: CurvePoint | None
    """Lowest point at or above the chosen rank whose adapter exists, or can be made again by truncation alone; None
    where only the trained adapter exists."""
    sentences: tuple[str, ...]


def fast_curve(run: RunRecord) -> FastCurve | None:
    """Return the curve of a run, with the points measured so far; None for a run that was not truncated, and before its
    trained adapter is evaluated. If a rank was truncated twice, the later result counts. Parameters and bytes are in
    proportion to rank, which neglects a file's header of a few kB."""
    if not run.cuts or run.loss_after is None:
        return None
    top, parameters, size = run.request.r, run.trainable_parameters or 0, run.adapter_bytes or 0
    points = [
        CurvePoint(
            parameters=parameters * cut.r // top,
            adapter_bytes=size * cut.r // top,
            **{name: getattr(cut, name) for name in MEASURED},
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
    """Return the curves of these runs, the lowest loss of the trained adapter first."""
    return sorted((curve for run in runs if (curve := fast_curve(run))), key=lambda curve: curve.trained.loss)


def pick(curve: FastCurve, tolerance: float = TOLERANCE_NATS, metric: Metric = LOSS) -> CurvePoint:
    """Return the point of the lowest rank that is at most the tolerance (in the metric's unit) worse than the best
    point, without a significance test: all come from one training. One must have a value."""
    values = [(p, metric.turned(value)) for p in curve.points if (value := metric.of(p)) is not None]
    best = min(value for _, value in values)
    return next(point for point, value in values if value <= best + tolerance)


def read(
    curve: FastCurve, runs: Sequence[RunRecord], *, run_sd: float | None, tolerance: float = TOLERANCE_NATS
) -> Reading:
    """Choose a rank of a fast curve, and compare the curve with independent runs, which alone can rule a low rank out.
    runs: Of the sweep; those at ranks of the curve with the truncated run's seed and learning rate are compared.
    run_sd: Standard deviation between runs in nats; None where not measured."""
    chosen, top = pick(curve, tolerance), curve.trained
    top_run = next(run.request for run in runs if run.run_id == curve.run_id)
    cuts = {point.r: point.loss for point in curve.points[:-1]}
    independent = {
        run.request.r: run.loss_after.loss
        for run in runs
        if run.loss_after is not None
        and run.request.r in cuts
        and (run.request.seed, run.request.learning_rate) == (top_run.seed, top_run.learning_rate)
    }
    sentences = [f"This adapter uses all of its r = {top.r}: every truncation loses more than {tolerance:.3g} nats."]
    if chosen.r < top.r:
        sentences = [
            f"This adapter was trained at r = {top.r} and needs at most r = {chosen.r}: truncated to that rank, its "
            f"held-out loss is {chosen.loss:.4f}, within {tolerance:.3g} nats of the best of the curve."
        ]
    noise = run_sd or TOLERANCE_NATS
    for r, loss in independent.items():
        if abs(gap := loss - cuts[r]) > APART * noise:
            so = f"Step-size alarm: this learning rate or alpha does not suit r = {r}." if gap > 0 else ""
            sentences.append(
                f"At r = {r} a run reached a loss of {loss:.4f}, and the adapter truncated to that rank {cuts[r]:.4f}: "
                f"more apart than the noise between runs ({noise:.3f}). {so or 'Judge low ranks by runs.'}"
            )
    if lower := [point.r for point in curve.points if point.r < chosen.r]:
        ranks = f"r = {lower[-1]}" if len(lower) == 1 else f"r = {lower[0]} to {lower[-1]}"
        sentences.append(
            f"This does not rule out {ranks}: a run of that rank may learn what the truncated adapter loses. "
            "Independent runs or a sweep can check this."
        )
    if steps := max(point.recovery_steps for point in curve.points):
        sentences.append(
            f"Truncated adapters below r = {RECOVERED_BELOW} were trained for {steps} more steps in total."
        )
    if independent and not run_sd:
        sentences.append(f"{NOISE_NOT_MEASURED} To compare the curve with runs, {TOLERANCE_NATS:g} nats are assumed.")
    lower = (p for p in curve.points[:-1] if p.r >= chosen.r and (p.path or not p.recovery_steps))
    return Reading(curve, tolerance, chosen, next(lower, None), tuple(sentences))
