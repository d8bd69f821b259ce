"""A job as a folder: what is sent, and how what comes back is read."""

import contextlib
import json
import os
import shutil
from pathlib import Path

import pytest

from rankviz.core.runs.events import AdapterCut, AdapterSaved, Attempt
from rankviz.errors import EngineError, InvalidSettingError
from rankviz.jobs import Job
from rankviz.jobs.bundle import collect, folders_in, journal, pack, read_job, since
from rankviz.store import RunStore
from rankviz.store.journal import append_events
from tests.support.processes.workers import sweep
from tests.support.runs import questions

ROWS = '{"prompt": "a", "completion": "b"}\n'


@pytest.fixture
def data(tmp_path):
    file = tmp_path / "secret-project.jsonl"
    file.write_text(ROWS)
    return file


def packed(store, run_ids, folder, **settings):
    job = Job(attempts=tuple(Attempt(run_id, 2) for run_id in run_ids))
    pack(store, job, folder, engine="far", **settings)
    return job


def test_a_packed_job_holds_its_runs_their_data_and_nothing_of_the_machine(store, tmp_path, data):
    run_ids = store.run_ids(store.create(questions.sweep(ranks=(4, 8), data=str(data)), "ann@example"))
    (store.home / "data").mkdir()

    with pytest.raises(InvalidSettingError):  # no file that a visitor keeps
        packed(store, run_ids, tmp_path / "refused")
    kept = store.keep(data, "ann@example")
    run_ids = store.run_ids(store.create(questions.sweep(ranks=(4, 8), data=str(kept)), "ann@example"))
    packed(store, run_ids, tmp_path / "sent")

    files = sorted(
        str(file.relative_to(tmp_path / "sent")) for file in (tmp_path / "sent").rglob("*") if file.is_file()
    )
    digest = kept.parent.name
    assert [
        f"data/{digest}/data.jsonl",
        "job.json",
        *(f"runs/{run_id}/{name}" for run_id in run_ids for name in ("events.jsonl", "request.json")),
    ] == files
    everything = "".join((tmp_path / "sent" / file).read_text() for file in files)
    assert str(tmp_path) not in everything
    assert "ann@example" not in everything


def test_a_packed_folder_is_a_runs_folder_whose_journals_say_which_attempt_this_is(store, tmp_path):
    run_ids = sweep(store, 4)
    job = packed(store, run_ids, tmp_path / "sent")

    record = RunStore(tmp_path / "sent").get(run_ids[0])

    assert (2, "far", "queued") == (record.attempt, record.engine, record.state)
    assert job == read_job(tmp_path / "sent")


def test_a_base_that_is_a_folder_of_this_machine_is_not_sent(store, tmp_path):
    base = tmp_path / "weights"
    base.mkdir()
    run_ids = store.run_ids(store.create(questions.sweep(ranks=(4,), base=str(base))))

    with pytest.raises(EngineError, match="'weights' is a folder of this machine, and weights are not sent"):
        packed(store, run_ids, tmp_path / "sent")
    packed(store, run_ids, tmp_path / "seen", sees_folders=True)

    assert str(base) == json.loads((tmp_path / "seen/runs" / run_ids[0] / "request.json").read_text())["base"]


@pytest.fixture
def far(store, tmp_path):
    """A run's folder elsewhere, with an adapter of 7 bytes and a cut, and the run's own folder here."""
    (run_id,) = sweep(store, 4)
    folder = tmp_path / "sent"
    packed(store, [run_id], folder)
    run = folder / "runs" / run_id
    for name, content in {"adapter": b"weights", "cuts/r2": b"cut"}.items():
        (run / name).mkdir(parents=True)
        (run / name / "adapter_model.safetensors").write_bytes(content)
        (run / name / "adapter_config.json").write_text("{}")
    (run / "worker.log").write_text("hello\n")
    loss = {"loss": 1.0, "tokens": 1, "examples": 1, "example_losses": (1.0,), "seconds": 1.0}
    append_events(run / "events.jsonl", [AdapterSaved(time=1.0, path="adapter", file_bytes=7)])
    append_events(run / "events.jsonl", [AdapterCut(time=1.0, r=2, path="cuts/r2", file_bytes=3, **loss)])
    return folder, run_id, run, store.run_dir(run_id)


def brought(here: Path) -> list[str]:
    return sorted(str(file.relative_to(here)) for file in here.rglob("*") if file.is_file())


def test_adapters_that_the_journal_names_come_back_with_the_log(far):
    folder, run_id, _, here = far

    collect(folder, run_id, here)

    assert [
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "cuts/r2/adapter_config.json",
        "cuts/r2/adapter_model.safetensors",
        "request.json",
        "worker.log",
    ] == brought(here)


@pytest.mark.parametrize(
    "file",
    [
        "adapter/adapter_model.safetensors",
        "adapter/adapter_config.json",
        "cuts/r2/adapter_model.safetensors",
        "cuts/r2/adapter_config.json",
    ],
)
def test_an_adapter_that_did_not_arrive_whole_is_refused_and_leaves_none(far, file):
    folder, run_id, run, here = far
    (run / file).write_bytes((run / file).read_bytes()[:-1])

    with pytest.raises(EngineError, match="did not arrive whole"):
        collect(folder, run_id, here)

    assert ["request.json", "worker.log"] == brought(here)


@pytest.mark.parametrize("linked", ["adapter", "adapter/adapter_model.safetensors", "adapter/more.json", "worker.log"])
def test_no_link_is_followed(far, tmp_path, linked):
    folder, run_id, run, here = far
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "adapter_model.safetensors").write_bytes(b"secrets")
    target = outside if linked == "adapter" else outside / "adapter_model.safetensors"
    if (run / linked).is_dir():
        (run / linked).rename(run / "moved")
    (run / linked).unlink(missing_ok=True)
    (run / linked).symlink_to(target)

    with contextlib.suppress(EngineError):
        collect(folder, run_id, here)

    assert not any(b"secrets" == (here / file).read_bytes() for file in brought(here))


@pytest.mark.parametrize(
    "name", ["owner.json", "engine.json", "request.json", "worker.log", "cuts", "adapter/x", "cuts/a/b"]
)
def test_a_journal_that_names_a_file_of_rankviz_as_an_adapter_brings_nothing(far, name):
    folder, run_id, run, here = far
    (here / "owner.json").write_text("{}")
    if (run / name).is_file():
        (run / name).unlink()
    (run / name).mkdir(parents=True, exist_ok=True)
    (run / name / "adapter_model.safetensors").write_bytes(b"weights")
    append_events(run / "events.jsonl", [AdapterSaved(time=2.0, path=name, file_bytes=7)])

    with pytest.raises(EngineError, match="in the journal is not valid"):
        collect(folder, run_id, here)

    assert ["owner.json", "request.json"] == [file for file in brought(here) if file != "worker.log"]


@pytest.mark.parametrize("odd", ["folder", "pipe", "link", "no folder"])
def test_a_journal_that_is_no_plain_file_holds_nothing(far, tmp_path, odd):
    folder, run_id, run, _ = far
    if odd == "no folder":
        shutil.rmtree(run)
        run.write_text("a file")
    else:
        journal(folder, run_id).rename(tmp_path / "journal")
        make = {"folder": Path.mkdir, "pipe": os.mkfifo, "link": lambda path: path.symlink_to(tmp_path / "journal")}
        make[odd](journal(folder, run_id))

    assert b"" == since(folder, run_id, 0)


ROW = '{"prompt": "a", "completion": "b"}\n'


def test_a_file_whose_name_ends_as_that_of_a_job_is_none(tmp_path):
    """As the spending limit of one sweep in 66 does."""
    (tmp_path / "limit-20261201-072333-a447").touch()
    (tmp_path / "20261201-072333-a447-001-r4-a1").mkdir()

    assert [tmp_path / "20261201-072333-a447-001-r4-a1"] == folders_in(tmp_path)
