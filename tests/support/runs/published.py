"""Sweeps that can be published: finished, with adapters, on a shared page or one's own."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from rankviz.api import Api
from rankviz.core.runs.record import Sweep
from rankviz.publish import DATASET, Destination, Token
from rankviz.visitor import acting_as
from tests.support.engines.hub_stand_in import TOKEN
from tests.support.models.saved_adapters import two_blocks
from tests.support.runs.finished_runs import finished
from tests.support.web.visitors import ANN

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


ALICES = Token(TOKEN)
SERVERS = "hf_theServersOwnToken0123456789"
PLACE = Destination(to=DATASET, name="alice/ranks")


def publish(api, name, to=DATASET, token=ALICES, visitor=ANN, **more):
    with acting_as(visitor):
        return api.runs.publish(name, Destination(to=to, name="alice/ranks", **more), token)


def everything_below(folder):
    """Without what goes while it is read, as a file that is written aside."""
    found = b""
    for place, _, names in os.walk(folder):  # which passes over folders that go
        for path in (Path(place) / name for name in names):
            with suppress(FileNotFoundError):
                found += path.read_bytes() if path.is_file() else b""
    return found


def processes() -> bytes:
    """Arguments and environments of our own processes."""
    found = b""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for name in ("cmdline", "environ"):
            with suppress(OSError):
                found += Path(f"/proc/{pid}/{name}").read_bytes()
    return found
