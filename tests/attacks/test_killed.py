"""A shared app that trains, while its disk becomes full, its clock jumps, or it and its worker are killed."""

import json
import os
import shutil
import signal
import time
from functools import partial

import pytest

from rankviz.machine import disk
from rankviz.store import RunStore
from tests.attacks.spaces import Space
from tests.attacks.test_faults import CLOCK, DAY
from tests.attacks.watching import watched
from tests.support.models.tiny_llama import make_tiny_llama
from tests.support.processes.hostile_disks import fill, small_disk
from tests.support.processes.workers import processes_of
from tests.support.web.stranger import Stranger

SECONDS = 1200
"""That a worker may take to import and load, and a sweep to end, on a machine that is busy with something else."""
pytestmark = [pytest.mark.slow, pytest.mark.torch, pytest.mark.timeout(4 * SECONDS)]
watched_in_a_run = partial(watched, every_seconds=1.0)
"""Estimates without a pause for minutes would be the load that everything else waits for."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Stands where the embedded base is kept, so that a run takes seconds."""
    return make_tiny_llama(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def ready(tiny):
    """ready(home): a runs folder in which `embedded` is the tiny base."""

    def make(home):
        shutil.copytree(tiny, home / "models" / "SmolLM2-135M-Instruct")
        return home

    return make


def started(stranger):
    """The id of a sweep of two runs."""
    chosen = {"model": "embedded", "data": "phonemes", "mode": "sweep", "ranks": [4, 8], "independent": None}
    chosen |= {"targets": "unsloth", "alpha": "32", "learning_rates": [1e-3], "seeds": 1, "steps": 200}
    answer = stranger.endpoint("start_sweep", *chosen.values())
    assert not answer.error, answer.error
    return answer.data[0]["sweep_id"]


def wait_for(condition):
    deadline = time.monotonic() + SECONDS
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)
    return value


def states(home, sweep_id):
    return [str(run.state) for run in RunStore(home).sweep(sweep_id).runs]


def is_training(home, sweep_id, *, attempt=1):
    """Whether a run has made a step and more are to come."""
    return any(
        run.state == "running" and run.attempt == attempt and run.steps for run in RunStore(home).sweep(sweep_id).runs
    )


def has_ended(home, sweep_id):
    return RunStore(home).sweep(sweep_id).ended


def worker_of(home):
    return next((each.pid for each in processes_of(home) if "finetune" in each.cmdline()), None)


def test_a_disk_that_becomes_full_in_a_run_is_said_and_the_queue_goes_on_with_room(tmp_path, ready):
    with small_disk(3000) as folder, Space(tmp_path, home=ready(folder / "home"), trains=True) as space:
        ann, ben = Stranger(space.url), Stranger(space.url)
        sweep_id = started(ann)
        wait_for(lambda: is_training(space.home, sweep_id))

        def attack():
            filler = fill(folder)
            wait_for(lambda: worker_of(space.home) is None)
            error = ann.press("train-button", train_steps=2).error
            filler.unlink()
            wait_for(lambda: has_ended(space.home, sweep_id))
            return error

        error = watched_in_a_run(space, ben, "a disk that becomes full in a run", attack)

        runs = RunStore(space.home).sweep(sweep_id).runs
        assert {disk.FULL_SENTENCE} >= {run.error for run in runs if run.error}, [run.error for run in runs]
        assert error
        later = started(ben)
        wait_for(lambda: has_ended(space.home, later))
        assert ["completed"] * 2 == states(space.home, later)


def test_an_app_that_is_killed_in_a_run_finds_it_again_and_goes_on(tmp_path, ready):
    with Space(tmp_path, home=ready(tmp_path / "home"), trains=True) as space:
        ann = Stranger(space.url)
        sweep_id = started(ann)
        wait_for(lambda: is_training(space.home, sweep_id))

        space.process.kill()
        space.process.wait()
        space.start()
        ben = Stranger(space.url)
        watched_in_a_run(
            space, ben, "an app that is killed in a run", lambda: wait_for(lambda: has_ended(space.home, sweep_id))
        )

        assert ["completed"] * 2 == states(space.home, sweep_id)
        status = ann.endpoint("status", sweep_id).data[0]
        assert (True, True) == (status["ended"], status["yours"])


def kill_worker(home):
    """Kill the worker that trains, as the kernel does when memory runs out."""
    pid = worker_of(home)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: worker_of(home) != pid)


def test_a_run_whose_worker_is_killed_is_tried_once_more_and_then_fails_with_the_cause(tmp_path, ready):
    """And the rest of its sweep is trained."""
    with Space(tmp_path, home=ready(tmp_path / "home"), trains=True) as space:
        ann, ben = Stranger(space.url), Stranger(space.url)
        sweep_id = started(ann)

        def attack():
            for attempt in (1, 2):
                wait_for(lambda attempt=attempt: is_training(space.home, sweep_id, attempt=attempt))
                kill_worker(space.home)
            wait_for(lambda: has_ended(space.home, sweep_id))

        watched_in_a_run(space, ben, "a worker that is killed", attack)

        assert ["failed", "completed"] == states(space.home, sweep_id)
        assert "killed (SIGKILL)" in json.dumps(ann.endpoint("status", sweep_id).data)


def test_of_two_apps_on_one_folder_one_trains_and_the_other_takes_over(tmp_path, ready):
    home = ready(tmp_path / "home")
    with Space(tmp_path / "a", home=home, trains=True) as one, Space(tmp_path / "b", home=home, trains=True) as two:
        ann, ben = Stranger(one.url), Stranger(two.url)
        sweep_id = started(ann)
        wait_for(lambda: is_training(home, sweep_id))

        def attack():
            one.process.kill()
            later = started(ben)
            wait_for(lambda: has_ended(home, sweep_id) and has_ended(home, later))
            return later

        later = watched_in_a_run(two, ben, "one of two apps is killed", attack)

        assert ["completed"] * 4 == states(home, sweep_id) + states(home, later)


@pytest.mark.parametrize("jump", [-400 * DAY, 3 * DAY])
def test_a_clock_that_jumps_in_a_run_ends_it_as_any_other(tmp_path, ready, jump):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(CLOCK)
    jumped = tmp_path / "jumped"
    jumped.write_text("0")
    place = {"JUMPED": str(jumped), "PYTHONPATH": str(tmp_path / "site")}
    with Space(tmp_path, home=ready(tmp_path / "home"), trains=True, **place) as space:
        ann, ben = Stranger(space.url), Stranger(space.url)
        sweep_id = started(ann)

        def attack():
            wait_for(lambda: is_training(space.home, sweep_id))
            jumped.write_text(str(jump))
            assert [] == ann.load(f"?tab=train&sweep={sweep_id}")
            wait_for(lambda: has_ended(space.home, sweep_id))
            return started(ben)

        later = watched_in_a_run(space, ben, "a clock that jumps in a run", attack)
        wait_for(lambda: has_ended(space.home, later))

        assert ["completed"] * 4 == states(space.home, sweep_id) + states(space.home, later)
        assert "-" not in ann.endpoint("status", sweep_id).data[0]["in_words"]
