"""Where a sweep may run: what is offered to whom, and what it takes there by the GPU there and by its runs."""

import json
import zipfile

import pytest

from rankviz.api import Api
from rankviz.core.runs.events import AttemptPlaced, RunCompleted, RunFailed, RunRequeued, RunStarted
from rankviz.errors import NotInstalledError
from rankviz.settings import read
from rankviz.shared.rights import without_private
from rankviz.store import RunStore
from rankviz.store.journal import WantedEngine
from rankviz.visitor import Visitor, acting_as
from tests.support.runs import questions
from tests.support.runs.finished_runs import import_runs
from tests.support.web.visitors import ANN

RAY = "RANKVIZ_RAY_ADDRESS"


@pytest.fixture
def no_trainer(monkeypatch):
    """Nothing can be trained on this machine."""
    monkeypatch.setenv("SPACES_ZERO_GPU", "1")


def completed(api, engine, environment):
    """A run that has completed there."""
    store = api.workspace.store
    (run_id,) = store.run_ids(store.create(questions.sweep(ranks=(4,)), "", WantedEngine(engine)))
    measured = {"train_seconds": 9.0, "peak_memory_bytes": 1, "peak_memory_kind": "allocated"}
    for event in (
        AttemptPlaced(time=1.0, attempt=1, engine=engine),
        RunStarted(time=2.0, environment=environment),
        RunCompleted(time=900.0, **measured),
    ):
        store.append(run_id, event)


def set_up(monkeypatch):
    """Both kinds of clusters, with names that are the owner's own."""
    monkeypatch.setenv(RAY, "http://10.0.0.1:8265")
    monkeypatch.setenv("RANKVIZ_RAY_STORAGE", "s3://lab-bucket/runs")
    monkeypatch.setenv("RANKVIZ_SLURM_PARTITION", "lab-gpus")
    monkeypatch.setenv("RANKVIZ_SLURM_OPTIONS", '["--time=4:00:00", "--account=lab-secret", "--qos=premium"]')
    monkeypatch.setattr("rankviz.jobs.slurm.NEEDED", ())


PRIVATE = ("10.0.0.1", "8265", "lab-", "premium", "--")


def test_what_the_owner_has_set_up_is_offered_to_every_visitor_without_addresses_and_accounts(tmp_path, monkeypatch):
    set_up(monkeypatch)
    shared = Api(home=tmp_path / "shared", shared=True)

    with acting_as(ANN):
        offered = shared.engines.offered()
        assert ["This machine", "Ray cluster", "Slurm cluster"] == [place.title for place in offered]
        assert not [word for word in PRIVATE for place in offered if word in place.title + place.about]


@pytest.mark.parametrize("options", [["--account=bio", "--mem=4G"], ["-A bio", "-N 2"], ["-A", "bio"], ["-Abio"]])
def test_a_name_of_the_site_is_hidden_however_its_option_is_written_and_no_number_is(options, monkeypatch):
    monkeypatch.setenv("RANKVIZ_SLURM_OPTIONS", json.dumps(options))

    shown = without_private(f"Account bio may not use 2 of 4 nodes ({' '.join(options)})", read())

    assert shown.startswith("Account … may not use 2 of 4 nodes (")
    assert "bio" not in shown


def test_a_run_of_a_visitor_and_its_export_say_nothing_of_the_site_where_it_waits_or_failed(tmp_path, monkeypatch):
    set_up(monkeypatch)
    shared = Api(home=tmp_path / "shared", shared=True)
    store = shared.workspace.store
    (run_id,) = store.run_ids(store.create(questions.sweep(ranks=(4,)), ANN.id, WantedEngine("slurm")))
    waits = "Slurm does not take the job now: Invalid account lab-secret on 10.0.0.7"
    store.append(run_id, AttemptPlaced(time=1.0, attempt=1, engine="slurm", where="10.0.0.7", waits=waits))

    with acting_as(ANN):
        waiting = shared.runs.get(run_id)
        assert (waiting,) == shared.runs.sweeps()[0].runs
        store.append(run_id, RunRequeued(time=2.0, attempt=1, lost="A node of lab-gpus was lost."))
        log = "sbatch: account lab-secret\nconnecting to 10.0.0.1:8265"
        store.append(run_id, RunFailed(time=3.0, error="sbatch --account=lab-secret was refused.", log_tail=log))
        with (store.run_dir(run_id) / "events.jsonl").open("a") as journal:
            journal.write('{"event": "OfALaterVersion", "where": "10.0.0.7"}\n')
        failed = shared.runs.get(run_id)
        zipped = shared.runs.export([run_id], tmp_path / "anns.zip")
    with acting_as(Visitor("", admin=True)):
        assert "sbatch --account=lab-secret was refused." == shared.runs.get(run_id).error
    with zipfile.ZipFile(zipped) as archive:
        content = b"".join(map(archive.read, archive.namelist())).decode()
    there = RunStore(tmp_path / "there")

    assert ("Slurm does not take the job now: Invalid account … on …", "") == (waiting.waits, waiting.where)
    assert "sbatch … was refused." == failed.error
    assert [] == [word for word in ("10.0.0.", "lab-") if word in content]
    assert [run_id] == import_runs(there, zipped)
    came = there.get(run_id)
    assert ("failed", failed.error, failed.log_tail) == (came.state, came.error, came.log_tail)


def test_a_sweep_elsewhere_needs_no_trainer_here(own, no_trainer):
    api, _ = own

    with pytest.raises(NotInstalledError):
        api.runs.start(questions.sweep(ranks=(4,)))
    sweep_id = api.runs.start(questions.sweep(ranks=(4,)), api.engines.destination("elsewhere"))
    api.workspace.supervisor.settle()

    assert ["completed"] == [run.state for run in api.runs.sweep(sweep_id).runs]
    assert "" == api.engines.why_none()
    assert ["Other machines"] == [engine.title for engine in api.engines.offered()]


A_CPU = {"device": "cpu", "device_name": "a large CPU", "cpu_count": 64, "cpu_bf16": True}


def test_a_gpu_that_the_engine_names_gives_time_and_memory(own):
    api, there = own
    there.gpu_models, there.has_gpu = ["L4"], True

    plan = api.runs.plan(questions.sweep(), api.engines.destination("elsewhere"))

    assert ("NVIDIA L4", "") == (plan.expected.device_name, plan.not_known)
    assert plan.sentences[0].startswith("3 runs on NVIDIA L4: estimated time ")


def test_a_run_that_has_completed_there_says_what_the_next_will_find(own):
    api, there = own
    completed(api, "elsewhere", A_CPU)

    assert (
        api.runs.plan(questions.sweep(), api.engines.destination("elsewhere"))
        .sentences[0]
        .startswith("3 runs on a large CPU: estimated")
    )

    there.gpu_models, there.has_gpu = ["T4"], True  # other nodes have come since
    assert "Tesla T4" == api.runs.plan(questions.sweep(), api.engines.destination("elsewhere")).expected.device_name


def test_the_wait_for_what_runs_elsewhere_is_not_told_from_this_machine(own):
    api, _ = own
    create = api.workspace.store.create
    _, here = (create(questions.sweep(ranks=(4,)), "", WantedEngine("local")) for _ in range(2))
    _, there = (create(questions.sweep(ranks=(4,)), "", WantedEngine("elsewhere")) for _ in range(2))

    assert (1, 1) == (api.runs.queue_place(here).ahead, api.runs.queue_place(there).ahead)
    assert api.runs.queue_place(here).seconds.expected > 0
    assert api.runs.queue_place(there).seconds is None
