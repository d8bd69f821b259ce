"""A full disk, a read-only folder, a journal cut anywhere: the true cause is said, and the queue goes on."""

import errno
import json
import os
import time

import psutil
import pytest

from rankviz.core.runs.events import DISK_FULL, RunCancelled, RunFailed, RunStarted
from rankviz.core.runs.record import RunState
from rankviz.engines.local import Local
from rankviz.engines.process import lock_file
from rankviz.machine import disk
from rankviz.store import RunStore
from rankviz.supervisor import Supervisor
from rankviz.worker.journal import Journal
from tests.support.processes.hostile_disks import fill, read_only_folder, small_disk, without_rights
from tests.support.processes.workers import COMPLETE_ALL, HANG_IN_EACH, states, supervise, sweep, wait_for, worker
from tests.support.runs import questions
from tests.support.runs.finished_runs import finished_events

FULL = OSError(errno.ENOSPC, "No space left on device")
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


def test_workers_that_find_the_disk_full_before_they_begin_anything_give_nothing_up(store):
    run_ids = sweep(store, 4, 8)
    tries = store.home / "tries"
    full_three_times = worker(
        f"tries = open({str(tries)!r}, 'a+'); tries.write('x'); tries.flush()\n"
        "if tries.tell() < 4: raise SystemExit(74)\n"
        "for run_id in run_ids: begin(run_id) and complete(run_id)"
    )

    supervisor = supervise(store, full_three_times, room_seconds=0.05)
    supervisor.settle()
    supervisor.stop()

    assert ["completed"] * 2 == states(store, run_ids)
    assert "xxxx" == tries.read_text()


@pytest.mark.parametrize("as_cause", [False, True])
def test_the_worker_names_a_full_disk_however_its_libraries_name_it(store, as_cause):
    (run_id,) = sweep(store, 4)
    error = FULL
    if as_cause:
        error = RuntimeError("PytorchStreamWriter failed writing file")
        error.__cause__ = FULL

    exit_code = Journal(store, run_id).fail(error)

    assert (DISK_FULL, disk.FULL_SENTENCE) == (exit_code, store.get(run_id).error)


def test_a_worker_that_cannot_write_even_that_ends_with_the_code_that_says_it(store):
    (run_id,) = sweep(store, 4)
    (store.run_dir(run_id) / "events.jsonl").symlink_to("/dev/full")

    assert DISK_FULL == Journal(store, run_id).fail(FULL)


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
            "from rankviz.supervisor import Supervisor\n"
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


def test_clocks_that_were_set_give_no_time_below_nothing(store):
    (run_id,) = sweep(store, 4)
    store.append(run_id, RunStarted(time=time.time() + 9e4, environment={}))
    store.append(run_id, RunCancelled(time=time.time()))

    assert 0.0 == store.sweep(store.get(run_id).request.sweep_id).seconds_in_runs


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


def test_a_worker_can_have_a_lower_priority(store):
    (run_id,) = sweep(store, 4)
    commands = {"finetune": worker("begin(run_ids[0]); step(run_ids[0]); time.sleep(600)")}
    supervisor = Supervisor(store, engines=[Local(store.home, commands=commands, niceness=3)])

    wait_for(lambda: supervisor.tick() or store.get(run_id).steps)
    nice = os.getpriority(os.PRIO_PROCESS, json.loads(lock_file(store.home).read_text())["pid"])
    supervisor.stop()

    assert min(19, os.getpriority(os.PRIO_PROCESS, 0) + 3) == nice
