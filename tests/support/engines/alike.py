"""A sweep that an engine trains has the losses and adapters of one that is trained here."""

from collections.abc import Callable
from pathlib import Path

from rankviz.core.runs.events import RunCompleted
from rankviz.jobs import Engine
from rankviz.jobs.local import Local
from rankviz.jobs.supervisor import Supervisor
from rankviz.store import RunStore
from rankviz.store.ownership import WantedEngine
from tests.support.models.tiny_llama import make_tiny_llama, write_tiny_data
from tests.support.runs import questions


def trains_there_as_here(tmp_path: Path, name: str, engine_of: Callable[[RunStore], Engine]) -> None:
    """Train a tiny Llama at two ranks on both; equal to the byte."""
    model = make_tiny_llama(tmp_path / "model")
    request = questions.sweep(
        base=str(model), data=str(write_tiny_data(tmp_path / "data.jsonl")), ranks=(2, 4), max_steps=3
    )
    store = RunStore(tmp_path / "home")
    here = store.run_ids(store.create(request))
    there = store.run_ids(store.create(request, "", WantedEngine(name)))
    supervisor = Supervisor(store, engines=[Local(store.home), engine_of(store)], poll_seconds=0.1)

    supervisor.start()
    supervisor.settle(timeout_seconds=1200)
    supervisor.stop()

    runs = [store.get(run_id) for run_id in (*here, *there)]
    assert ["completed"] * 4 == [run.state for run in runs], [run.error for run in runs]
    losses = [[step.loss for step in run.steps] for run in runs]
    weights = [store.run_dir(run.run_id) / run.adapter_path / "adapter_model.safetensors" for run in runs]
    assert losses[:2] == losses[2:]
    assert [run.loss_after.loss for run in runs[:2]] == [run.loss_after.loss for run in runs[2:]]
    assert [each.read_bytes() for each in weights[:2]] == [each.read_bytes() for each in weights[2:]]
    assert all(isinstance(store.events(run_id)[-1], RunCompleted) for run_id in there)
