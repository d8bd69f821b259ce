"""Which ranks can be told apart: of a sweep, or of a table of losses that someone brings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankviz.api.runs import Runs
from rankviz.api.workspace import Workspace
from rankviz.core.runs.tradeoff import TOLERANCE_NATS

if TYPE_CHECKING:
    from rankviz.core.runs.record import Sweep
    from rankviz.verdict import Borrowed


class Verdicts:
    """What the losses say, and what they can't."""

    def __init__(self, workspace: Workspace, runs: Runs):
        self._workspace = workspace
        self._runs = runs

    def of_sweep(self, sweep_id: str, tolerance: float | str = TOLERANCE_NATS) -> dict[str, Any] | None:
        """The verdict on the runs of a sweep that have been evaluated; None as long as there is none.

        Args:
            sweep_id: One's own sweep or a recorded one.
            tolerance: Differences surely smaller than this don't matter: nats, or "2%" of the gain over the base.
        """
        from rankviz import verdict

        sweep = self._runs.sweep(sweep_id)
        runs = verdict.losses_of(sweep.runs)
        if not any(not run.diverged for run in runs):
            return None
        said = verdict.judge(runs, tolerance=tolerance, base_loss=verdict.base_loss_of(sweep.runs))
        return {"sweep_id": sweep_id, **verdict.verdict_json(said, self._borrowed(sweep) if said.unknown else None)}

    def of_table(
        self, path: Path, tolerance: float | str = TOLERANCE_NATS, base_loss: float | None = None
    ) -> dict[str, Any]:
        """The same of a CSV file with the columns rank, seed, example, loss, and learning_rate if there were several.

        Args:
            path: The file. A loss that is nan marks a run that diverged.
            tolerance: As for a sweep.
            base_loss: Mean loss of the untrained base, for a tolerance as a share of the gain.
        """
        from rankviz import verdict

        self._workspace.refuse_private_path(str(path))
        runs = verdict.read_losses(Path(path))
        return verdict.verdict_json(verdict.judge(runs, tolerance=tolerance, base_loss=base_loss))

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
