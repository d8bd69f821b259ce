"""How runs start, how they end, and what is left when a worker or a supervisor dies."""

import fcntl
import json
import os

import psutil
import pytest

from rankviz.core.runs.events import RunCancelled, RunFailed
from rankviz.core.runs.record import RunState
from rankviz.jobs.process import lock_file
from rankviz.jobs.supervisor import Supervisor
from rankviz.machine import disk
from rankviz.store import RunStore
from tests.support.processes.hostile_disks import fill, read_only_folder, small_disk, without_rights
from tests.support.processes.workers import (
    COMPLETE_ALL,
    HANG_IN_EACH,
    Patient,
    lives,
    processes_of,
    states,
    supervise,
    sweep,
    wait_for,
    worker,
)
from tests.support.runs import questions
from tests.support.runs.finished_runs import finished_events


def test_a_worker_that_dies_without_a_word_leaves_a_failed_run_and_the_rest_goes_on(store):
    run_ids = sweep(store, 4, 8, 16)
    dies_at_rank_8 = worker(
        "for run_id in run_ids:\n"
        "    begin(run_id)\n"
        "    if run_id.endswith('r8'):\n"
        "        print('out of luck', flush=True); raise SystemExit(9)\n"
        "    complete(run_id)"
    )

    supervisor = supervise(store, dies_at_rank_8)
    supervisor.settle()
    supervisor.stop()

    assert ["completed", "failed", "completed"] == states(store, run_ids)
    failed = store.get(run_ids[1])
    assert "The worker stopped with exit code 9; the end of its log says why." == failed.error
    assert 9 == failed.exit_code


def test_a_worker_whose_gpu_failed_is_followed_by_another_and_the_sweep_goes_on(store):
    run_ids = sweep(store, 4, 8, 16)
    fails = "store.append(run_id, RunFailed(time=time.time(), error='The GPU failed.')); raise SystemExit(75)"
    at_rank_8 = f"    if run_id.endswith('r8'):\n        {fails}\n"

    supervisor = supervise(store, worker(f"for run_id in run_ids:\n    begin(run_id)\n{at_rank_8}    complete(run_id)"))
    supervisor.settle()
    supervisor.stop()

    assert ["completed", "failed", "completed"] == states(store, run_ids)


def test_a_sweep_whose_workers_complete_nothing_is_given_up_after_two(store):
    run_ids = sweep(store, 1, 2, 4, 8)

    supervisor = supervise(store, worker("begin(run_ids[0]); raise SystemExit(1)"))
    supervisor.settle()
    supervisor.stop()

    assert ["failed"] * 4 == states(store, run_ids)
    assert store.get(run_ids[1]).error.startswith("The worker stopped with exit code 1")
    assert store.get(run_ids[2]).error.startswith("Not started: 2 workers in a row completed no run of this sweep.")


def test_a_command_that_does_not_exist_fails_the_sweep_with_the_reason(store):
    run_ids = sweep(store, 4, 8)

    supervisor = supervise(store, ("/no/such/python",))
    supervisor.settle()
    supervisor.stop()

    assert ["failed"] * 2 == states(store, run_ids)
    assert store.get(run_ids[0]).error.startswith("The worker could not be started")


def test_a_sweep_waits_for_what_is_left_of_the_last_worker(store):
    supervisor = Supervisor(store, command=COMPLETE_ALL)
    supervisor.tick()  # it supervises now, and knows of no worker
    (run_id,) = sweep(store, 4)
    fd = os.open(lock_file(store.home), os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    supervisor.tick()
    meanwhile = states(store, [run_id])

    os.close(fd)
    supervisor.settle()
    supervisor.stop()

    assert ["queued"] == meanwhile
    assert ["completed"] == states(store, [run_id])


def test_only_one_of_two_supervisors_works_and_the_other_takes_over(store):
    first_runs = sweep(store, 4)
    first = supervise(store, COMPLETE_ALL)
    first.settle()
    second = supervise(RunStore(store.home), worker("begin(run_ids[0]); raise SystemExit('the second one')"))
    assert ["completed"] == states(store, first_runs)

    while_both = sweep(store, 8)
    first.settle()
    first.stop()
    after = sweep(store, 16)
    second.settle()
    second.stop()

    assert ["completed"] == states(store, while_both)
    assert ["failed"] == states(store, after)


def test_a_worker_sees_one_gpu_numbered_as_the_driver_numbers_them(store, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    (run_id,) = sweep(store, 4)

    supervisor = supervise(
        store,
        worker(
            "begin(run_ids[0]); complete(run_ids[0])\n"
            "print(os.environ['CUDA_DEVICE_ORDER'], os.environ['CUDA_VISIBLE_DEVICES'])"
        ),
    )
    supervisor.settle()
    supervisor.stop()

    assert "PCI_BUS_ID 1" == (store.run_dir(run_id) / "worker.log").read_text().strip()


def test_cancel_of_a_running_run_leaves_no_process_and_the_others_go_on(store):
    run_ids = sweep(store, 4, 8)
    hang_at_rank_4_with_a_child = worker(
        "for run_id in run_ids:\n"
        "    begin(run_id)\n"
        "    if run_id.endswith('r4'):\n"
        "        subprocess.Popen(['sleep', '61']); step(run_id); time.sleep(600)\n"
        "    complete(run_id)"
    )
    supervisor = supervise(store, hang_at_rank_4_with_a_child)
    wait_for(lambda: store.get(run_ids[0]).steps)
    leader = psutil.Process(store.get(run_ids[0]).environment["pid"])
    group = [leader, *leader.children(recursive=True)]

    supervisor.cancel(run_ids[0])

    assert 2 == len(group)
    assert not any(map(lives, group))
    assert RunState.CANCELLED is store.get(run_ids[0]).state
    supervisor.settle()
    supervisor.stop()
    assert ["cancelled", "completed"] == states(store, run_ids)


def test_a_worker_deaf_to_sigterm_is_killed_within_the_grace(store):
    run_ids = sweep(store, 4)
    deaf = worker("signal.signal(signal.SIGTERM, signal.SIG_IGN); begin(run_ids[0]); step(run_ids[0]); time.sleep(600)")
    supervisor = supervise(store, deaf, grace_seconds=0.3)
    wait_for(lambda: store.get(run_ids[0]).steps)

    supervisor.cancel(run_ids[0])
    supervisor.stop()

    assert ["cancelled"] == states(store, run_ids)
    assert [] == processes_of(store.home)


def test_another_process_asks_the_supervisor_to_cancel(store):
    run_ids = sweep(store, 4)
    supervisor = supervise(store, HANG_IN_EACH)
    wait_for(lambda: store.get(run_ids[0]).steps)

    Patient(RunStore(store.home), command=HANG_IN_EACH).cancel(run_ids[0])
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


def test_a_worker_launched_by_a_supervisor_that_died_before_noting_its_pid_is_found_by_its_lock(store):
    run_ids = sweep(store, 4)
    first = supervise(store, HANG_IN_EACH)
    wait_for(lambda: store.get(run_ids[0]).steps)
    first.stop()
    lock_file(store.home).write_text(json.dumps({"pid": None, "run_ids": run_ids}))

    Patient(RunStore(store.home), command=HANG_IN_EACH).cancel(run_ids[0])

    assert ["cancelled"] == states(store, run_ids)
    assert [] == processes_of(store.home)


JOURNAL_BECOMES_FULL = (
    "while not (store.home / 'seen').exists(): time.sleep(0.02)\n"
    "journal = store.run_dir(run_ids[0]) / 'events.jsonl'\n"
    "os.link(journal, journal.with_name('kept')); os.symlink('/dev/full', journal.with_name('full'))\n"
    "os.replace(journal.with_name('full'), journal)\n"
)
"""From then on nothing more can be written into it."""


def give_room(store, run_id):
    journal = store.run_dir(run_id) / "events.jsonl"
    os.replace(journal.with_name("kept"), journal)


def test_how_a_worker_ended_is_kept_until_it_can_be_written_down(store):
    run_ids = sweep(store, 4, 8)
    becomes_full = JOURNAL_BECOMES_FULL.strip().replace("\n", "\n    ")
    dies_first = worker(
        f"def die():\n    {becomes_full}\n    raise SystemExit(9)\n"
        "begin(run_ids[0]); step(run_ids[0])\n"
        "if run_ids[0].endswith('r4'): die()\n"
        "complete(run_ids[0])"
    )
    supervisor = Supervisor(store, command=dies_first)

    wait_for(lambda: supervisor.tick() or store.get(run_ids[0]).steps)
    (store.home / "seen").touch()
    wait_for(lambda: supervisor.tick() or states(store, run_ids) == ["running", "completed"])
    give_room(store, run_ids[0])
    supervisor.settle()
    supervisor.stop()

    assert ["failed", "completed"] == states(store, run_ids)
    assert "The worker stopped with exit code 9; the end of its log says why." == store.get(run_ids[0]).error
    assert 1 == len(store.get(run_ids[0]).steps)


def test_a_run_is_cancelled_without_room_to_write_it_down_leaves_no_process_and_ends_later(store):
    (run_id,) = sweep(store, 4)
    supervisor = supervise(store, worker("begin(run_ids[0])\n" + JOURNAL_BECOMES_FULL + "time.sleep(600)"))
    wait_for(lambda: store.get(run_id).environment)
    pid = store.get(run_id).environment["pid"]
    (store.home / "seen").touch()
    wait_for(lambda: (store.run_dir(run_id) / "events.jsonl").is_symlink())

    supervisor.cancel(run_id)
    assert not psutil.pid_exists(pid)
    assert isinstance(supervisor.unwritten[run_id], RunCancelled)
    give_room(store, run_id)
    supervisor.settle()
    supervisor.stop()

    assert ["cancelled"] == states(store, [run_id])


def test_a_worker_that_found_the_disk_full_says_that_and_the_other_runs_wait_for_room(store):
    run_ids = sweep(store, 4, 8, 16)
    full = worker(
        "if run_ids[0].endswith('r4'):\n"
        "    begin(run_ids[0]); raise SystemExit(74)\n"
        "for run_id in run_ids: begin(run_id) and complete(run_id)"
    )

    supervisor = supervise(store, full, room_seconds=0.1)
    supervisor.settle()
    supervisor.stop()

    assert ["failed", "completed", "completed"] == states(store, run_ids)
    assert disk.FULL_SENTENCE == store.get(run_ids[0]).error


def test_on_a_full_disk_nothing_starts_and_with_room_the_queue_goes_on():
    with small_disk(8) as folder:
        store = RunStore(folder / "home")
        run_ids = sweep(store, 4, 8)
        filler = fill(folder)
        supervisor = supervise(store, COMPLETE_ALL, room_seconds=0.1)
        with pytest.raises(OSError, match="No space left"):
            store.create(questions.sweep())
        assert disk.FULL_SENTENCE == disk.trouble(store.home)
        assert ["queued"] * 2 == states(store, run_ids)

        filler.unlink()
        supervisor.settle()
        supervisor.stop()

        assert ["completed"] * 2 == states(store, run_ids)
        assert "" == disk.trouble(store.home)


def test_a_disk_that_a_run_fills_ends_that_run_with_the_true_cause_and_its_unfinished_adapter_makes_room():
    with small_disk(8) as folder:
        store = RunStore(folder / "home")
        run_ids = sweep(store, 4, 8)
        fills = worker(
            "from rankviz.worker.journal import Journal\n"
            "for run_id in run_ids:\n"
            "    if begin(run_id) and run_id.endswith('r4'):\n"
            "        (store.run_dir(run_id) / 'adapter').mkdir()\n"
            "        try: (store.run_dir(run_id) / 'adapter' / 'weights').write_bytes(b'x' * 2**24)\n"
            "        except OSError as error:\n"
            "            for _ in range(2000): step(run_id)\n"
            "            raise SystemExit(Journal(store, run_id).fail(error))\n"
            "    complete(run_id)"
        )

        supervisor = supervise(store, fills, room_seconds=0.1)
        supervisor.settle()
        supervisor.stop()

        assert ["failed", "completed"] == states(store, run_ids)
        assert disk.FULL_SENTENCE == store.get(run_ids[0]).error


def test_in_a_read_only_folder_the_supervisor_complains_once():
    with read_only_folder() as home:
        ran = without_rights(
            "import sys, time\n"
            "from pathlib import Path\n"
            "from rankviz.store import RunStore\n"
            "from rankviz.jobs.supervisor import Supervisor\n"
            "supervisor = Supervisor(RunStore(Path(sys.argv[1])), poll_seconds=0.02)\n"
            "looks, tick = [], supervisor.tick\n"
            "supervisor.tick = lambda: (looks.append(1), tick())\n"
            "supervisor.start()\n"
            "while len(looks) < 5: time.sleep(0.02)\n"
            "supervisor.stop()",
            home,
        )

    assert [f"Runs wait. {disk.READ_ONLY_SENTENCE}"] == ran.stderr.splitlines()


def test_a_journal_cut_at_any_byte_is_read_ended_once_and_goes_on(store):
    (run_id,) = sweep(store, 4)
    for event in finished_events(store.get(run_id).request, 2.0)[:-1]:
        store.append(run_id, event)
    journal = store.run_dir(run_id) / "events.jsonl"
    whole = journal.read_bytes()

    for cut in range(len(whole) + 1):
        journal.write_bytes(whole[:cut])
        again = RunStore(store.home)
        lines = whole[:cut].count(b"\n")
        assert (RunState.RUNNING if lines else RunState.QUEUED) is again.get(run_id).state
        again.append(run_id, RunFailed(time=9.0, error="cut"))
        record = RunStore(store.home).get(run_id)
        assert (RunState.FAILED, "cut") == (record.state, record.error), cut
        assert lines <= len(again.events(run_id)) - 1 <= lines + 1  # a whole line without its newline is sealed


def test_what_a_killed_app_left_half_written_or_half_removed_is_tidied_away(store):
    (run_id,) = sweep(store, 4)
    removed, abandoned, fresh = (store.runs_dir / name for name in (f".gone-{run_id}", ".new-old", ".new-now"))
    for folder in (removed, abandoned, fresh):
        (folder / "r4").mkdir(parents=True)
    os.utime(abandoned, (0, 0))

    supervisor = supervise(store, COMPLETE_ALL)
    supervisor.settle()
    supervisor.stop()

    assert [".new-now", ".publish.lock", run_id] == sorted(path.name for path in store.runs_dir.iterdir())


def test_where_an_engine_stumbles_while_a_supervisor_takes_over_its_runs_are_found_later(store):
    run_ids = sweep(store, 4)
    first = supervise(store, HANG_IN_EACH)
    wait_for(lambda: store.get(run_ids[0]).steps)
    first.stop()
    lock = lock_file(store.home)
    content = lock.read_bytes()
    lock.write_bytes(b"[]")  # not what a supervisor writes: found.get fails

    second = Supervisor(RunStore(store.home), command=HANG_IN_EACH)
    second.tick()
    assert "AttributeError" in second.away["local"]
    assert ["running"] == states(store, run_ids)
    lock.write_bytes(content)
    second.tick()

    assert ["running"] == states(store, run_ids)
    second.cancel(run_ids[0])
    second.stop()
    assert ["cancelled"] == states(store, run_ids)
