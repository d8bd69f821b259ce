"""What all operations work on: a runs folder, RankViz's own data, and models found by any name they go by."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankviz.catalog import hardware
from rankviz.catalog import models as catalog_models
from rankviz.core.cost.device import Device
from rankviz.core.cost.gpu import Gpu
from rankviz.core.model.spec import ModelSpec
from rankviz.errors import InvalidSettingError, UnknownModelError

if TYPE_CHECKING:
    from rankviz.dataset import Preview
    from rankviz.store import RunStore
    from rankviz.supervisor import Supervisor

ASSETS = Path(__file__).parents[2] / "assets"
EMBEDDED = "embedded"
EMBEDDED_MODEL = "HuggingFaceTB/SmolLM2-135M"
"""The catalogue row with the shapes of the embedded base, SmolLM2-135M-Instruct."""


class Workspace:
    """One runs folder, with the models, cards and constants that RankViz ships.

    Args:
        home: The runs folder; RANKVIZ_HOME, or ~/.rankviz.
        assets: RankViz's own data.
        shared: Whether strangers use it, as on a Space: then only uploads and the runs folder may be read.
    """

    def __init__(self, home: Path | None = None, assets: Path = ASSETS, shared: bool = "SPACE_ID" in os.environ):
        self.home = Path(home or os.environ.get("RANKVIZ_HOME") or Path.home() / ".rankviz")
        self.assets = assets
        self.shared = shared
        self._looked_up: dict[str, ModelSpec] = {}
        self._previews: dict[str, Preview] = {}

    def models(self) -> Sequence[catalog_models.ModelRow]:
        """The catalogue, a short row a model, sorted by id."""
        return catalog_models.load_index(self.assets)

    def model(self, ref: str) -> ModelSpec:
        """A catalogue id or one of its aliases, a folder, a config.json, or a Hub id.

        The last three are built on the meta device in a worker process, under time and memory limits.
        """
        ref = ref.strip()
        if ref not in self._looked_up:
            self._looked_up[ref] = self._find_model(ref)
        return self._looked_up[ref]

    def _find_model(self, ref: str) -> ModelSpec:
        if ref == EMBEDDED:
            ref = EMBEDDED_MODEL
        self._refuse_private_path(ref)
        try:
            return catalog_models.load_model(self.assets, ref)
        except UnknownModelError as unknown:
            from rankviz import hub

            if (spec := hub.find_model(ref, cache=self.home / "introspected", unknown=unknown)) is None:
                raise
            return spec

    def _refuse_private_path(self, ref: str) -> None:
        """A shared page must not become a window on its server's files."""
        if not self.shared or not (path := Path(ref)).exists():
            return
        uploads = Path(os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir()) / "gradio")
        if not any(path.resolve().is_relative_to(folder.resolve()) for folder in (uploads, self.home)):
            raise InvalidSettingError("This page is shared, so it reads no files of its machine: upload yours instead.")

    @cached_property
    def _gpus(self) -> Sequence[Gpu]:
        return hardware.load_gpus(self.assets)

    @cached_property
    def _assumptions(self):
        return hardware.load_assumptions(self.assets)

    def gpus(self) -> Sequence[Gpu]:
        """The GPU table with dated prices."""
        return self._gpus

    @cached_property
    def store(self) -> RunStore:
        from rankviz.store import RunStore

        return RunStore(self.home)

    @cached_property
    def supervisor(self) -> Supervisor:
        from rankviz.supervisor import Supervisor

        return Supervisor(self.store)

    def work_queue(self) -> None:
        """Go on with what is queued, and settle what an app that stopped has left behind."""
        self.supervisor.start()

    def has_cuda(self) -> bool:
        """Whether this machine has a GPU to train on."""
        from rankviz import machine

        return machine.here()["device"] == "cuda"

    def here(self) -> Device:
        """This machine, as training finds it."""
        from rankviz import machine

        return self._device(machine.here())

    def _device(self, environment: Mapping[str, Any]) -> Device:
        return Device(
            cpu_count=environment.get("cpu_count") or os.cpu_count() or 1,
            cpu_bf16=environment.get("cpu_bf16"),
            cuda=environment.get("device") == "cuda",
            gpu=hardware.gpu_of_device(self._gpus, environment.get("device_name") or ""),
        )
