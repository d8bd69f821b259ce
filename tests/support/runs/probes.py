"""Requests for probes, and depths as they might be measured."""

from rankviz.api import Api
from rankviz.core.cost.setup import Device
from rankviz.core.probe import settle
from rankviz.core.runs.events import DepthMeasured
from tests.support.runs import questions
from tests.support.runs.toy import ASSETS

SMOL = "HuggingFaceTB/SmolLM2-135M"
API = Api(assets=ASSETS)
MIB = 2**20


def measured(depth, *, kind="resident above baseline", steps=(1.0,), **moments):
    return DepthMeasured(
        time=0.0,
        depth=depth,
        baseline_bytes=600 * MIB,
        load_peak_bytes=(100 + 20 * depth) * MIB,
        moments={name: mib * MIB for name, mib in moments.items()},
        peak_kind=kind,
        timed_steps=tuple(steps),
        first_step_seconds=2.0,
        tokens_per_step=512,
        trainable_parameters=1000 * depth,
        total_parameters=5000 + 100 * depth,
        took_seconds=10.0,
    )


def request(probe_id="probe-1", *, cuda=False, shared=False, model=SMOL, **settings):
    return settle(
        questions.probe(model, **settings),
        API.models.get(model),
        device=Device(cuda=cuda),
        shared=shared,
        probe_id=probe_id,
        created_at=1.0,
    )
