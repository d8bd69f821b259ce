"""How runs start, one worker a GPU, how they end, and what is left when a worker or a supervisor dies."""

import fcntl
import os

import pytest

from rankviz.core.runs.events import RunCancelled, RunFailed
from rankviz.core.runs.record import RunState
from rankviz.jobs import Attempt, Job, local
from rankviz.jobs.local import Local, lock_file
from rankviz.jobs.queue import in_turn, parts, waiting_jobs
from rankviz.machine import disk
from rankviz.store import RunStore
from rankviz.store.journal import WantedEngine, write_destination
from tests.support.engines.elsewhere import Elsewhere
from tests.support.processes.hostile_disks import fill, small_disk
from tests.support.processes.workers import (
    COMPLETE_ALL,
    HANG_IN_EACH,
    Patient,
    lost_reasons,
    processes_of,
    states,
    supervise,
    sweep,
    wait_for,
    worker,
)
from tests.support.runs import questions
from tests.support.runs.finished_runs import finished_events

STOPPED = "The worker stopped with exit code 1; the end of its log says why."
GIVEN_UP = "Not started: 2 workers in a row completed no run of this sweep."


@pytest.mark.parametrize(
    ("command", "errors"),
    [
        (worker("begin(run_ids[0]); raise SystemExit(1)"), [STOPPED, STOPPED, GIVEN_UP]),
        (("/no/such/python",), ["The worker could not be started"]),
    ],
)
def test_a_sweep_whose_workers_complete_nothing_is_given_up_after_two_or_where_none_starts(store, command, errors):
    run_ids = sweep(store, 1, 2, 4, 8)

    supervise(store, command).finish()

    assert ["failed"] * 4 == states(store, run_ids)
    assert all(store.get(run_id).error.startswith(error) for run_id, error in zip(run_ids, errors, strict=False))
    assert (1 if GIVEN_UP in errors else None) == store.get(run_ids[0]).exit_code


def test_a_sweep_waits_for_what_is_left_of_the_last_worker(store):
    supervisor = Patient(store, command=COMPLETE_ALL)
    supervisor.tick()  # it supervises now, and knows of no worker
    (run_id,) = sweep(store, 4)
    fd = os.open(lock_file(store.home), os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    supervisor.tick()
    meanwhile = states(store, [run_id])

    os.close(fd)
    supervisor.finish()

    assert ["queued"] == meanwhile
    assert ["completed"] == states(store, [run_id])


def test_only_one_of_two_supervisors_works_and_the_other_takes_over(store):
    first_runs = sweep(store, 4)
    first = supervise(store, COMPLETE_ALL)
    first.settle()
    second = supervise(RunStore(store.home), worker("begin(run_ids[0]); raise SystemExit('the second one')"))
    assert ["completed"] == states(store, first_runs)

    while_both = sweep(store, 8)
    first.finish()
    after = sweep(store, 16)
    second.finish()

    assert ["completed"] == states(store, while_both)
    assert ["failed"] == states(store, after)


def test_a_worker_deaf_to_sigterm_is_killed_within_the_grace(store):
    run_ids = sweep(store, 4)
    deaf = worker("signal.signal(signal.SIGTERM, signal.SIG_IGN); begin(run_ids[0]); step(run_ids[0]); time.sleep(600)")
    supervisor = supervise(store, deaf, grace_seconds=0.3)
    wait_for(lambda: store.get(run_ids[0]).steps)

    supervisor.cancel(run_ids[0])
    supervisor.stop()

    assert ["cancelled"] == states(store, run_ids)
    assert [] == processes_of(store.home)


def test_cancel_works_where_nobody_supervises(store):
    run_ids = sweep(store, 4, 8)
    supervisor = supervise(store, HANG_IN_EACH)
    wait_for(lambda: store.get(run_ids[0]).steps)
    supervisor.stop()

    Patient(RunStore(store.home), command=HANG_IN_EACH).cancel(run_ids[0])

    assert ["cancelled", "queued"] == states(store, run_ids)
    assert [] == processes_of(store.home)


def test_on_a_full_disk_nothing_starts_and_with_room_the_queue_goes_on():
    with small_disk(8) as folder:
        store = RunStore(folder / "home")
        run_ids = sweep(store, 4, 8)
        filler = fill(folder)
        supervisor = supervise(store, COMPLETE_ALL)
        with pytest.raises(OSError, match="No space left"):
            store.create(questions.sweep())
        assert disk.FULL_SENTENCE == disk.trouble(store.home)
        assert ["queued"] * 2 == states(store, run_ids)

        filler.unlink()
        supervisor.finish()

        assert ["completed"] * 2 == states(store, run_ids)
        assert "" == disk.trouble(store.home)


def test_a_journal_cut_at_any_byte_is_read_ended_once_and_goes_on(store):
    (run_id,) = sweep(store, 4)
    for event in finished_events(store.get(run_id).request, 2.0)[:-1]:
        store.append(run_id, event)
    journal = store.run_dir(run_id) / "events.jsonl"
    whole = journal.read_bytes()

    ends = [at for at, byte in enumerate(whole) if byte == ord("\n")]
    for cut in sorted({*range(0, len(whole), 29), *ends, *(at + 1 for at in ends)}):
        journal.write_bytes(whole[:cut])
        again = RunStore(store.home)
        lines = whole[:cut].count(b"\n")
        assert (RunState.RUNNING if lines else RunState.QUEUED) is again.get(run_id).state
        again.append(run_id, RunFailed(time=9.0, error="cut"))
        record = RunStore(store.home).get(run_id)
        assert (RunState.FAILED, "cut") == (record.state, record.error), cut
        assert lines <= len(again.events(run_id)) - 1 <= lines + 1  # a whole line without its newline is sealed


def lost_so_often(store, times):
    """A worker that is killed before it begins anything, in so many jobs; the others complete their runs."""
    tries = store.home.parent / "tries"
    return worker(
        f"tries = open({str(tries)!r}, 'a+'); tries.write('x'); tries.flush()\n"
        f"if tries.tell() <= {times}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "for run_id in run_ids: begin(run_id) and complete(run_id)"
    )


def test_a_job_that_is_lost_before_its_first_run_costs_that_run_an_attempt_and_the_sweep_goes_on(store, tmp_path):
    run_ids = sweep(store, 4, 8, 16)
    engine = Elsewhere(store, tmp_path / "elsewhere", lost_so_often(store, 2), 1)

    Patient(store, engines=[engine], poll_seconds=0.02, max_attempts=3).finish()

    assert ["completed"] * 3 == states(store, run_ids)
    assert [2, 0, 0] == [len(lost_reasons(store, run_id)) for run_id in run_ids]


def test_a_wish_to_cancel_outlives_the_app_and_the_worker(store):
    (run_id,) = sweep(store, 4)
    store.begin(run_id)
    store.ask_to_cancel(run_id)

    Patient(RunStore(store.home), command=COMPLETE_ALL, max_attempts=3).finish()

    assert (["cancelled"], []) == (states(store, [run_id]), lost_reasons(store, run_id))


def test_a_run_that_takes_too_long_fails_with_the_limit_and_the_rest_of_its_sweep_goes_on(store):
    run_ids = sweep(store, 4, 8)
    hangs_at_rank_4 = worker(
        "for run_id in run_ids:\n"
        "    if begin(run_id):\n"
        "        step(run_id)\n"
        "        if run_id.endswith('r4'): time.sleep(600)\n"
        "        complete(run_id)"
    )

    Patient(store, command=hangs_at_rank_4, run_minutes=0.05).finish()

    assert ["failed", "completed"] == states(store, run_ids)
    assert store.get(run_ids[0]).error.startswith("This run took more than 0.05 minutes, the most that this server")


def test_a_place_that_the_owner_of_the_runs_pays_for_has_no_limit_of_this_server(store):
    class Paid(Local):
        is_limited = False

    (run_id,) = sweep(store, 4)
    slow = worker("begin(run_ids[0]); step(run_ids[0]); time.sleep(1.5); complete(run_ids[0])")

    Patient(store, engines=[Paid(store.home, commands={"finetune": slow})], run_minutes=0.005).finish()

    assert RunState.COMPLETED is store.get(run_id).state


def queued(store, owner, *ranks):
    """The run ids of a sweep that waits."""
    return store.run_ids(store.create(questions.sweep(ranks=ranks or (4,)), owner))


def test_a_run_that_was_moved_starts_though_the_others_of_its_sweep_wait_elsewhere(store, tmp_path):
    there, here = store.run_ids(store.create(questions.sweep(ranks=(2, 4)), "ann", WantedEngine("elsewhere")))
    write_destination(store.run_dir(here), WantedEngine("local"))
    local = Local(store.home, commands={"finetune": COMPLETE_ALL})
    supervisor = Patient(store, engines=[Elsewhere(store, tmp_path / "elsewhere", COMPLETE_ALL, machines=0), local])

    wait_for(lambda: supervisor.tick() or store.get(here).state.ended)
    supervisor.stop()

    assert ["queued", "completed"] == states(store, [there, here])


@pytest.mark.parametrize(
    ("runs", "room", "least", "sizes"),
    [
        ([54], 4, 3, [14, 13, 14, 13]),
        ([12], 3, 3, [4, 4, 4]),
        ([12], 8, 3, [3, 3, 3, 3]),
        ([54, 12], 4, 3, [27, 27, 6, 6]),
        ([54, 12], 3, 3, [27, 27, 12]),
        ([2, 54], 3, 3, [2, 27, 27]),
        ([5], 2, 3, [5]),
        ([8, 2], 2, 3, [8, 2]),
        ([1], 4, 1, [1]),
        ([], 2, 3, []),
    ],
)
def test_a_sweep_is_divided_where_places_are_free_and_each_part_is_worth_a_base(runs, room, least, sizes):
    order = [Job(sweep_id=f"s{at}", attempts=tuple(range(count))) for at, count in enumerate(runs)]

    divided = parts(order, room, least=least)

    assert sizes == [len(job.attempts) for job in divided]
    for job in order:
        together = [attempt for part in divided if part.sweep_id == job.sweep_id for attempt in part.attempts]
        assert list(job.attempts) == together


def test_a_run_that_is_asked_for_again_waits_behind_who_came_before_whenever_it_was_made(store):
    old, first = queued(store, "ann"), queued(store, "ben")
    for run_id in old:
        store.begin(run_id)
        store.append(run_id, RunCancelled(time=1.0))
        store.requeue_all([run_id])

    assert [*first, *old] == [run_id for job in waiting_jobs(store.records(), store) for run_id in job.run_ids]


def test_who_has_fewest_places_now_goes_first_and_then_who_was_served_longest_ago():
    waiting = [Job(owner=owner, sweep_id=f"{owner}{place}", attempts=()) for place, owner in enumerate("aabcc")]

    order = in_turn(waiting, {"a": 1.0, "b": 9.0, "c": 5.0}, {"a": 1})

    assert ["c3", "b2", "a0", "c4", "a1"] == [job.sweep_id for job in order]


def running(store):
    return [record.run_id for record in store.all() if record.state == "running"]


def test_a_run_that_was_lost_goes_to_the_gpu_that_has_not_just_lost_a_worker(store):
    run_ids = sweep(store, 1, 2)
    dead = worker(
        "for run_id in run_ids:\n"
        "    if begin(run_id):\n"
        "        if os.environ['CUDA_VISIBLE_DEVICES'] == '0': os._exit(75)\n"
        "        complete(run_id)\n"
    )
    engine = Local(store.home, commands={"finetune": dead}, gpus=("0", "1"))
    Patient(store, engines=[engine], poll_seconds=0.05, max_attempts=2).finish()

    assert [("completed", "GPU 1")] * 2 == [(run.state, run.where) for run in map(store.get, run_ids)]


def test_an_app_that_restarts_with_fewer_gpus_still_finds_every_worker(store):
    engine = Local(store.home, commands={"finetune": HANG_IN_EACH}, gpus=("0", "1"))
    run_ids = [*sweep(store, 4), *sweep(store, 8)]
    for run_id in run_ids:
        engine.start(Job(attempts=(Attempt(run_id, 1),)))
    wait_for(lambda: len(running(store)) == 2)

    later = Local(store.home, gpus=("0",))

    assert [(Attempt(run_id, 1),) for run_id in sorted(run_ids)] == sorted(live.job.attempts for live in later.live())
    assert 0 == later.room()
    for live in later.live():
        later.cancel(live)
    assert [] == processes_of(store.home)


def test_a_worker_whose_app_died_before_it_wrote_its_runs_down_is_killed(store):
    (run_id,) = sweep(store, 4)
    started = local.launch(HANG_IN_EACH, local.lock_file(store.home), [Attempt(run_id, 1)], store.home / "log")
    wait_for(lambda: store.get(run_id).state == "running")
    started.lock.write_text("")

    assert local.find(started.lock) is None

    assert -9 == started.popen.wait(timeout=30)
