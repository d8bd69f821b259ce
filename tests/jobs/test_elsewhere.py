"""Jobs of engines that share no disk with the store: how they are ended, and an engine that cannot be reached. What is
copied of them is in test_remote.py."""

import errno
import json
import time
from dataclasses import replace

import pytest

from rankviz.core.runs.events import Attempt, RunFailed, StageReached
from rankviz.errors import EngineError, EngineUnavailableError, InvalidSettingError, WorkerError
from rankviz.jobs import End, Engine, Job, Live
from rankviz.jobs.bundle import Submission, folders_in, pack, write_job
from rankviz.jobs.remote import RemoteJob
from rankviz.jobs.supervisor import KEPT
from rankviz.store import RunStore, durable
from rankviz.store.journal import WantedEngine
from tests.support.engines.elsewhere import Elsewhere
from tests.support.processes.opened_files import failing_reads
from tests.support.processes.workers import (
    COMPLETE_ALL,
    FIRST_HANGS,
    HANG_IN_EACH,
    Patient,
    each_waits_for,
    states,
    sweep,
    wait_for,
)
from tests.support.runs import questions


class Broken(Elsewhere):
    """With a mistake in its code."""

    name = "broken"
    where = "start"

    def live(self):
        return super().live() if self.where != "live" else 1 // 0

    def start(self, job):
        return super().start(job) if self.where != "start" else 1 // 0


@pytest.mark.parametrize("where", ["live", "start"])
def test_an_engine_with_a_mistake_keeps_runs_of_no_other_waiting_and_is_in_the_log_once(store, tmp_path, caplog, where):
    broken = Broken(store, tmp_path / "broken", COMPLETE_ALL)
    broken.where = where
    supervisor = Patient(store, engines=[Elsewhere(store, tmp_path / "elsewhere", COMPLETE_ALL), broken])
    (there,) = store.run_ids(store.create(questions.sweep(ranks=(8,)), destination=WantedEngine("broken")))
    (here,) = sweep(store, 4)

    wait_for(lambda: supervisor.tick() or states(store, [here]) == ["completed"])

    assert ["queued"] == states(store, [there])
    assert "The engine broken has an error (ZeroDivisionError)" in supervisor.away["broken"]
    assert 1 == caplog.text.count("Traceback")
    broken.where = ""
    wait_for(lambda: supervisor.tick() or states(store, [there]) == ["completed"])
    supervisor.stop()


@pytest.mark.parametrize("why", ["cancelled", "too long"])
def test_a_job_is_ended_also_where_there_is_no_room_for_what_it_wrote(supervise, store, monkeypatch, why):
    (run_id,) = sweep(store, 4)
    supervisor, engine = supervise(HANG_IN_EACH, run_minutes=0.01 if why == "too long" else None)
    wait_for(lambda: supervisor.tick() or store.get(run_id).steps)

    def append(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RemoteJob, "_append", append)
    if why == "cancelled":
        supervisor.cancel(run_id)
    wait_for(lambda: supervisor.tick() or store.get(run_id).state.ended)

    assert ["cancelled" if why == "cancelled" else "failed"] == states(store, [run_id])
    assert not engine.live()


class Holding(Elsewhere):
    """Ends nothing."""

    waits = ""

    def live(self):
        return [replace(live, waits=self.waits) for live in super().live()]

    def cancel(self, live):
        raise EngineUnavailableError("Its cluster does not answer.")


def test_who_cancels_while_an_engine_is_away_leaves_a_wish_and_is_told_what_is_true(store, tmp_path, caplog):
    (run_id,) = sweep(store, 4)
    engine = Holding(RunStore(store.home), tmp_path / "elsewhere", HANG_IN_EACH)
    supervisor = Patient(RunStore(store.home), engines=[engine], poll_seconds=0.02)
    wait_for(lambda: supervisor.tick() or store.get(run_id).steps)
    engine.waits = "Its cluster does not answer."
    wait_for(lambda: supervisor.tick() or store.get(run_id).waits)

    with pytest.raises(WorkerError, match="is asked to cancel it, and has not done so yet") as error:
        Patient(store, engines=[engine]).cancel(run_id, timeout_seconds=0.1)
    assert str(error.value).endswith(engine.waits)
    with pytest.raises(EngineUnavailableError, match=f"does not answer. {KEPT}"):
        supervisor.cancel(run_id)
    for _ in range(5):
        supervisor.tick()

    assert (["running"], "") == (states(store, [run_id]), store.cancel_word(run_id))
    assert 1 == caplog.text.count("does not answer")
    supervisor.stop()
    engine.kill_all()


def test_a_job_that_begins_a_run_that_was_cancelled_as_it_waited_ends_and_the_others_go_on(supervise, store, tmp_path):
    first, unwanted, last = sweep(store, 2, 4, 8)
    supervisor, engine = supervise(each_waits_for(tmp_path))
    wait_for(lambda: supervisor.tick() or store.get(first).steps)
    supervisor.cancel(unwanted)
    job = engine.live()[0].job
    (tmp_path / "r2").touch()
    wait_for(lambda: supervisor.tick() or job not in [live.job for live in engine.live()])
    (tmp_path / "r8").touch()
    supervisor.settle()

    assert ["completed", "cancelled", "completed"] == states(store, [first, unwanted, last])
    assert (0, "") == (store.get(last).lost_attempts, store.get(last).lost)


def test_a_run_that_is_resumed_while_its_sweep_is_being_cancelled_is_not_cancelled_again(supervise, store):
    first, last = sweep(store, 4, 8)
    supervisor, engine = supervise(FIRST_HANGS)
    wait_for(lambda: supervisor.tick() or store.get(first).steps)
    asked = []

    def cancel(live):
        if not asked:
            supervisor.store.requeue_all([last])  # by its owner, on another page
        asked.append(live)
        return Elsewhere.cancel(engine, live) if len(asked) == 3 else None

    engine.cancel = cancel
    supervisor.cancel_runs([first, last])
    assert ["cancelled", "queued"] == states(store, [first, last])

    supervisor.settle()
    assert ["cancelled", "completed"] == states(store, [first, last])


LATER = StageReached(time=3.0, stage="loading", attempt=1)


@pytest.mark.parametrize("code, again", [(errno.EMFILE, False), (errno.EIO, True)])
def test_while_a_run_s_journal_is_unreadable_its_job_goes_on_and_others_start_and_end(supervise, store, code, again):
    (bad,) = sweep(store, 4)
    supervisor, engine = supervise()
    wait_for(lambda: supervisor.tick() or store.get(bad).steps)
    if again:
        supervisor.stop()
        supervisor, engine = supervise()
    (other,) = sweep(store, 8)
    store.append(bad, LATER)

    with failing_reads(store.run_dir(bad), code):
        wait_for(lambda: supervisor.tick() or store.get(other).steps)
        supervisor.cancel(other)
    supervisor.tick()

    assert ["running", "cancelled"] == states(store, [bad, other])
    assert [None] == [live.end for live in engine.live()]


def test_a_job_that_goes_on_after_its_runs_have_ended_is_ended(supervise, store, monkeypatch):
    (run_id,) = sweep(store, 4)
    supervisor, engine = supervise()
    wait_for(lambda: supervisor.tick() or store.get(run_id).steps)
    store.append(run_id, RunFailed(time=time.time(), error="by itself", attempt=1))
    supervisor.tick()
    assert engine.live()

    monkeypatch.setattr("rankviz.jobs.supervisor.DONE_SECONDS", 0.0)
    wait_for(lambda: supervisor.tick() or not engine.live())


class Listed(Engine):
    """Goes on listing a job that has ended."""

    name, shares_disk = "listed", False

    def __init__(self, run_ids):
        self.job = Job(attempts=tuple(Attempt(run_id, 1) for run_id in run_ids))

    def live(self):
        return [Live(job=self.job, handle="1", end=End(lost=True, why="The node went away."))]

    def room(self):
        return 0

    def forget(self, live):
        pass


def test_a_job_that_stays_listed_is_settled_once(store):
    first, second = sweep(store, 4, 8)
    supervisor = Patient(store, engines=[Listed([first, second])], max_attempts=3)

    for _ in range(3):
        supervisor.tick()
    supervisor.stop()

    assert (1, 0) == (store.get(first).lost_attempts, store.get(second).lost_attempts)


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
    kept = store.copy_path(data, "ann@example")
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


def test_a_base_that_is_a_folder_of_this_machine_is_not_sent(store, tmp_path):
    base = tmp_path / "weights"
    base.mkdir()
    run_ids = store.run_ids(store.create(questions.sweep(ranks=(4,), base=str(base))))

    with pytest.raises(EngineError, match="'weights' is a folder of this machine, and weights are not sent"):
        packed(store, run_ids, tmp_path / "sent")
    packed(store, run_ids, tmp_path / "seen", sees_folders=True)

    assert str(base) == json.loads((tmp_path / "seen/runs" / run_ids[0] / "request.json").read_text())["base"]


def test_a_file_whose_name_ends_as_that_of_a_job_is_none(tmp_path):
    (tmp_path / "limit-20261201-072333-a447").touch()
    (tmp_path / "20261201-072333-a447-001-r4-a1").mkdir()

    assert [tmp_path / "20261201-072333-a447-001-r4-a1"] == folders_in(tmp_path)
