"""A runs folder that cannot be written: every operation that writes says why, and the planner goes on."""

import os
import time
from contextlib import contextmanager

import pytest

from rankviz.api import Api
from rankviz.core.runs.events import SAVING, RunStarted, StageReached
from rankviz.errors import StorageError
from rankviz.machine import disk
from rankviz.trained import files
from tests.support.models.saved_adapters import CONFIG, Q, factors, save
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


@pytest.fixture
def packed(tmp_path):
    """A zip that unpacks to 2 MB."""
    a, b = factors(4000, 64, 4000)
    tensors = {f"{Q}.lora_A.weight": a, f"{Q}.lora_B.weight": b}
    return files.pack(save(tmp_path / "mine", tensors, CONFIG | {"r": 64}), tmp_path / "mine.zip")


@contextmanager
def nearly_full():
    """A folder with room for a question, and not for an adapter; and the file that takes the rest."""
    with small_disk(8) as folder:
        (folder / "home").mkdir()
        filler = fill(folder)
        os.truncate(filler, filler.stat().st_size - 500_000)
        yield folder / "home", filler


def test_an_adapter_for_which_the_disk_has_no_room_is_no_broken_zip_and_is_read_once_there_is(packed):
    with nearly_full() as (home, filler):
        api = Api(home=home, shared=False)

        for _ in range(2):
            with pytest.raises(StorageError) as refusal:
                api.adapters.spectrum(packed)
            assert disk.FULL_SENTENCE == str(refusal.value)
        filler.unlink()
        assert api.adapters.spectrum(packed)
