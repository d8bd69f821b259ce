"""Sweeps that can be published: finished, with adapters, on a shared page or one's own."""

import json
from collections.abc import Mapping

from rankviz.api import Api
from rankviz.core.runs.record import Sweep
from tests.support.models.saved_adapters import two_blocks
from tests.support.runs.finished_runs import finished

FOLDER_OF_THE_BASE = "/models/of/this/machine"
"""What PEFT writes as the base of an adapter that was trained from a folder."""


def trained(api: Api, losses: Mapping[int, float] | None = None, *, seeds: tuple[int, ...] = (0,)) -> Sweep:
    """A finished sweep of whoever asks, whose runs have small adapters."""
    sweep = finished(api, dict(losses or {4: 2.0, 16: 1.5}), seeds=seeds)
    for run in sweep.runs:
        folder = two_blocks(api.workspace.store.run_dir(run.run_id) / "adapter")
        config = folder / "adapter_config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": FOLDER_OF_THE_BASE}))
    return sweep
