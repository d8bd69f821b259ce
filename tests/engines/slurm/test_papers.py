"""What is written down in a job's folder, where a network disk, a full one or somebody has spoilt it."""

import errno
import os
from pathlib import Path

import pytest

from rankviz.core.runs.events import Attempt
from rankviz.engines import Job
from rankviz.engines.slurm import papers
from rankviz.errors import EngineUnavailableError
from tests.support.processes.failing_reads import failing_reads
from tests.support.processes.workers import HANG_IN_EACH, lost_reasons, states, sweep, wait_for, waiting_for, worker

SPOILT = [b"", b"   \n", b"\0\0\n", b"\xff\xfe\n", b"1e3\n", b"-1\n", b"99999\n", "\u0661\n".encode(), b"7 8\n"]


def folder_instead(file):
    file.unlink(missing_ok=True)
    file.mkdir()


@pytest.mark.parametrize("content", SPOILT)
def test_an_exit_code_or_a_number_that_makes_no_sense_is_not_known(tmp_path, content):
    (tmp_path / papers.EXIT_CODE).write_bytes(content)
    (tmp_path / papers.JOB_ID).write_bytes(content)

    assert (None, "") == (papers.read_exit_code(tmp_path), papers.read_id(tmp_path))
    assert papers.is_asked(tmp_path)


def test_a_folder_in_their_place_is_not_known_either_and_cannot_be_written(tmp_path):
    folder_instead(tmp_path / papers.EXIT_CODE)
    folder_instead(tmp_path / papers.JOB_ID)
    papers.write_id(tmp_path, "7")
    papers.unask(tmp_path)

    assert (None, "") == (papers.read_exit_code(tmp_path), papers.read_id(tmp_path))
    assert papers.is_asked(tmp_path)


@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE, errno.ESTALE])
def test_what_can_be_read_later_is_no_answer(tmp_path, code):
    papers.ask(tmp_path)
    papers.write_id(tmp_path, "7")
    (tmp_path / papers.EXIT_CODE).write_text("1\n")

    with failing_reads(tmp_path, code, names=(papers.JOB_ID, papers.EXIT_CODE)):
        for read in (papers.read_id, papers.read_exit_code):
            with pytest.raises(EngineUnavailableError, match=os.strerror(code)):
                read(tmp_path)

    assert ("7", 1) == (papers.read_id(tmp_path), papers.read_exit_code(tmp_path))


@pytest.mark.parametrize("line, code", [("0", 0), ("1", 1), ("137", -9), ("143", -15), ("200", 200), ("255", 255)])
def test_an_exit_code_above_128_is_a_signal_where_there_is_one(tmp_path, line, code):
    (tmp_path / papers.EXIT_CODE).write_text(f"{line}\n")

    assert code == papers.read_exit_code(tmp_path)


def test_a_job_is_asked_for_once(tmp_path):
    papers.ask(tmp_path)
    with pytest.raises(FileExistsError):
        papers.ask(tmp_path)

    assert "" == papers.read_id(tmp_path)
    papers.write_id(tmp_path, "7")
    assert "7" == papers.read_id(tmp_path)
    papers.unask(tmp_path)
    assert not papers.is_asked(tmp_path)


@pytest.mark.parametrize("name", ["exit_code", "job_id", "batch.sh", "runs/{run_id}/events.jsonl", "worker.yield"])
@pytest.mark.parametrize("is_folder", [False, True])
def test_a_file_that_is_spoilt_costs_its_own_job_at_most(store, cluster, supervise, name, is_folder):
    (theirs,), (mine,) = sweep(store, 4), sweep(store, 8)
    go = store.home.parent / "go"
    supervisor = supervise(waiting_for(go))
    wait_for(lambda: all(store.get(run_id).steps for run_id in (theirs, mine)))

    file = store.home / "slurm-jobs" / f"{theirs}-a1" / name.format(run_id=theirs)
    folder_instead(file) if is_folder else file.write_bytes(b"\0\xff\n")
    go.touch()
    wait_for(lambda: states(store, [mine]) == ["completed"])
    (later,) = sweep(store, 16)
    wait_for(lambda: states(store, [later]) == ["completed"])
    supervisor.settle()

    assert states(store, [theirs])[0] in ("completed", "failed")


@pytest.mark.parametrize("read, name", [("open", "events.jsonl"), ("lstat", "events.jsonl"), ("open", "worker.log")])
def test_a_file_that_cannot_be_read_just_now_costs_its_run_nothing(store, cluster, supervise, monkeypatch, read, name):
    (run_id,) = sweep(store, 4)
    go = store.home.parent / "go"
    supervisor = supervise(waiting_for(go))
    wait_for(lambda: store.get(run_id).steps)
    folder, is_well, before, failures = store.home / "slurm-jobs" / f"{run_id}-a1", [], getattr(Path, read), []

    def fails(self, *given, **named):
        if self == folder / "runs" / run_id / name and not is_well:
            failures.append(papers.read_exit_code(folder))
            raise OSError(errno.EIO, "Input/output error", str(self))
        return before(self, *given, **named)

    monkeypatch.setattr(Path, read, fails)
    go.touch()
    wait_for(lambda: failures.count(0) > 3 or store.get(run_id).state.ended)
    is_well.append(True)
    supervisor.settle()

    assert (["completed"], 1) == (states(store, [run_id]), store.get(run_id).attempt)


def test_a_job_whose_exit_code_cannot_be_read_just_now_is_not_lost(store, cluster, supervise):
    (run_id,) = sweep(store, 4)
    go = store.home.parent / "go"
    fails = f"begin(run_ids[0]); step(run_ids[0])\nwhile not os.path.exists({str(go)!r}): time.sleep(0.02)\nsys.exit(1)"
    supervisor = supervise(worker(fails))
    wait_for(lambda: store.get(run_id).steps)

    with failing_reads(store.home / "slurm-jobs", names=(papers.EXIT_CODE,)):
        go.touch()
        wait_for(lambda: cluster.jobs[0].has_ended)
        looks = len(cluster.asked)
        wait_for(lambda: supervisor.away or len(cluster.asked) > looks + 3)
        assert [] == lost_reasons(store, run_id)
    supervisor.settle()

    assert (["failed"], []) == (states(store, [run_id]), lost_reasons(store, run_id))
    assert "exit code 1" in store.get(run_id).error
    assert 1 == len(cluster.jobs)


def test_a_job_is_ended_though_nobody_could_see_whether_it_was_sent(store, cluster, supervise, monkeypatch):
    (run_id,) = sweep(store, 4)
    supervisor = supervise(HANG_IN_EACH)
    wait_for(lambda: store.get(run_id).steps)
    file = store.home / "slurm-jobs" / f"{run_id}-a1" / papers.JOB_ID

    def failing(before):
        def fails(path, *given, **named):
            if path == file:
                raise OSError(errno.EIO, "Input/output error", str(path))
            return before(path, *given, **named)

        return fails

    with monkeypatch.context() as patch:
        for name in ("stat", "lstat"):
            patch.setattr(os, name, failing(getattr(os, name)))
        with pytest.raises(EngineUnavailableError):
            supervisor.cancel(run_id)
        assert "RUNNING" == cluster.jobs[0].state
    wait_for(lambda: states(store, [run_id]) == ["cancelled"])
    wait_for(lambda: cluster.jobs[0].has_ended)


def test_runs_of_a_job_that_cannot_be_read_now_wait_and_others_go_on(store, cluster, supervise, tmp_path):
    unread = sweep(store, 2, 4)
    first = supervise(waiting_for(tmp_path / "go"))
    wait_for(lambda: store.get(unread[0]).steps)
    first.stop()

    with failing_reads(store.home / "slurm-jobs" / f"{unread[0]}-a1", names=("job.json",)):
        supervisor = supervise()
        (other,) = sweep(store, 8)
        wait_for(lambda: states(store, [other]) == ["completed"])

        assert (["running", "queued"], {}) == (states(store, unread), supervisor.away)
        for run_id in unread:
            assert f"({unread[0]}-a1/job.json: Input/output error). Its runs wait" in store.get(run_id).waits
    (tmp_path / "go").touch()
    supervisor.settle()

    assert (["completed"] * 3, 2) == (states(store, [*unread, other]), len(cluster.jobs))


def test_a_job_that_cannot_be_read_now_is_ended_where_its_runs_are_cancelled(store, cluster, supervise):
    run_ids = sweep(store, 2, 4)
    first = supervise(HANG_IN_EACH)
    wait_for(lambda: store.get(run_ids[0]).steps)
    first.stop()

    with failing_reads(store.home / "slurm-jobs" / f"{run_ids[0]}-a1", names=("job.json",)):
        supervisor = supervise(HANG_IN_EACH)
        wait_for(lambda: "cannot be read now" in store.get(run_ids[1]).waits)
        supervisor.cancel_runs(run_ids)

    assert ["cancelled"] * 2 == states(store, run_ids)
    wait_for(lambda: cluster.jobs[0].has_ended and not (store.home / "slurm-jobs" / f"{run_ids[0]}-a1").exists())
    assert 1 == len(cluster.jobs)


def test_a_job_that_starts_while_its_files_cannot_be_read_waits(store, cluster):
    (run_id,) = sweep(store, 4)
    engine, job = cluster.engine(store), Job(attempts=(Attempt(run_id, 1),))
    folder = store.home / "slurm-jobs" / f"{run_id}-a1"

    with failing_reads(folder, names=("job.json",)), pytest.raises(EngineUnavailableError):
        engine.start(job)

    assert job.attempts == engine.start(job).job.attempts
