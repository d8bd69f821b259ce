"""Every operation, once: the page, the HTTP endpoints and the command line all call these.

    api = Api()
    api.estimates.estimate(Question(model_id="Qwen/Qwen3-4B", ranks=(8, 16)))

Nothing is computed here. A group of operations is made, and what it needs imported, at its first use, so that
an estimate from the command line loads the core and one model's row.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from rankviz.api.models import Models
from rankviz.api.workspace import ASSETS, EMBEDDED, EMBEDDED_MODEL, Workspace

if TYPE_CHECKING:
    from rankviz.api.accuracy import Accuracy
    from rankviz.api.adapters import Adapters
    from rankviz.api.advice import Advice
    from rankviz.api.data import Data
    from rankviz.api.engines import Engines
    from rankviz.api.estimates import Estimates
    from rankviz.api.exports import Exports
    from rankviz.api.forecasts import Forecasts
    from rankviz.api.jobs import Jobs
    from rankviz.api.preflight import Preflight
    from rankviz.api.probes import Probes
    from rankviz.api.runs.measured import Measured
    from rankviz.api.runs.moves import Moves
    from rankviz.api.runs.own_sweeps import OwnSweeps
    from rankviz.api.runs.runs import Runs
    from rankviz.api.runs.spending import Spending
    from rankviz.api.runs.verdicts import Decisions, Verdicts
    from rankviz.api.runs.whereabouts import Whereabouts
    from rankviz.api.sinks import Sinks
    from rankviz.api.studies import Studies
    from rankviz.api.tradeoffs import Tradeoffs
    from rankviz.api.visitors.quota import Quota, Uploads

__all__ = ["ASSETS", "EMBEDDED", "EMBEDDED_MODEL", "Api", "Workspace"]


class Api:
    """All operations on one runs folder.

    Args:
        home: The runs folder; RANKVIZ_HOME, or ~/.rankviz.
        assets: The data that RankViz ships.
        shared: Whether others use it, as on a Space: then it reads only uploads and the runs folder.
    """

    def __init__(self, home: Path | None = None, assets: Path = ASSETS, shared: bool | None = None):
        self.workspace = Workspace(home, assets, shared)
        self.models = Models(self.workspace)

    @cached_property
    def data(self) -> Data:
        """What a data file holds."""
        from rankviz.api.data import Data

        return Data(self.workspace)

    @cached_property
    def accuracy(self) -> Accuracy:
        """How far off the estimates have been."""
        from rankviz.api.accuracy import Accuracy

        return Accuracy(self.workspace, self.models)

    @cached_property
    def preflight(self) -> Preflight:
        """Whether this machine can train."""
        from rankviz.api.preflight import Preflight

        return Preflight(self.workspace, self.models)

    @cached_property
    def probes(self) -> Probes:
        """Memory and step time measured on this machine."""
        from rankviz.api.probes import Probes

        return Probes(self.workspace, self.models, self.preflight, self.quota)

    @cached_property
    def measured(self) -> Measured:
        """What has finished on this machine says of estimates."""
        from rankviz.api.runs.measured import Measured

        return Measured(self.workspace, self.models)

    @cached_property
    def estimates(self) -> Estimates:
        """What a rank costs, and what fits."""
        from rankviz.api.estimates import Estimates

        return Estimates(self.workspace, self.models, self.measured, self.accuracy)

    @cached_property
    def studies(self) -> Studies:
        """Quality by rank in published studies."""
        from rankviz.api.studies import Studies

        return Studies(self.workspace, self.models)

    @cached_property
    def advice(self) -> Advice:
        """The recommended rank."""
        from rankviz.api.advice import Advice

        return Advice(
            self.workspace,
            self.models,
            self.studies,
            self.estimates,
            self.forecasts,
            self.own_sweeps,
            self.verdicts,
        )

    @cached_property
    def quota(self) -> Quota:
        """What a visitor may have at once."""
        from rankviz.api.visitors.quota import Quota

        return Quota(self.workspace, self.models)

    @cached_property
    def runs(self) -> Runs:
        """Real training runs and sweeps."""
        from rankviz.api.runs.runs import Runs

        return Runs(self.workspace, self.models, self.measured, self.preflight, self.quota)

    @cached_property
    def uploads(self) -> Uploads:
        """Files that a visitor has uploaded and that are still here."""
        from rankviz.api.visitors.quota import Uploads

        return Uploads(self.workspace)

    @cached_property
    def spending(self) -> Spending:
        """What runs have cost so far."""
        from rankviz.api.runs.spending import Spending

        return Spending(self.workspace, self.runs, self.whereabouts)

    @cached_property
    def whereabouts(self) -> Whereabouts:
        """Where runs are, are to be, or were."""
        from rankviz.api.runs.whereabouts import Whereabouts

        return Whereabouts(self.workspace)

    @cached_property
    def jobs(self) -> Jobs:
        """Runs on machines of Hugging Face, on the account of whoever asks."""
        from rankviz.api.jobs import Jobs

        return Jobs(self.workspace, self.runs, self.quota)

    @cached_property
    def engines(self) -> Engines:
        """Where sweeps may run: here, on rented machines, on what the server's owner has set up."""
        from rankviz.api.engines import Engines

        return Engines(self.workspace, self.runs, self.jobs, self.preflight)

    @cached_property
    def moves(self) -> Moves:
        """Sweeps that go on: again, further, elsewhere."""
        from rankviz.api.runs.moves import Moves

        return Moves(self.workspace, self.runs, self.jobs, self.engines, self.spending)

    @cached_property
    def forecasts(self) -> Forecasts:
        """Quality by rank, from published lines and one's own runs."""
        from rankviz.api.forecasts import Forecasts

        return Forecasts(self.workspace, self.models, self.runs, self.studies)

    @cached_property
    def tradeoffs(self) -> Tradeoffs:
        """What a rank costs against what it buys."""
        from rankviz.api.tradeoffs import Tradeoffs

        return Tradeoffs(self.estimates, self.studies, self.forecasts, self.own_sweeps)

    @cached_property
    def own_sweeps(self) -> OwnSweeps:
        """Sweeps that trained one model."""
        from rankviz.api.runs.own_sweeps import OwnSweeps

        return OwnSweeps(self.models, self.runs, self.forecasts)

    @cached_property
    def verdicts(self) -> Verdicts:
        """Which ranks can be distinguished."""
        from rankviz.api.runs.verdicts import Verdicts

        return Verdicts(self.workspace, self.runs)

    @cached_property
    def decisions(self) -> Decisions:
        """What to train next and what to ship."""
        from rankviz.api.runs.verdicts import Decisions

        return Decisions(self.workspace, self.runs, self.verdicts, self.forecasts)

    @cached_property
    def adapters(self) -> Adapters:
        """Trained adapters: their spectrum, and truncation to a lower rank."""
        from rankviz.api.adapters import Adapters

        return Adapters(self.workspace)

    @cached_property
    def sinks(self) -> Sinks:
        """Finished runs published to the Hub or to Trackio."""
        from rankviz.api.sinks import Sinks

        return Sinks(self.workspace, self.runs)

    @cached_property
    def exports(self) -> Exports:
        """Scripts, notebooks and configuration files."""
        from rankviz.api.exports import Exports

        return Exports(self.models, self.advice, self.estimates)
