"""Fast curves: one training at the highest rank, truncated to lower ranks, and how close that is to real runs."""

import math
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import NamedTuple

from rankviz.core.runs.metric import LOSS, NOISE_NOT_MEASURED, TOLERANCE_NATS, Metric
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.request import RECOVERED_BELOW

APART = 2 * math.sqrt(2)
"""A run differs from the curve beyond so many standard deviations of one run: two standard errors of a difference."""


class CurvePoint(NamedTuple):
    """One rank."""

    r: int
    loss: float
    parameters: int
    adapter_bytes: int
    """Size of the cut adapter's file, or of the trained one at the highest rank."""
    recovery_steps: int
    """Steps of training after the cut, those of the higher cuts it was made of included; 0 is the cut itself."""
    path: str = ""
    """Folder of a cut's own adapter in its run, where it was trained on and saved."""
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
    """A curve with its pick and sentences."""

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


def fast_curve(run: RunRecord) -> FastCurve | None:
    """Return the curve of a run that was truncated, as far as it has got; None for any other. Of two cuts of one rank
    the later counts. Parameters and bytes are in proportion to rank: of the bytes the header, a few kB, is not."""
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
    """Return the curves of these runs, the best trained one first."""
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


def read(
    curve: FastCurve, runs: Sequence[RunRecord], *, run_sd: float | None, tolerance: float = TOLERANCE_NATS
) -> Reading:
    """Return what the curve shows; it never rules out a low rank: only runs of that rank can.

    runs: of the sweep; those of lower ranks with the seed and learning rate of the truncated one are compared with it.
    run_sd: the noise between its runs; None where it is not measured.
    """
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
        gap = loss - cuts[r]
        if gap > APART * noise:
            sentences.append(
                f"Step-size alarm at r = {r}: a run of that rank reached a loss of {loss:.4f}, but the adapter "
                f"truncated to that rank has {cuts[r]:.4f}, a gap larger than the noise between runs ({noise:.3f}): "
                f"this learning rate or alpha does not suit r = {r}."
            )
        elif gap < -APART * noise:
            sentences.append(
                f"At r = {r} a run reached {loss:.4f}, {-gap:.3f} nats below the truncated adapter: more than the "
                f"noise between runs ({noise:.3f}). Judge low ranks by runs."
            )
    if lower := [point.r for point in curve.points if point.r < chosen.r]:
        ranks = f"r = {lower[-1]}" if len(lower) == 1 else f"r = {lower[0]} to {lower[-1]}"
        sentences.append(
            f"This does not rule out {ranks}: a run of that rank may learn what the truncated adapter loses. "
            "Independent runs or a sweep can check this."
        )
    if steps := max(point.recovery_steps for point in curve.points):
        sentences.append(
            f"Truncated adapters below r = {RECOVERED_BELOW} were trained for a few more steps, {steps} in total."
        )
    if independent and not run_sd:
        sentences.append(f"{NOISE_NOT_MEASURED} To compare the curve with runs, {TOLERANCE_NATS:g} nats are assumed.")
    return Reading(curve, tolerance, chosen, shippable(curve, tolerance), tuple(sentences))
