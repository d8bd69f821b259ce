"""All operations of RankViz, which the page, the HTTP endpoints and the command line call.

    api = Api()
    api.estimates.estimate(Question(model_id="Qwen/Qwen3-4B", ranks=(8, 16)))

Nothing is computed here. Each group of operations is imported and made at its first use, so an estimate from the
command line loads only the core and one model's row.
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
    from rankviz.api.engines import Engines, Jobs, Moves
    from rankviz.api.estimates import Accuracy, Estimates
    from rankviz.api.locations import Locations, Spending
    from rankviz.api.measured import MeasuredRuns
    from rankviz.api.probes import Preflight, Probes
    from rankviz.api.runs import Runs
    from rankviz.api.sinks import Sinks
    from rankviz.api.studies import Forecasts, Studies, Tradeoffs
    from rankviz.api.verdicts import Decisions, Verdicts
    from rankviz.shared.quota import Quota

__all__ = ["ASSETS", "EMBEDDED", "EMBEDDED_MODEL", "Api", "Workspace"]


class _Group:
    """Descriptor of a group of operations, which imports its module and makes the group at the first use.

    Args:
        path: Module below rankviz, and class.
    """

    def __init__(self, path: str):
        self._module, _, self._class = path.rpartition(".")

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, api: Any, owner: type) -> Any:
        if api is None:
            return self
        group = getattr(import_module(f"rankviz.{self._module}"), self._class)
        return api.__dict__.setdefault(self._name, group(api))


class Api:
    """All operations on one runs folder.

    Args:
        home: The runs folder; None for RANKVIZ_HOME, or ~/.rankviz.
        assets: Folder of the data that RankViz ships.
        shared: True where others use the page, as on a Space; then only uploads and the runs folder are read. None for
            what the settings say.
    """

    data: Data = _Group("api.data.Data")
    accuracy: Accuracy = _Group("api.estimates.Accuracy")
    preflight: Preflight = _Group("api.probes.Preflight")
    probes: Probes = _Group("api.probes.Probes")
    measured: MeasuredRuns = _Group("api.measured.MeasuredRuns")
    estimates: Estimates = _Group("api.estimates.Estimates")
    studies: Studies = _Group("api.studies.Studies")
    forecasts: Forecasts = _Group("api.studies.Forecasts")
    tradeoffs: Tradeoffs = _Group("api.studies.Tradeoffs")
    advice: Advice = _Group("api.advice.Advice")
    exports: Exports = _Group("api.advice.Exports")
    quota: Quota = _Group("shared.quota.Quota")
    runs: Runs = _Group("api.runs.Runs")
    locations: Locations = _Group("api.locations.Locations")
    spending: Spending = _Group("api.locations.Spending")
    jobs: Jobs = _Group("api.engines.Jobs")
    engines: Engines = _Group("api.engines.Engines")
    moves: Moves = _Group("api.engines.Moves")
    verdicts: Verdicts = _Group("api.verdicts.Verdicts")
    decisions: Decisions = _Group("api.verdicts.Decisions")
    adapters: Adapters = _Group("api.adapters.Adapters")
    sinks: Sinks = _Group("api.sinks.Sinks")

    def __init__(self, home: Path | None = None, assets: Path = ASSETS, shared: bool | None = None):
        self.workspace = Workspace(home, assets, shared)
        self.models = Models(self)
