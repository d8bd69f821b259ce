"""The true worker trains a tiny Llama in a job of the stand-in, and its losses are those of this machine."""

import pytest

from rankviz.core.runs.events import RunCompleted
from rankviz.engines.hf_jobs.engine import HfJobs
from rankviz.engines.hf_jobs.logins import Logins
from rankviz.store import RunStore
from rankviz.store.ownership import Destination
from rankviz.supervisor import Supervisor
from tests.support.engines.hub_jobs import stand_in_hub
from tests.support.models.tiny_llama import make_tiny_llama, write_tiny_data
from tests.support.runs import questions

pytestmark = pytest.mark.torch


@pytest.fixture
def hub(tmp_path):
    with stand_in_hub(tmp_path / "hub") as hub:
        yield hub


def test_a_sweep_trained_in_a_job_has_the_losses_and_adapters_of_one_trained_here(tmp_path, hub):
    model = make_tiny_llama(tmp_path / "model")
    request = questions.sweep(
        base=str(model), data=str(write_tiny_data(tmp_path / "data.jsonl")), ranks=(2, 4), max_steps=3
    )
    store = RunStore(tmp_path / "home")
    logins = Logins(hub.url, of_machine=False)
    logins.give("", "hf_alice")
    here = store.run_ids(store.create(request))
    there = store.run_ids(store.create(request, "", Destination("hf-jobs")))
    from rankviz.engines.local import Local

    engines = [Local(store.home), HfJobs(store, logins, sees_folders=True, poll_seconds=0.2)]
    supervisor = Supervisor(store, engines=engines, poll_seconds=0.1)

    supervisor.start()
    supervisor.settle(timeout_seconds=1200)
    supervisor.stop()

    runs = [store.get(run_id) for run_id in (*here, *there)]
    assert ["completed"] * 4 == [run.state for run in runs], [run.error for run in runs]
    assert [[step.loss for step in run.steps] for run in runs[:2]] == [
        [step.loss for step in run.steps] for run in runs[2:]
    ]
    assert [run.loss_after.loss for run in runs[:2]] == [run.loss_after.loss for run in runs[2:]]
    weights = [store.run_dir(run.run_id) / run.adapter_path / "adapter_model.safetensors" for run in runs]
    assert [each.read_bytes() for each in weights[:2]] == [each.read_bytes() for each in weights[2:]]
    assert all(isinstance(store.events(run_id)[-1], RunCompleted) for run_id in there)
