"""All operations of RankViz, which the page, the HTTP endpoints and the command line call.

    api = Api()
    api.estimates.estimate(Question(model_id="Qwen/Qwen3-4B", ranks=(8, 16)))

Nothing is computed here. Each group of operations is imported and made at its first use, so an estimate from the
command line loads only the core and one model's row.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rankviz.api.workspace import ASSETS, EMBEDDED, EMBEDDED_MODEL, Part, Workspace

if TYPE_CHECKING:
    from rankviz.api.adapters import Adapters
    from rankviz.api.advice import Advice
    from rankviz.api.data import Data
    from rankviz.api.engines import Engines
    from rankviz.api.estimates import Estimates
    from rankviz.api.machine import Machine
    from rankviz.api.models import Models
    from rankviz.api.progress import Progress
    from rankviz.api.runs import Runs
    from rankviz.api.starts import Starts
    from rankviz.api.studies import Studies
    from rankviz.api.verdicts import Verdicts
    from rankviz.shared.quota import Quota

__all__ = ["ASSETS", "EMBEDDED", "EMBEDDED_MODEL", "Api", "Workspace"]


class Api:
    """All operations on one runs folder.

    Args:
        home: The runs folder; None for RANKVIZ_HOME, or ~/.rankviz.
        assets: Folder of the data that RankViz ships.
        shared: True where others use the page, as on a Space; then only uploads and the runs folder are read. None to
            read this from the settings.
    """

    models: Models = Part("api.models.Models")
    data: Data = Part("api.data.Data")
    estimates: Estimates = Part("api.estimates.Estimates")
    studies: Studies = Part("api.studies.Studies")
    advice: Advice = Part("api.advice.Advice")
    starts: Starts = Part("api.starts.Starts")
    progress: Progress = Part("api.progress.Progress")
    runs: Runs = Part("api.runs.Runs")
    quota: Quota = Part("shared.quota.Quota")
    engines: Engines = Part("api.engines.Engines")
    verdicts: Verdicts = Part("api.verdicts.Verdicts")
    adapters: Adapters = Part("api.adapters.Adapters")
    machine: Machine = Part("api.machine.Machine")

    def __init__(self, home: Path | None = None, assets: Path = ASSETS, shared: bool | None = None):
        self.workspace = Workspace(home, assets, shared)
