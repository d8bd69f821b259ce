"""Every operation, once: the page, the HTTP endpoints and the command line all call these.

    api = Api()
    api.estimates.estimate(Question(model_id="Qwen/Qwen3-4B", ranks=(8, 16)))

Nothing is computed here. A group of operations is made, and what it needs imported, at its first use, so that
an estimate from the command line loads the core and one model's row.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankviz.api.models import Models
from rankviz.api.workspace import ASSETS, EMBEDDED, EMBEDDED_MODEL, Workspace

if TYPE_CHECKING:
    from rankviz.api.adapters import Adapters
    from rankviz.api.advice import Advice, Exports
    from rankviz.api.data import Data
    from rankviz.api.engines import Engines, Moves
    from rankviz.api.estimates import Accuracy, Estimates
    from rankviz.api.jobs import Jobs
    from rankviz.api.probes import Preflight, Probes
    from rankviz.api.runs.locations import Locations
    from rankviz.api.runs.measured import MeasuredRuns
    from rankviz.api.runs.runs import Runs
    from rankviz.api.runs.spending import Spending
    from rankviz.api.runs.verdicts import Decisions, Verdicts
    from rankviz.api.sinks import Sinks
    from rankviz.api.studies import Forecasts, OwnSweeps, Studies, Tradeoffs
    from rankviz.shared.quota import Quota, Uploads

__all__ = ["ASSETS", "EMBEDDED", "EMBEDDED_MODEL", "Api", "Workspace"]


class _Group:
    """A group of operations: its module is imported, and the group made, at its first use.

    Args:
        path: Module in rankviz.api and class.
        needs: Names of the groups that it is made with.
    """

    def __init__(self, path: str, needs: str):
        self._module, _, self._class = path.rpartition(".")
        self._needs = needs.split()

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, api: Any, owner: type) -> Any:
        if api is None:
            return self
        module = self._module if self._module.startswith("rankviz.") else f"rankviz.api.{self._module}"
        make = getattr(import_module(module), self._class)
        return api.__dict__.setdefault(self._name, make(*(getattr(api, need) for need in self._needs)))


class Api:
    """All operations on one runs folder.

    Args:
        home: The runs folder; RANKVIZ_HOME, or ~/.rankviz.
        assets: The data that RankViz ships.
        shared: Whether others use it, as on a Space: then it reads only uploads and the runs folder.
    """

    data: Data = _Group("data.Data", "workspace")
    """Data files: what each holds."""
    accuracy: Accuracy = _Group("estimates.Accuracy", "workspace models")
    """Accuracy: how far off the estimates have been."""
    preflight: Preflight = _Group("probes.Preflight", "workspace models")
    """Preflight: whether this machine can train."""
    probes: Probes = _Group("probes.Probes", "workspace models preflight quota")
    """Memory and step time measured on this machine."""
    measured: MeasuredRuns = _Group("runs.measured.MeasuredRuns", "workspace models")
    """Measurements: what runs that finished here say of estimates."""
    estimates: Estimates = _Group("estimates.Estimates", "workspace models measured accuracy")
    """Estimates: what a rank costs, and what fits."""
    studies: Studies = _Group("studies.Studies", "workspace models")
    """Quality by rank in published studies."""
    advice: Advice = _Group("advice.Advice", "workspace models studies estimates forecasts own_sweeps verdicts")
    """The recommended rank."""
    quota: Quota = _Group("rankviz.shared.quota.Quota", "workspace models")
    """Limits: what a visitor may have at once."""
    runs: Runs = _Group("runs.runs.Runs", "workspace models measured preflight quota")
    """Real training runs and sweeps."""
    uploads: Uploads = _Group("rankviz.shared.quota.Uploads", "workspace")
    """Files that a visitor has uploaded and that are still here."""
    spending: Spending = _Group("runs.spending.Spending", "workspace runs locations")
    """Bills: what runs have cost so far."""
    locations: Locations = _Group("runs.locations.Locations", "workspace")
    """Where runs are, are to be, or were."""
    jobs: Jobs = _Group("jobs.Jobs", "workspace runs")
    """Runs on machines of Hugging Face, on the account of whoever asks."""
    engines: Engines = _Group("engines.Engines", "workspace runs jobs preflight")
    """Where sweeps may run: here, on rented machines, on what the server's owner has set up."""
    moves: Moves = _Group("engines.Moves", "workspace runs jobs engines spending")
    """Sweeps that go on: again, further, elsewhere."""
    forecasts: Forecasts = _Group("studies.Forecasts", "workspace models runs studies")
    """Quality by rank, from published lines and one's own runs."""
    tradeoffs: Tradeoffs = _Group("studies.Tradeoffs", "workspace estimates studies forecasts own_sweeps")
    """Trade-offs: what a rank costs against what it buys."""
    own_sweeps: OwnSweeps = _Group("studies.OwnSweeps", "models runs forecasts")
    """Sweeps that trained one model."""
    verdicts: Verdicts = _Group("runs.verdicts.Verdicts", "workspace runs")
    """Which ranks can be distinguished."""
    decisions: Decisions = _Group("runs.verdicts.Decisions", "workspace runs verdicts forecasts")
    """Decisions: what to train next and what to ship."""
    adapters: Adapters = _Group("adapters.Adapters", "workspace")
    """Trained adapters: their spectrum, and truncation to a lower rank."""
    sinks: Sinks = _Group("sinks.Sinks", "workspace runs")
    """Finished runs published to the Hub or to Trackio."""
    exports: Exports = _Group("advice.Exports", "models advice estimates")
    """Scripts, notebooks and configuration files."""

    def __init__(self, home: Path | None = None, assets: Path = ASSETS, shared: bool | None = None):
        self.workspace = Workspace(home, assets, shared)
        self.models = Models(self.workspace)
