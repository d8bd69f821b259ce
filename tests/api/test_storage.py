"""A runs folder that cannot be written: every operation that writes says why, and the planner goes on."""

import time

import pytest

from rankviz.api import Api
from rankviz.core.runs.events import SAVING, RunStarted, StageReached
from rankviz.machine import disk
from tests.support.processes.hostile_disks import fill, small_disk
from tests.support.runs import questions


def test_a_run_with_no_room_to_say_how_it_ended_is_explained_cancelled_and_deleted():
    with small_disk(8) as folder:
        api = Api(home=folder / "home", shared=False)
        api.workspace.work_queue = lambda: None
        store, supervisor = api.workspace.store, api.workspace.supervisor
        sweep_id = store.create(questions.sweep(ranks=(4, 8), max_steps=2))
        running, queued = store.run_ids(sweep_id)
        assert store.begin(running)
        (store.run_dir(running) / "worker.log").write_bytes(b"x" * 3_000_000)
        store.append(running, RunStarted(time=time.time(), environment={}))
        fill(folder)
        with pytest.raises(OSError, match=r"not written whole|No space"):
            for _ in range(1000):
                store.append(running, StageReached(time=time.time(), stage=SAVING))

        sentence = api.runs.progress(api.runs.sweep(sweep_id)).sentence
        assert f"Run 1 of 2: {SAVING}. {disk.FULL_SENTENCE}" == sentence

        assert [running, queued] == list(api.runs.cancel(sweep_id))
        assert {running, queued} == supervisor.unwritten.keys()
        assert [running, queued] == list(api.runs.delete(sweep_id))
        assert ([], "") == (store.all(), api.workspace.why_not_write())
        supervisor.tick()
        assert {} == supervisor.unwritten
        supervisor.stop()
