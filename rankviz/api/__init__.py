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
    from rankviz.api.advice import Advice
    from rankviz.api.data import Data
    from rankviz.api.engines import Engines
    from rankviz.api.estimates import Estimates
    from rankviz.api.machine import Machine
    from rankviz.api.runs import Runs
    from rankviz.api.studies import Studies
    from rankviz.api.verdicts import Verdicts

__all__ = ["ASSETS", "EMBEDDED", "EMBEDDED_MODEL", "Api", "Workspace"]


class _Group:
    """Descriptor of a group of operations: imports the module of the same name and makes the group at the first use."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, api: Any, owner: type) -> Any:
        if api is None:
            return self
        group = getattr(import_module(f"rankviz.api.{self._name}"), self._name.capitalize())
        return api.__dict__.setdefault(self._name, group(api))


class Api:
    """All operations on one runs folder.

    Args:
        home: The runs folder; None for RANKVIZ_HOME, or ~/.rankviz.
        assets: Folder of the data that RankViz ships.
        shared: True where others use the page, as on a Space; then only uploads and the runs folder are read. None for
            what the settings say.
    """

    data: Data = _Group()
    estimates: Estimates = _Group()
    studies: Studies = _Group()
    advice: Advice = _Group()
    runs: Runs = _Group()
    engines: Engines = _Group()
    verdicts: Verdicts = _Group()
    adapters: Adapters = _Group()
    machine: Machine = _Group()

    def __init__(self, home: Path | None = None, assets: Path = ASSETS, shared: bool | None = None):
        self.workspace = Workspace(home, assets, shared)
        self.models = Models(self)
