"""A job's place on a node, without Ray: whatever dies, no process of the job is left."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap

import psutil
import pytest

from rankviz.core.runs.events import Attempt, StepLogged
from rankviz.engines import Job, bundle
from rankviz.engines.ray.mirror import Mirror
from rankviz.engines.ray.slot import Slot, own_folder
from rankviz.store.journal import parse_lines
from tests.support.processes.hostile_disks import fill, small_disk
from tests.support.processes.workers import COMPLETE_ALL, HANG_IN_EACH, name_of, processes_of, sweep, wait_for, worker

NAME = "job-a1"
WITH_CHILDREN = worker(
    "begin(run_ids[0]); step(run_ids[0])\n"
    "subprocess.Popen(['sleep', '71'])\n"
    "subprocess.Popen(['setsid', 'sh', '-c', 'sleep 72 & sleep 73'])\n"
    "time.sleep(600)"
)
HOST = """
import sys
from pathlib import Path
from rankviz.engines.ray.slot import Slot
slot = Slot(sys.argv[1], "job-a1")
slot.start(Path(sys.argv[2]).read_bytes(), sys.argv[3:])
print("started", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def run_id(store):
    return sweep(store, 4)[0]


@pytest.fixture
def job(store, run_id, tmp_path):
    """A packed job of one run."""
    bundle.pack(store, Job(attempts=(Attempt(run_id, 1),)), tmp_path / "packed", engine="ray")
    return Mirror(tmp_path / "packed").packed()


@pytest.fixture
def place(tmp_path):
    """RankViz's own folder on the node; what a failed test leaves there is killed."""
    place = own_folder(str(tmp_path / "node"))
    yield place
    for process in left_in(place):
        with contextlib.suppress(psutil.Error):
            process.kill()


@pytest.fixture
def host(place, job, tmp_path):
    """Starts a process that has a slot with this job, as Ray's worker process has."""
    (tmp_path / "job.tar").write_bytes(job)
    hosts = []

    def start(command) -> subprocess.Popen:
        arguments = [str(place.parent), str(tmp_path / "job.tar"), *command]
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(HOST), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        hosts.append(process)
        assert "started\n" == process.stdout.readline()
        return process

    yield start
    for process in hosts:
        process.kill()
        process.communicate()


def left_in(place) -> list[psutil.Process]:
    """Processes of the job: those that were given its folder, and those that work in it."""
    found = {process.pid: process for process in processes_of(place)}
    for process in psutil.process_iter():
        try:
            if process.cwd().startswith(str(place)) and process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = process
        except psutil.Error:
            continue
    return list(found.values())


def sleeping(place) -> int:
    """How many children of WITH_CHILDREN there are, at whatever depth."""
    return sum(name_of(each) == "sleep" for each in left_in(place))


def keeper_of(place) -> psutil.Process:
    return next(each for each in processes_of(place) if "rankviz.engines.ray.keeper" in each.cmdline())


def is_step(event) -> bool:
    return isinstance(event, StepLogged)


def steps_in(place, run_id) -> bool:
    return b"StepLogged" in bundle.since(place / NAME, run_id, 0)


def test_a_job_runs_to_its_end_and_its_journal_comes_from_an_offset_on(place, job, run_id):
    slot = Slot(str(place.parent), NAME)
    assert not slot.look({run_id: 0}).has_job

    slot.start(job, COMPLETE_ALL)
    wait_for(lambda: slot.look({}).ended)

    whole = slot.look({run_id: 0})
    assert (0, False) == (whole.exit_code, whole.gave_way)
    assert b"RunCompleted" in whole.journals[run_id]
    assert whole.journals[run_id][100:] == slot.look({run_id: 100}).journals[run_id]
    wait_for(lambda: not left_in(place))
    slot.close()
    assert [] == list(place.iterdir())


def test_the_embedded_base_that_a_job_has_made_is_there_for_the_next_on_the_node(place, job, run_id):
    makes = worker(
        "folder = Path(os.environ['WORKER_MODELS_FOLDER'])\n"
        "begin(run_ids[0])\n"
        "step(run_ids[0], 2 if (folder / 'made').exists() else 1)\n"
        "(folder / 'made').mkdir(parents=True, exist_ok=True)"
    )
    steps = []
    for name in ("first-a1", "second-a1"):
        slot = Slot(str(place.parent), name)
        slot.start(job, makes)
        wait_for(lambda slot=slot: slot.look({}).ended)
        steps += [event.step for event in parse_lines(slot.look({run_id: 0}).journals[run_id]).events if is_step(event)]
        slot.close()

    assert [1, 2] == steps


def test_what_a_run_leaves_is_read_in_pieces(place, job, run_id):
    slot = Slot(str(place.parent), NAME)
    slot.start(job, worker("(store.run_dir(run_ids[0]) / 'adapter').mkdir()\n"
                           "(store.run_dir(run_ids[0]) / 'adapter/a.bin').write_bytes(bytes(5_000_000))\n"
                           "(store.run_dir(run_ids[0]) / 'link').symlink_to('/etc/passwd')"))  # fmt: skip
    wait_for(lambda: slot.look({}).ended)

    assert 5_000_000 == slot.files(run_id)["adapter/a.bin"]
    assert "link" not in slot.files(run_id)
    pieces = [slot.read(run_id, "adapter/a.bin", offset) for offset in (0, 4_194_304, 5_000_000)]
    assert [4_194_304, 805_696, 0] == [len(piece) for piece in pieces]


def test_a_job_is_started_once(place, job, run_id):
    slot = Slot(str(place.parent), NAME)

    slot.start(job, HANG_IN_EACH)
    slot.start(job, HANG_IN_EACH)

    wait_for(lambda: steps_in(place, run_id))
    assert 2 == len(left_in(place))  # a keeper and a worker
    slot.end()


def test_the_end_of_a_job_takes_every_process_with_it(place, job, run_id):
    slot = Slot(str(place.parent), NAME)
    slot.start(job, WITH_CHILDREN)
    wait_for(lambda: sleeping(place) == 3)

    slot.end()

    assert [] == left_in(place)
    assert slot.look({}).ended


def test_a_paused_job_stands_still_until_it_goes_on(place, job, run_id):
    slot = Slot(str(place.parent), NAME)
    slot.start(job, worker("begin(run_ids[0])\nwhile True: step(run_ids[0]); time.sleep(0.01)"))
    wait_for(lambda: steps_in(place, run_id))

    slot.pause()
    (of_worker,) = [each for each in left_in(place) if each != keeper_of(place)]
    wait_for(lambda: of_worker.status() == psutil.STATUS_STOPPED)
    written = len(slot.look({run_id: 0}).journals[run_id])
    slot.resume()

    wait_for(lambda: len(slot.look({run_id: 0}).journals[run_id]) > written)
    slot.end()


def test_a_slot_that_is_killed_leaves_no_process(place, host, run_id):
    process = host(WITH_CHILDREN)
    wait_for(lambda: sleeping(place) == 3)

    process.kill()

    wait_for(lambda: not left_in(place))


def test_a_killed_keeper_takes_the_worker_with_it_and_the_job_is_lost(place, job, run_id):
    slot = Slot(str(place.parent), NAME)
    slot.start(job, WITH_CHILDREN)
    wait_for(lambda: sleeping(place) == 3)

    keeper_of(place).kill()

    wait_for(lambda: slot.look({}).ended)
    assert slot.look({}).exit_code is None
    wait_for(lambda: not left_in(place))


def test_what_both_left_is_ended_and_removed_by_the_next_slot(place, job, host, run_id):
    process = host(WITH_CHILDREN)
    wait_for(lambda: sleeping(place) == 3)
    keeper = keeper_of(place)
    for pid in (process.pid, keeper.pid):
        os.kill(pid, signal.SIGSTOP)
    for pid in (process.pid, keeper.pid):
        os.kill(pid, signal.SIGKILL)
    # The kernel ends the worker.
    wait_for(lambda: {"sleep", "sh", ""} >= {name_of(each) for each in left_in(place)})
    assert 3 == sleeping(place)

    another = Slot(str(place.parent), "another-a1")
    another.start(job, COMPLETE_ALL)

    assert 0 == sleeping(place)
    assert [place / "another-a1"] == list(place.iterdir())
    another.close()


def test_a_slot_leaves_the_jobs_of_living_slots_alone(place, job, host, run_id):
    host(HANG_IN_EACH)
    wait_for(lambda: steps_in(place, run_id))
    keeper = keeper_of(place)

    another = Slot(str(place.parent), "another-a1")
    another.start(job, COMPLETE_ALL)
    wait_for(lambda: another.look({}).ended)

    assert (place / NAME).is_dir()
    assert keeper.is_running()


def test_a_job_that_a_killed_slot_was_unpacking_is_removed_by_the_next_slot_but_not_one_that_is_unpacked_now(
    place, job, run_id
):
    for name in (".left-a1", ".now-a1"):
        (place / name / "runs").mkdir(parents=True)
    os.utime(place / ".left-a1", (1.0, 1.0))

    slot = Slot(str(place.parent), NAME)
    slot.start(job, COMPLETE_ALL)

    assert {".now-a1", NAME} == {path.name for path in place.iterdir()}
    slot.close()


def test_what_is_not_of_a_job_stays_whosever_it_is(place, job, run_id, tmp_path):
    place.mkdir(parents=True)
    files = [folder / name for folder in (place.parent, place) for name in ("notes", "sweep-a1")]
    folders = [place.parent / "corpus", place.parent / "model-a1", place / "corpus", place / "copy-a1.bak"]
    for each in folders:
        each.mkdir()
        files.append(each / "kept")
    for file in files:
        file.write_text("kept")
    (place / "link-a1").symlink_to(place.parent / "corpus")

    slot = Slot(str(place.parent), NAME)

    assert "" == slot.start(job, COMPLETE_ALL)
    slot.close()
    assert ["kept"] * len(files) == [file.read_text() for file in files]
    assert (place / "link-a1").is_symlink()


def test_a_folder_of_jobs_that_is_a_link_is_not_followed(place, job, run_id, tmp_path):
    (tmp_path / "theirs/old-a1").mkdir(parents=True)
    place.parent.mkdir()
    place.symlink_to(tmp_path / "theirs")

    slot = Slot(str(place.parent), NAME)

    why = f"It cannot begin a job: {place} is a link, or belongs to another user of this machine."
    assert why == slot.start(job, COMPLETE_ALL)
    assert ["old-a1"] == [path.name for path in (tmp_path / "theirs").iterdir()]


def test_a_job_whose_folder_is_removed_while_it_runs_is_gone_and_not_begun_again(place, job, run_id):
    slot = Slot(str(place.parent), NAME)
    slot.start(job, HANG_IN_EACH)
    wait_for(lambda: steps_in(place, run_id))
    read = {run_id: len(slot.look({run_id: 0}).journals[run_id])}
    assert not slot.look(read).is_gone

    shutil.rmtree(place / NAME)

    assert "" == slot.start(job, HANG_IN_EACH)
    assert (True, True) == (slot.look(read).has_job, slot.look(read).is_gone)
    slot.close()
    wait_for(lambda: not left_in(place))
    assert [] == list(place.iterdir())


def test_a_node_whose_disk_is_full_says_so_and_keeps_nothing_of_the_job(job, run_id):
    with small_disk(1) as disk:
        filler = fill(disk)
        slot = Slot(str(disk / "node"), NAME)

        place = own_folder(str(disk / "node"))
        assert f"The disk with {place} is full. Free some space on it." == slot.start(job, COMPLETE_ALL)
        assert [] == list(place.iterdir())
        assert not slot.look({run_id: 0}).has_job

        filler.unlink()
        assert "" == slot.start(job, COMPLETE_ALL)
        wait_for(lambda: slot.look({}).ended)
        slot.close()


@pytest.mark.parametrize("exit_code", [1, 74])
def test_a_job_that_fills_the_disk_of_its_node_has_an_exit_code_and_says_that(job, run_id, exit_code):
    fills = worker(
        "begin(run_ids[0])\n"
        "try:\n"
        "    with (store.run_dir(run_ids[0]) / 'adapter').open('wb', buffering=0) as file:\n"
        "        while True: file.write(bytes(65_536))\n"
        f"except OSError: sys.exit({exit_code})"
    )
    with small_disk(2) as disk:
        slot = Slot(str(disk), NAME)
        slot.start(job, fills)
        wait_for(lambda: slot.look({}).ended)

        look = slot.look({run_id: 0})
        place = own_folder(str(disk))
        assert (exit_code, f"The disk with {place} is full. Free some space on it.") == (look.exit_code, look.trouble)
        slot.close()
        assert [] == list(place.iterdir())


def test_a_worker_that_cannot_be_started_leaves_nothing_and_says_why(place, job, run_id):
    slot = Slot(str(place.parent), NAME)

    why = slot.start(job, ["/no/such/program"])

    assert "It cannot begin a job: [Errno 2] " in why and "/no/such/program" in why
    assert [] == list(place.iterdir())
    wait_for(lambda: not left_in(place))
