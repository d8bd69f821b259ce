"""Whose runs an endpoint shows and changes on a shared page, and what it says of others' runs that it rests on."""

import json
from dataclasses import replace

import pytest

from rankviz import machine
from rankviz.api import Api
from rankviz.core.cost.pace import LIBRARIES
from rankviz.core.runs.events import ProbeCompleted, RunCancelled, RunStarted, StepLogged
from rankviz.errors import RankVizError
from rankviz.visitor import HOST, acting_as
from tests.support.processes.workers import Patient, wait_for, worker
from tests.support.quick import chosen_quick
from tests.support.runs import questions
from tests.support.runs.finished_runs import finished, finished_events
from tests.support.runs.probes import SMOL, measured
from tests.support.runs.probes import request as probe_request
from tests.support.web.endpoints import ENDPOINTS, functions_of
from tests.support.web.visitors import ADMIN, ANN, BEN

LOSSES = {4: 2.0, 16: 1.5}


@pytest.fixture
def api(tmp_path):
    return Api(home=tmp_path, shared=True)


@pytest.fixture
def call(api):
    functions = functions_of(api)

    def called(visitor, name, *args, **kwargs):
        with acting_as(visitor):
            return functions[name](*args, **kwargs)

    return called


@pytest.fixture
def anns(api):
    with acting_as(ANN):
        return finished(api, LOSSES).sweep_id


@pytest.fixture
def busy(api, call):
    """Ben's sweep, which trains until the test has ended."""
    api.workspace.supervisor = Patient(api.workspace.store, command=worker("begin(run_ids[0]); time.sleep(600)"))
    sweep_id = api.workspace.store.create(questions.sweep(ranks=(4,), max_steps=2), BEN.id)
    api.workspace.work_queue()
    wait_for(lambda: api.workspace.store.sweep(sweep_id).running)
    yield sweep_id
    for each in {row["sweep_id"] for row in call(ADMIN, "runs") if row["state"] in ("queued", "running")}:
        call(ADMIN, "cancel", each)


@pytest.fixture
def refuses(call):
    def refused(visitor, name, *args, **kwargs):
        with pytest.raises(RankVizError) as error:
            call(visitor, name, *args, **kwargs)
        return str(error.value)

    return refused


def test_what_is_not_shared_is_answered_as_what_is_not_there(call, refuses, anns):
    (run_id, _) = [row["run_id"] for row in call(ANN, "runs")]

    for name in ("status", "verdict", "cancel", "resume", "delete", "share"):
        assert f"No run or sweep '{anns}' here." == refuses(BEN, name, anns)
    assert f"No run or sweep '{anns}' here." == refuses(BEN, "export_runs", [anns])
    assert f"No run or sweep '{run_id}' here." == refuses(BEN, "run", run_id)
    absent = "20200101-000000-aaaa-001-r4"
    assert refuses(BEN, "spectrum", absent).replace(absent, run_id) == refuses(BEN, "spectrum", run_id)


def test_what_is_shared_is_seen_and_not_changed(call, refuses, anns):
    address = call(ANN, "share", anns)

    assert {"shared": True, "address": f"?tab=runs&sweep={anns}"} == address
    seen = call(BEN, "status", anns)
    assert (True, False, True) == (seen["ended"], seen["yours"], seen["shared"])
    for name in ("cancel", "resume", "delete", "share"):
        assert "belongs to another visitor" in refuses(BEN, name, anns)
    call(ANN, "share", anns, False)
    assert "No run or sweep" in refuses(BEN, "status", anns)


@pytest.mark.parametrize(
    "kind", chosen_quick(["probe", "run", "sweep", "another's", "recorded", "absent"], ["another's", "recorded"])
)
@pytest.mark.parametrize("name", ["share", "resume", "cancel", "delete", "export_runs"])
def test_what_is_answered_with_an_error_is_not_done(call, api, anns, name, kind):
    store = api.workspace.store
    store.create_probe(probe_request("probe-of-ann"), "{}", ANN.id)
    store.append("probe-of-ann", RunCancelled(time=1.0))
    others = {"another's": store.create(questions.sweep(), BEN.id), "recorded": api.runs.recorded()[0].sweep_id}
    mine = {"probe": "probe-of-ann", "run": store.run_ids(anns)[0], "sweep": anns}
    id = {**mine, **others}.get(kind, "absent")
    before = _files(store.runs_dir)

    try:
        call(ANN, name, [id] if name == "export_runs" else id)
    except RankVizError:
        assert before == _files(store.runs_dir)
    else:
        assert kind in ("run", "sweep") or (name, kind) in DONE


DONE = [("cancel", "probe"), ("delete", "probe"), ("export_runs", "recorded")]
"""Beside what is done to one's own runs and sweeps."""


def _files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_sweep_is_started_as_the_limits_allow_and_belongs_to_who_started_it(call, refuses, busy):
    started = call(ANN, "start_sweep", mode="quick", steps=2)

    assert [4, 4, 64] == sorted(row["r"] for row in call(ANN, "runs"))
    assert started["run_ids"] == [row["run_id"] for row in call(ANN, "runs")]
    assert 1 == started["place"]["ahead"]
    assert any("3 runs" in sentence for sentence in started["expected"])
    status = call(ANN, "status", started["sweep_id"])
    assert ({"queued"}, False) == ({run["state"] for run in status["runs"]}, status["ended"])
    assert status["waits"].startswith("Place 2 in the queue: 1 sweep before it.")
    assert ("local", "Queued.") == (started["engine"], status["in_words"])
    assert {("local", 1, 0.0, status["waits"])} == {
        tuple(run[key] for key in ("engine", "attempt", "device_seconds", "waits")) for run in status["runs"]
    }
    assert (0.0, None, "") == tuple(status["cost"][key] for key in ("device_seconds", "usd", "in_words"))
    assert "No run or sweep" in refuses(BEN, "cancel", started["sweep_id"])
    assert started["run_ids"] == call(ANN, "cancel", started["sweep_id"])["run_ids"]
    assert "This server allows at most 200 steps per run (got 300)." in refuses(ANN, "start_sweep", steps=300)
    assert "mode must be one of sweep, quick, fast" in refuses(ANN, "start_sweep", mode="slow")


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
def measured_anns(api, here):
    """The ids of her run and her probe, which have completed on this machine."""
    api.workspace.work_queue = lambda: None  # what is queued here is not trained
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


def test_no_answer_names_a_run_or_a_probe_of_another_that_it_rests_on(api, here, measured_anns):
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
    assert [] == [(name, each) for name, each in answers.items() if any(id in json.dumps(each) for id in measured_anns)]


@pytest.mark.parametrize("here", ["cuda"], indirect=True)
@pytest.mark.parametrize("visitor", [ANN, ADMIN, HOST])
def test_their_owner_the_admin_and_the_host_are_told_which(api, measured_anns, visitor):
    with acting_as(visitor):
        answer = functions_of(api)["estimate"](SMOL, [4], gpu="l4", precision="bf16", max_length=512)

    assert measured_anns == [*answer["calibration"]["run_ids"], *answer["calibration"]["probe_ids"]]
