"""A journal here that cannot be read for a moment is that of no deleted run: its job goes on, and what it brought is
kept."""

import contextlib
import errno
import shutil

import pytest

from rankviz.core.runs.events import StageReached
from rankviz.errors import RunUnreadError
from rankviz.store import RunStore
from tests.support.processes.failing_reads import failing_reads
from tests.support.processes.workers import states, sweep, wait_for, waiting_for, worker

UNREAD = ("events.jsonl", "request.json")


def tick_in_vain(supervisor, store, code=errno.EMFILE):
    with failing_reads(store.runs_dir, code, UNREAD), contextlib.suppress(OSError):
        supervisor.tick()


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("anew", [False, True])
def test_a_job_goes_on_while_the_journal_of_its_run_cannot_be_read(supervise, store, code, anew):
    (run_id,) = sweep(store, 4)
    supervisor, engine = supervise()
    wait_for(lambda: supervisor.tick() or store.get(run_id).steps)
    if anew:
        supervisor.stop()
        supervisor, engine = supervise()
    store.append(run_id, StageReached(time=3.0, stage="loading", attempt=1))

    tick_in_vain(supervisor, store, code)
    supervisor.tick()

    assert [None] == [live.end for live in engine.live()]
    assert ["running"] == states(store, [run_id])


def test_a_job_goes_on_where_a_supervisor_that_takes_over_cannot_see_it_yet(supervise, store):
    (run_id,) = sweep(store, 4)
    supervisor, _ = supervise()
    wait_for(lambda: supervisor.tick() or store.get(run_id).steps)
    supervisor.stop()
    later, engine = supervise()

    def unread():
        raise RunUnreadError("another", "Input/output error")

    engine.live = unread
    later.tick()
    assert (["running"], 1) == (states(store, [run_id]), store.get(run_id).attempt)
    del engine.live
    later.tick()

    assert (["running"], 1) == (states(store, [run_id]), store.get(run_id).attempt)


def test_a_job_goes_on_where_its_run_is_here_and_will_not_be_read(supervise, store):
    (run_id,) = sweep(store, 4)
    supervisor, _ = supervise()
    wait_for(lambda: supervisor.tick() or store.get(run_id).steps)
    supervisor.stop()
    request = store.run_dir(run_id) / "request.json"
    text = request.read_text()
    request.write_text("damaged")

    supervisor, engine = supervise()
    supervisor.tick()

    assert [None] == [live.end for live in engine.live()]
    request.write_text(text)
    supervisor.tick()
    assert ["running"] == states(RunStore(store.home), [run_id])


def test_what_a_job_brought_is_kept_where_the_journal_here_cannot_be_read_as_it_ends(supervise, store, tmp_path):
    (run_id,) = sweep(store, 4)
    supervisor, engine = supervise(waiting_for(tmp_path / "go"))
    wait_for(lambda: supervisor.tick() or store.get(run_id).steps)
    (tmp_path / "go").touch()
    wait_for(lambda: engine.live()[0].end)

    tick_in_vain(supervisor, store)
    supervisor.settle()

    assert ["completed"] == states(store, [run_id])


@pytest.mark.parametrize("is_deleted", [False, True])
def test_what_a_job_brought_waits_as_long_as_its_run_is_here_and_will_not_be_read(
    supervise, store, tmp_path, is_deleted
):
    (run_id,) = sweep(store, 4)
    supervisor, _ = supervise(waiting_for(tmp_path / "go"))
    wait_for(lambda: supervisor.tick() or store.get(run_id).steps)
    supervisor.stop()
    request = store.run_dir(run_id) / "request.json"
    text = request.read_text()
    request.write_text("damaged")
    supervisor, engine = supervise(waiting_for(tmp_path / "go"))
    (tmp_path / "go").touch()
    wait_for(lambda: supervisor.tick() or engine.live()[0].end)

    for _ in range(3):
        supervisor.tick()
    assert 1 == len(engine.live())

    if is_deleted:
        shutil.rmtree(store.run_dir(run_id))
    else:
        request.write_text(text)
    wait_for(lambda: supervisor.tick() or not engine.live())
    assert is_deleted or ["completed"] == states(RunStore(store.home), [run_id])


@pytest.mark.parametrize("then", ["mended", "deleted", "someone else's"])
def test_the_other_runs_of_a_lost_job_say_which_run_they_wait_for(supervise, store, tmp_path, then):
    first, bad = sweep(store, 4, 8)
    dies = worker(
        "begin(run_ids[0]); step(run_ids[0])\n"
        f"while not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.02)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    supervisor, engine = supervise(dies)
    wait_for(lambda: supervisor.tick() or store.get(first).steps)
    supervisor.stop()
    request = store.run_dir(bad) / "request.json"
    text = request.read_text()
    request.write_text("damaged")
    (tmp_path / "go").touch()
    wait_for(lambda: engine.live()[0].end)

    supervisor, _ = supervise(dies)
    supervisor.tick()
    record = store.get(first)
    assert ("running", "another machine") == (record.state, record.where)
    assert f"the files of run {bad!r} here cannot be read: mend them, or delete that run." in record.waits

    if then == "mended":
        request.write_text(text)
    elif then == "deleted":
        shutil.rmtree(store.run_dir(bad))
    else:
        request.unlink()
    supervisor.tick()
    assert ["failed"] == states(store, [first])
