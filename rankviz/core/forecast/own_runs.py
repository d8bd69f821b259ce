"""The runs of a sweep as a forecast takes them: which count at each rank, and which cannot be compared."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from rankviz.core.forecast.bent import TOO_FEW, MeasuredRank, no_finite_loss
from rankviz.core.runs.events import fingerprints
from rankviz.core.runs.record import RunRecord
from rankviz.errors import InvalidSettingError


def measured_cells(runs: Sequence[RunRecord]) -> dict[int, list[RunRecord]]:
    """The evaluated runs of each rank at its best learning rate (lowest mean over seeds) of those that every rank has;
    InvalidSettingError where too few, or where the runs cannot be compared."""
    sweep_id = runs[0].request.sweep_id
    cells: dict[int, dict[float, list[RunRecord]]] = {}
    for run in runs:
        if has_loss(run):
            cells.setdefault(run.request.r, {}).setdefault(run.request.learning_rate, []).append(run)
    if len(cells) < 2:
        has = f"has r = {next(iter(cells))} only" if cells else "has no finished run with a finite loss"
        why = "".join(f"; {no_finite_loss(r)}" for r in ranks_without_loss(runs))
        raise InvalidSettingError(f"{TOO_FEW}: sweep {sweep_id} {has}{why}.")
    evaluated = [run for by_rate in cells.values() for cell in by_rate.values() for run in cell]
    if not are_alike(evaluated):
        raise InvalidSettingError(
            f"The runs of sweep {sweep_id} have different base models or data, so their losses cannot be "
            "compared: train the ranks again with one base model and the same data."
        )
    common = set.intersection(*(set(by_rate) for by_rate in cells.values()))
    if not common:
        raise InvalidSettingError(
            f"The ranks of sweep {sweep_id} have no learning rate in common, so their losses cannot be compared: "
            "train every rank at one learning rate."
        )
    return {r: min((cells[r][rate] for rate in common), key=mean_loss) for r in sorted(cells)}


def are_alike(runs: Sequence[RunRecord]) -> bool:
    """Whether they have the same base and data: by what was read of a file, wherever it was, and by its name where that
    is not known of all."""
    read = [fingerprints([run.environment]) for run in runs]
    is_named_alike = all(read) or len({run.request.data for run in runs}) == 1
    return is_named_alike and len({run.request.base for run in runs}) == 1 and len(frozenset().union(*read)) <= 1


def measured_rank(r: int, runs: Sequence[RunRecord]) -> MeasuredRank:
    """Mean and spread over the seeds of one rank."""
    losses = [run.loss_after.loss for run in runs]
    return MeasuredRank(r, fmean(losses), stdev(losses) if len(losses) > 1 else None, len(losses))


def mean_loss(runs: Sequence[RunRecord]) -> float:
    return fmean(run.loss_after.loss for run in runs)


def has_loss(run: RunRecord) -> bool:
    return run.loss_after is not None and math.isfinite(run.loss_after.loss)


def ranks_without_loss(runs: Sequence[RunRecord]) -> list[int]:
    """Ranks with a run that was evaluated to no finite loss, and with none that was to a finite one."""
    ended = {run.request.r for run in runs if run.loss_after}
    return sorted(ended - {run.request.r for run in runs if has_loss(run)})
