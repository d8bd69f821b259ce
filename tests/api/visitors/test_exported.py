"""What a visitor's export has of the server: no more than the visitor reads on the page."""

import zipfile

import pytest

from rankviz.api import Api
from rankviz.core.runs.events import AttemptPlaced, RunFailed, RunRequeued
from rankviz.store import RunStore, import_runs
from rankviz.store.ownership import WantedEngine
from rankviz.visitor import Visitor, acting_as
from tests.support.runs import questions
from tests.support.web.visitors import ANN

OWNERS = ("10.0.0.7", "lab-secret", "lab-gpus")
"""Of the owner of the server."""


@pytest.fixture
def failed(tmp_path, monkeypatch):
    """A shared page, and a run of Ann there whose journal has names and addresses of the server's engines."""
    monkeypatch.setenv("RANKVIZ_RAY_ADDRESS", "http://10.0.0.7:8265")
    monkeypatch.setenv("RANKVIZ_SLURM_PARTITION", "lab-gpus")
    monkeypatch.setenv("RANKVIZ_SLURM_OPTIONS", '["--account=lab-secret"]')
    api = Api(home=tmp_path / "home", shared=True)
    store = api.workspace.store
    (run_id,) = store.run_ids(store.create(questions.sweep(ranks=(4,)), ANN.id, WantedEngine("ray")))
    placed = {"engine": "ray", "where": "10.0.0.7", "waits": "Ray at http://10.0.0.7:8265 cannot be reached."}
    store.append(run_id, AttemptPlaced(time=1.0, attempt=1, **placed))
    store.append(run_id, RunRequeued(time=2.0, attempt=1, lost="A node of lab-gpus was lost."))
    log = "sbatch: account lab-secret\nconnecting to 10.0.0.7:8265"
    store.append(run_id, RunFailed(time=3.0, error="sbatch --account=lab-secret was refused.", log_tail=log))
    with (store.run_dir(run_id) / "events.jsonl").open("a") as journal:
        journal.write('{"event": "OfALaterVersion", "where": "10.0.0.7"}\n')
    return api, run_id


def test_a_visitors_export_names_nothing_of_the_servers_engines_and_comes_in_again(failed, tmp_path):
    api, run_id = failed
    with acting_as(ANN):
        zipped = api.runs.export([run_id], tmp_path / "anns.zip")
        shown = api.runs.get(run_id)

    with zipfile.ZipFile(zipped) as archive:
        content = b"".join(map(archive.read, archive.namelist())).decode()
    assert [] == [word for word in OWNERS if word in content]
    there = RunStore(tmp_path / "there")
    assert [run_id] == import_runs(there, zipped)
    came = there.get(run_id)
    assert ("failed", shown.error, shown.log_tail) == (came.state, came.error, came.log_tail)
    assert "sbatch … was refused." == came.error


def test_the_export_of_the_owner_of_the_server_has_everything(failed, tmp_path):
    api, run_id = failed
    with acting_as(Visitor("", admin=True)):
        zipped = api.runs.export([run_id], tmp_path / "all.zip")

    with zipfile.ZipFile(zipped) as archive:
        journal = archive.read(f"runs/{run_id}/events.jsonl")
    assert (api.workspace.store.run_dir(run_id) / "events.jsonl").read_bytes() == journal
