"""Which ranks can be distinguished: of a sweep, or of a table of losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rankviz.api.runs import Runs
from rankviz.api.workspace import Workspace
from rankviz.core.runs.tradeoff import TOLERANCE_NATS

if TYPE_CHECKING:
    from rankviz.core.runs.fast_curve import Reading
    from rankviz.core.runs.record import Sweep
    from rankviz.verdict import Borrowed, Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepVerdict:
    """The verdict on a sweep."""

    sweep_id: str
    verdict: Verdict
    borrowed: Borrowed | None
    """The noise of other sweeps, where this one cannot tell its own."""


class Verdicts:
    """What the losses say, and what they do not."""

    def __init__(self, workspace: Workspace, runs: Runs):
        self._workspace = workspace
        self._runs = runs

    def of_sweep(self, sweep_id: str, tolerance: float | str = TOLERANCE_NATS) -> SweepVerdict | None:
        """The verdict on the runs of a sweep that have been evaluated; None as long as there is none.

        Args:
            sweep_id: One's own sweep or a recorded one.
            tolerance: Differences certainly smaller than this do not matter: nats, or "2%" of the gain over the base.
        """
        from rankviz import verdict

        sweep = self._runs.sweep(sweep_id)
        runs = verdict.losses_of(sweep.runs)
        if not any(not run.diverged for run in runs):
            return None
        result = verdict.judge(runs, tolerance=tolerance, base_loss=verdict.base_loss_of(sweep.runs))
        borrowed = self._borrowed(sweep) if result.unknown else None
        return SweepVerdict(sweep_id=sweep_id, verdict=result, borrowed=borrowed)

    def fast_curve(self, sweep_id: str, tolerance: float | str = TOLERANCE_NATS) -> Reading | None:
        """What the best fast curve of a sweep shows; None of a sweep without one. tolerance: as for a sweep."""
        from rankviz.core.runs.fast_curve import read

        sweep = self._runs.sweep(sweep_id)
        curve = next(iter(self._runs.fast_curves(sweep_id)), None)
        if curve is None:
            return None
        judged = self.of_sweep(sweep_id, tolerance)
        if judged is None:
            return read(curve, sweep.runs, run_sd=None)
        verdict = judged.verdict
        return read(curve, sweep.runs, run_sd=verdict.run_sd, tolerance=verdict.tolerance_nats)

    def of_table(self, path: Path, tolerance: float | str = TOLERANCE_NATS, base_loss: float | None = None) -> Verdict:
        """The verdict on a CSV file: columns rank, seed, example, loss, and learning_rate where several were tried.

        Args:
            path: The file. A loss that is nan marks a run that diverged.
            tolerance: As for a sweep.
            base_loss: Mean loss of the untrained base, for a tolerance as a share of the gain.
        """
        from rankviz import verdict

        self._workspace.refuse_private_path(str(path))
        return verdict.judge(verdict.read_losses(Path(path)), tolerance=tolerance, base_loss=base_loss)

    def _borrowed(self, sweep: Sweep) -> Borrowed | None:
        """From sweeps of the same setting if there are any, or else from all others."""
        from rankviz import verdict

        others = [other for other in (*self._runs.sweeps(), *self._runs.recorded()) if other.sweep_id != sweep.sweep_id]
        alike = [other for other in others if _setting(other) == _setting(sweep)]

        def losses(sweeps: Sequence[Sweep]):
            return ((other.sweep_id, verdict.losses_of(other.runs)) for other in sweeps)

        return verdict.borrow(losses(alike), same_setting=True) or verdict.borrow(losses(others), same_setting=False)


def _setting(sweep: Sweep) -> tuple:
    request = sweep.runs[0].request
    return request.base, request.data, request.max_steps
