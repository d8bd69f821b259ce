"""Jobs are ended while nothing else waits, and runs that were not meant to end go to another job."""

import contextlib

import pytest
from rankviz.jobs.hf_jobs.cancelling import ASKING

from rankviz.errors import EngineEndingError, EngineUnavailableError
from rankviz.jobs.hub import Hub
from rankviz.store.ownership import Destination
from tests.support.engines.hub_jobs import only_job, sweep
from tests.support.processes.workers import HANG_IN_EACH, each_waits_for, states, wait_for, worker


def first_waits_for(go):
    """A worker that holds the run at r = 2 until the file is there, and the one at r = 4 for good."""
    return worker(
        "for run_id in run_ids:\n"
        "    if begin(run_id):\n"
        "        step(run_id)\n"
        f"        while run_id.endswith('r4') or not os.path.exists({str(go)!r}): time.sleep(0.02)\n"
        "        complete(run_id)"
    )


def cancel_of(hub):
    return f"POST /api/jobs/alice/{only_job(hub).id}/cancel"


def test_while_hugging_face_does_not_end_a_job_runs_elsewhere_start_and_are_cancelled(going, store, hub, until_it_says):
    supervisor, there = going
    hub.hangs.add(cancel_of(hub))

    until_it_says(ASKING, supervisor, store.get(there[0]).request.sweep_id)
    (here,) = sweep(store, 2, owner="ben", engine="local")
    wait_for(lambda: store.get(here).steps)
    supervisor.cancel(here)

    assert ["running", "cancelled"] == states(store, [there[0], here])
    hub.hangs.clear()
    supervisor.settle()
    assert ["cancelled"] * 2 == states(store, there)
    assert "CANCELED" == only_job(hub).stage


def test_a_job_that_could_not_be_ended_is_ended_as_soon_as_it_can_be(going, store, hub):
    supervisor, (first, second) = going
    hub.refuses[cancel_of(hub)] = (503, "busy")

    with pytest.raises(EngineUnavailableError, match="busy"):
        supervisor.cancel(store.get(first).request.sweep_id)
    hub.refuses.clear()
    supervisor.settle()

    assert ["cancelled"] * 2 == states(store, [first, second])
    assert "CANCELED" == only_job(hub).stage


def test_what_was_not_cancelled_of_a_job_goes_to_another_also_after_a_restart(going, supervise, store, hub):
    supervisor, (first, second) = going
    job = only_job(hub)
    hub.hangs.add(cancel_of(hub))
    with pytest.raises(EngineEndingError):
        supervisor.cancel(first, timeout_seconds=0.2)
    wait_for(lambda: cancel_of(hub) in hub.calls)
    supervisor.stop()
    hub.hangs.clear()
    wait_for(lambda: job.stage == "CANCELED")

    supervise().settle()

    assert ["cancelled", "completed"] == states(store, [first, second])
    assert [1, 2] == [store.get(run_id).attempt for run_id in (first, second)]


def test_a_job_that_ends_by_itself_while_it_is_to_be_ended_is_not_ended(going, store, hub):
    supervisor, _ = going
    engine = supervisor.engines[0]
    supervisor.stop()
    (live,) = engine.live()
    wait_for(lambda: not engine.live()[0].waits)

    def cancelled():
        try:
            return engine.cancel(live, unless=lambda: True) is None
        except EngineEndingError:
            return False

    wait_for(cancelled)

    assert cancel_of(hub) not in hub.calls
    engine.release()


def test_a_job_that_waits_for_a_machine_is_ended_when_its_runs_are_cancelled(supervise, store, hub):
    run_ids = sweep(store, 2, 4)
    hub.holds.set()
    supervisor = supervise()
    wait_for(lambda: "free machine" in store.get(run_ids[0]).waits)

    supervisor.cancel(store.get(run_ids[0]).request.sweep_id)

    assert ["cancelled"] * 2 == states(store, run_ids)
    wait_for(lambda: only_job(hub).stage == "CANCELED")
    supervisor.settle()


def test_after_a_cancel_that_was_refused_the_job_ends_as_it_does(supervise, store, hub, tmp_path):
    run_ids = sweep(store, 2, 4)
    go = tmp_path / "go"
    supervisor = supervise(first_waits_for(go))
    wait_for(lambda: store.get(run_ids[0]).steps)
    hub.refuses[cancel_of(hub)] = (503, "busy")
    with pytest.raises(EngineUnavailableError):
        supervisor.cancel(run_ids[0])
    go.touch()
    wait_for(lambda: store.get(run_ids[0]).state.ended and store.get(run_ids[1]).steps)
    supervisor.stop()

    supervise()
    hub.end(only_job(hub), "ERROR", "The node was lost")

    wait_for(lambda: store.get(run_ids[1]).attempt == 2)
    assert "The node was lost" in store.get(run_ids[1]).lost


@pytest.mark.parametrize("error", [ValueError("nonsense"), OSError(28, "No space left on device")])
def test_a_step_that_fails_in_any_way_is_taken_anew_at_the_next_look(going, store, hub, monkeypatch, error):
    supervisor, run_ids = going
    cancel, failures = Hub.cancel, [error]

    def failing(hub, job_id):
        if failures:
            raise failures.pop()
        cancel(hub, job_id)

    monkeypatch.setattr(Hub, "cancel", failing)
    with contextlib.suppress(Exception):
        supervisor.cancel(run_ids[0], timeout_seconds=0.2)
    store.ask_to_cancel(run_ids[0])

    wait_for(lambda: store.get(run_ids[0]).state == "cancelled")
    assert [] == failures
    supervisor.cancel(run_ids[1])


def test_a_job_that_has_begun_no_run_is_ended_when_its_runs_are_cancelled(supervise, store, hub):
    run_ids = sweep(store, 2, 4)
    supervisor = supervise(worker("time.sleep(600)"))
    wait_for(lambda: hub.jobs and only_job(hub).stage == "RUNNING" and not store.get(run_ids[0]).waits)

    supervisor.cancel(store.get(run_ids[0]).request.sweep_id)

    assert (["cancelled"] * 2, "CANCELED") == (states(store, run_ids), only_job(hub).stage)
    supervisor.settle()


def test_a_job_that_has_only_cancelled_runs_left_is_ended(supervise, store, hub, tmp_path):
    go = tmp_path / "go"
    first, second = sweep(store, 2, 4)
    supervisor = supervise(first_waits_for(go))
    wait_for(lambda: store.get(first).steps)
    supervisor.cancel(second)
    assert "RUNNING" == only_job(hub).stage

    go.touch()

    supervisor.settle()
    assert ["completed", "cancelled"] == states(store, [first, second])
    assert "CANCELED" == only_job(hub).stage


def test_a_job_is_found_after_its_runs_were_cancelled_and_is_ended(supervise, store, hub):
    (run_id,) = sweep(store, 4)
    hub.loses_answers, hub.lists_nothing = 1, True
    supervisor = supervise(HANG_IN_EACH)
    wait_for(lambda: "RankViz looks for it" in store.get(run_id).waits)
    with contextlib.suppress(EngineUnavailableError):
        supervisor.cancel(run_id, timeout_seconds=0.2)

    hub.lists_nothing = False

    wait_for(lambda: only_job(hub).stage == "CANCELED")
    supervisor.settle()
    assert ["cancelled"] == states(store, [run_id])


def test_a_job_that_begins_a_run_that_was_cancelled_as_it_waited_is_ended_and_the_others_go_on(
    supervise, store, hub, tmp_path
):
    first, unwanted, last = sweep(store, 2, 4, 8)
    supervisor = supervise(each_waits_for(tmp_path))
    wait_for(lambda: store.get(first).steps)
    supervisor.cancel(unwanted)
    job = only_job(hub)

    (tmp_path / "r2").touch()
    wait_for(lambda: job.stage == "CANCELED")
    (tmp_path / "r8").touch()
    supervisor.settle()

    assert ["completed", "cancelled", "completed"] == states(store, [first, unwanted, last])
    assert (2, [1, 1, 2]) == (len(hub.jobs), [store.get(run_id).attempt for run_id in (first, unwanted, last)])


def test_a_job_that_is_past_a_run_that_was_cancelled_goes_on(supervise, store, hub, tmp_path):
    first, unwanted, last = sweep(store, 2, 4, 8)
    (tmp_path / "r4").touch()
    supervisor = supervise(each_waits_for(tmp_path))
    wait_for(lambda: store.get(first).steps)
    supervisor.cancel(unwanted)
    supervisor.stop()
    (tmp_path / "r2").touch()
    wait_for(lambda: any(last in line for line in only_job(hub).log))

    supervisor = supervise(each_waits_for(tmp_path))
    wait_for(lambda: store.get(last).steps)
    (tmp_path / "r8").touch()
    supervisor.settle()

    assert ["completed", "cancelled", "completed"] == states(store, [first, unwanted, last])
    assert (1, 1) == (len(hub.jobs), store.get(last).attempt)


@pytest.mark.parametrize("ranks", [(2, 4), (2, 4, 8)])
def test_a_run_that_was_cancelled_and_resumed_as_it_waited_is_trained_once(supervise, store, hub, tmp_path, ranks):
    first, again, *_ = run_ids = sweep(store, *ranks)
    supervisor = supervise(each_waits_for(tmp_path))
    wait_for(lambda: store.get(first).steps)
    supervisor.cancel(again)
    store.requeue(again, Destination("hf-jobs"))
    job = only_job(hub)

    (tmp_path / "r2").touch()
    wait_for(lambda: job.stage == "CANCELED")
    for rank in ("r4", "r8"):
        (tmp_path / rank).touch()
    supervisor.settle()

    assert ["completed"] * len(ranks) == states(store, run_ids)
    assert (2, 2) == (len(hub.jobs), store.get(again).attempt)


@pytest.fixture
def begins_the_last(supervise, store, hub, tmp_path):
    """(supervisor, its three runs, what lets the job begin the last one as it is being ended)."""
    first, _, last = run_ids = sweep(store, 2, 4, 8)
    supervisor = supervise(each_waits_for(tmp_path))
    wait_for(lambda: store.get(first).steps)
    hub.hangs.add(cancel_of(hub))

    def go_on():
        wait_for(lambda: cancel_of(hub) in hub.calls)
        for rank in ("r2", "r4"):
            (tmp_path / rank).touch()
        wait_for(lambda: store.get(last).steps)

    return supervisor, run_ids, go_on


def test_after_a_restart_too_a_run_that_began_while_its_job_was_ended_for_another_begins_anew(
    begins_the_last, supervise, store, hub, tmp_path
):
    supervisor, (first, unwanted, last), go_on = begins_the_last
    supervisor.cancel(unwanted)
    (tmp_path / "r2").touch()
    go_on()
    supervisor.stop()
    hub.hangs.clear()
    wait_for(lambda: only_job(hub).stage == "CANCELED")
    (tmp_path / "r8").touch()

    supervise(each_waits_for(tmp_path)).settle()

    assert ["completed", "cancelled", "completed"] == states(store, [first, unwanted, last])
    assert (2, 0, "") == (store.get(last).attempt, store.get(last).lost_attempts, store.get(last).lost)


def test_a_run_that_began_while_its_job_was_ended_for_a_cancelled_one_begins_anew(
    begins_the_last, store, hub, tmp_path
):
    supervisor, (first, between, last), go_on = begins_the_last
    with pytest.raises(EngineEndingError):
        supervisor.cancel(first, timeout_seconds=0.2)
    go_on()

    hub.hangs.clear()
    (tmp_path / "r8").touch()
    supervisor.settle()

    assert ["completed"] * 3 == states(store, [first, between, last])
    assert (2, 0, "") == (store.get(last).attempt, store.get(last).lost_attempts, store.get(last).lost)
