"""A job as a folder: what is sent."""

import json

import pytest

from rankviz.core.runs.events import Attempt
from rankviz.errors import EngineError, InvalidSettingError
from rankviz.jobs import Job
from rankviz.jobs.bundle import Submission, folders_in, pack, read_job, write_job
from rankviz.store import durable
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
    write_job(folder, job, Submission())
    return job


def test_a_packed_job_holds_its_runs_their_data_and_nothing_of_the_machine(store, tmp_path, data):
    run_ids = store.run_ids(store.create(questions.sweep(ranks=(4, 8), data=str(data)), "ann@example"))
    (store.home / "data").mkdir()

    with pytest.raises(InvalidSettingError):  # no file that a visitor keeps
        packed(store, run_ids, tmp_path / "refused")
    kept = store.kept_path(data, "ann@example")
    durable.copy(data, kept)
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


def test_the_state_of_a_job_is_read_where_an_earlier_version_wrote_it(store, tmp_path):
    folder = tmp_path / "sent"
    job = packed(store, sweep(store, 4), folder)
    new = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps({name: new.pop(name) for name in ("kind", "attempts")}))
    (folder / "submission.json").write_text(json.dumps(new | {"submitted": True, "handle": "7"}))

    assert (job, Submission(submitted=True, handle="7")) == read_job(folder)


def test_a_base_that_is_a_folder_of_this_machine_is_not_sent(store, tmp_path):
    base = tmp_path / "weights"
    base.mkdir()
    run_ids = store.run_ids(store.create(questions.sweep(ranks=(4,), base=str(base))))

    with pytest.raises(EngineError, match="'weights' is a folder of this machine, and weights are not sent"):
        packed(store, run_ids, tmp_path / "sent")
    packed(store, run_ids, tmp_path / "seen", sees_folders=True)

    assert str(base) == json.loads((tmp_path / "seen/runs" / run_ids[0] / "request.json").read_text())["base"]


def test_a_file_whose_name_ends_as_that_of_a_job_is_none(tmp_path):
    """As the spending limit of one sweep in 66 does."""
    (tmp_path / "limit-20261201-072333-a447").touch()
    (tmp_path / "20261201-072333-a447-001-r4-a1").mkdir()

    assert [tmp_path / "20261201-072333-a447-001-r4-a1"] == folders_in(tmp_path)
