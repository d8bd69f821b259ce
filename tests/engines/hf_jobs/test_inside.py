"""What runs in a job goes on where the bucket cannot be written for a while."""

import json
import os
from pathlib import Path

import pytest
from rankviz.jobs.hf_jobs.following import lines

from rankviz.core.runs.events import Attempt
from rankviz.jobs import inside
from rankviz.jobs.inside import Carrier
from tests.engines.hf_jobs.following.test_mirror import DONE, SAVED, STEPS
from tests.support.engines.hub_jobs import only_job, sweep
from tests.support.processes.workers import COMPLETE_ALL, states, wait_for, waiting_for

ATTEMPTS = [Attempt("r4", 1), Attempt("r8", 1)]


@pytest.fixture
def work(tmp_path):
    """A job's folder, where a run has completed and another one trains."""
    folder = tmp_path / "work"
    for attempt, journal in zip(ATTEMPTS, (STEPS[0] + SAVED + DONE, STEPS[0]), strict=True):
        run = folder / "runs" / attempt.run_id
        (run / "adapter").mkdir(parents=True)
        (run / "events.jsonl").write_bytes(journal)
    (folder / "runs/r4/adapter/adapter_model.safetensors").write_bytes(b"1234")
    return folder


@pytest.fixture
def back(tmp_path):
    """Of a bucket, where nothing can be written of the run at r = 4 as long as its folder is a file."""
    (tmp_path / "back/runs").mkdir(parents=True)
    (tmp_path / "back/runs/r4").touch()
    return tmp_path / "back"


def printed(capfd):
    """Runs whose end was printed, and all runs of which something was."""
    pieces = [
        piece for line in capfd.readouterr().out.splitlines() if isinstance(piece := lines.read(line), lines.Piece)
    ]
    ends = {piece.attempt.run_id for piece in pieces if piece.data == DONE}
    return ends, {piece.attempt.run_id for piece in pieces}


def test_the_end_of_a_run_is_printed_once_its_files_are_written(work, back, capfd):
    carrier = Carrier(work, back, ATTEMPTS)

    assert not carrier.look()
    assert (set(), {"r8"}) == printed(capfd)
    assert (back / "runs/r8/events.jsonl").exists()
    (back / "runs/r4").unlink()
    assert carrier.look()

    assert ({"r4"}, {"r4"}) == printed(capfd)
    assert b"1234" == (back / "runs/r4/adapter/adapter_model.safetensors").read_bytes()


def test_what_cannot_be_written_is_told_once_and_at_last_all_is_printed(work, back, capfd):
    carrier = Carrier(work, back, ATTEMPTS)

    for _ in range(3):
        assert not carrier.look()
    said = capfd.readouterr().out
    assert 1 == said.count("runs/r4/events.jsonl could not be written into the storage")
    assert carrier.look(last=True)

    assert "r4" in printed(capfd)[0]


def test_a_run_whose_own_files_are_written_ends_whatever_of_another_is_not(work, back, capfd):
    (work / "runs/r8/events.jsonl").write_bytes(STEPS[0] + DONE)

    Carrier(work, back, ATTEMPTS).look()

    assert {"r8"} == printed(capfd)[0]


def test_a_folder_that_goes_while_the_worker_works_keeps_nothing_from_the_bucket(work, back, monkeypatch):
    """As one of pip's, which fetches the embedded model."""
    goes = work / "models" / "pip-unpack"
    goes.mkdir(parents=True)
    scandir = os.scandir

    def seen_before(place):
        if Path(place) == goes:
            goes.rmdir()
        return scandir(place)

    monkeypatch.setattr(os, "scandir", seen_before)
    (back / "runs/r4").unlink()

    assert Carrier(work, back, ATTEMPTS).write()

    assert not goes.exists()
    assert (back / "runs/r8/events.jsonl").exists()


def test_a_job_ends_though_its_bucket_is_never_written(tmp_path, store, monkeypatch, capfd):
    monkeypatch.setattr(inside, "LAST_SECONDS", 0.5)
    (tmp_path / "back").touch()
    (run_id,) = sweep(store, 4)
    sent = tmp_path / "sent"
    (sent / "runs" / run_id).mkdir(parents=True)
    (sent / "job.json").write_text(json.dumps({"kind": "finetune", "attempts": [f"{run_id}@1"]}))
    (sent / "runs" / run_id / "request.json").write_bytes((store.run_dir(run_id) / "request.json").read_bytes())

    assert 0 == inside.main([str(sent), str(tmp_path / "back"), *COMPLETE_ALL])

    assert "RunCompleted" in (said := capfd.readouterr().out)
    assert 0 == lines.read(said.splitlines()[-1])


def test_a_job_whose_bucket_cannot_be_written_for_a_while_goes_on_and_completes(supervise, store, hub, tmp_path):
    run_ids = sweep(store, 2, 4)
    go = tmp_path / "go"
    supervisor = supervise(waiting_for(go))
    wait_for(lambda: store.get(run_ids[0]).steps)
    folder = hub.folder("bucket", "alice/rankviz-runs") / f"{run_ids[0]}-a1"
    wait_for(folder.exists)
    folder.rename(tmp_path / "aside")
    folder.touch()

    go.touch()
    wait_for(lambda: any("could not be written" in line for line in only_job(hub).log))
    folder.unlink()
    (tmp_path / "aside").rename(folder)
    supervisor.settle()

    assert (["completed"] * 2, 1) == (states(store, run_ids), len(hub.jobs))
    assert [1, 1] == [store.get(run_id).attempt for run_id in run_ids]
