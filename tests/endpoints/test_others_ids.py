"""Answers that rest on what others have measured: everybody's runs and probes are used, and none but one's own is
named."""

import json
from dataclasses import replace

import pytest

from rankviz import machine
from rankviz.api import Api
from rankviz.core.cost.pace import LIBRARIES
from rankviz.core.runs.events import ProbeCompleted, RunStarted, StepLogged
from rankviz.visitor import HOST, acting_as
from tests.support.runs import questions
from tests.support.runs.finished_runs import finished_events
from tests.support.runs.probes import SMOL, measured
from tests.support.runs.probes import request as probe_request
from tests.support.web.endpoints import ENDPOINTS, functions_of
from tests.support.web.visitors import ADMIN, ANN, BEN

GPU = {"device": "cuda", "device_name": "NVIDIA L4", "device_memory_bytes": 24_152_899_584, "cpu_count": 8}
ON_GPU = {"precision": "bf16", "optim": "adamw_8bit", "gradient_checkpointing": "unsloth", "loss_path": "fused"}
SWEEP = questions.sweep(base=SMOL, ranks=(4,), max_steps=20, max_length=512)


@pytest.fixture(params=["cpu", "cuda"])
def here(request, monkeypatch):
    """This machine: as it is, or with an NVIDIA L4."""
    here = {**machine.here(), "device": "cpu"} if request.param == "cpu" else GPU
    monkeypatch.setattr(machine, "here", lambda: dict(here))
    return {**here, "versions": machine.versions(LIBRARIES)}


@pytest.fixture
def api(tmp_path):
    api = Api(home=tmp_path, shared=True)
    api.workspace.work_queue = lambda: None
    return api


@pytest.fixture
def anns(api, here):
    """The ids of her run and her probe, which have completed on this machine."""
    cuda = here["device"] == "cuda"
    settings = {"max_length": 512, **(ON_GPU if cuda else {})}
    run_id = trained(api, questions.sweep(base=SMOL, ranks=(4,), max_steps=20, **settings), ANN, here)
    probe = probe_request("probe-of-ann", cuda=cuda, full=True, **settings)
    api.workspace.store.create_probe(probe, "{}", ANN.id)
    depths = [measured(depth, forward=400 + 50 * depth) for depth in probe.depths]
    happens(api, probe.probe_id, [RunStarted(time=1.0, environment=here), *depths, ProbeCompleted(time=9.0)])
    return [run_id, probe.probe_id]


def trained(api, request, visitor, environment, at=0.0):
    """The id of the only run of a visitor's sweep, which has made twenty steps there from then on."""
    (run_id,) = api.workspace.store.run_ids(api.workspace.store.create(request, visitor.id))
    happens(api, run_id, _twenty_steps(run_id, api, environment, at))
    return run_id


def happens(api, run_id, events):
    assert api.workspace.store.begin(run_id)
    for event in events:
        api.workspace.store.append(run_id, event)


def _twenty_steps(run_id, api, environment, at):
    for event in finished_events(api.workspace.store.get(run_id).request, 2.0):
        event = replace(event, time=event.time + at)
        if isinstance(event, RunStarted):
            yield replace(event, environment=environment)
        elif not isinstance(event, StepLogged):
            yield event
        elif event.step == 1:
            yield from (replace(event, step=n, seconds=0.5 * n, tokens=50 * n) for n in range(1, 21))


def test_no_answer_names_a_run_or_a_probe_of_another_that_it_rests_on(api, here, anns):
    run_id = trained(api, SWEEP, BEN, here, at=100.0)
    sweep_id = api.workspace.store.get(run_id).request.sweep_id
    functions, answers = functions_of(api), {}

    def ask(name, *args, **kwargs):
        answers[name] = functions[name](*args, **kwargs)
        return answers[name]

    with acting_as(BEN):
        ask("estimate", SMOL, [4], gpu="l4", precision="bf16", max_length=512)
        for name in ("fit", "serving", "advise", "forecast", "export", "studies"):
            ask(name, SMOL)
        for name in ("models", "gpus", "runs"):
            ask(name)
        for name in ("status", "share", "verdict"):
            ask(name, sweep_id)
        ask("run", run_id)
        ask("export_runs", [run_id])
        ask("delete", run_id)
        ask("delete_uploads")
        started = ask("start_sweep", SMOL, ranks=[4], seeds=1, steps=20, max_length=512)
        for name in ("cancel", "resume"):
            ask(name, started["sweep_id"])
        ask("spectrum", "sample")
        ask("resize", "sample", r=4)

    assert set(ENDPOINTS) == answers.keys()
    assert "from 1 finished run" in " ".join(started["expected"])
    assert "from 1 finished run" in answers["run"]["estimate"]["timed_in_words"]
    assert [] == [(name, each) for name, each in answers.items() if any(id in json.dumps(each) for id in anns)]


@pytest.mark.parametrize("here", ["cuda"], indirect=True)
@pytest.mark.parametrize("visitor", [ANN, ADMIN, HOST])
def test_their_owner_the_admin_and_the_host_are_told_which(api, anns, visitor):
    with acting_as(visitor):
        answer = functions_of(api)["estimate"](SMOL, [4], gpu="l4", precision="bf16", max_length=512)

    assert anns == [*answer["calibration"]["run_ids"], *answer["calibration"]["probe_ids"]]
