"""The true worker trains a tiny Llama in a job of the stand-in, and its losses are those of this machine."""

import pytest

from rankviz.engines.local import Local
from rankviz.store import RunStore
from rankviz.store.ownership import Destination
from rankviz.supervisor import Supervisor
from tests.support.engines.slurm_cluster import SlurmCluster
from tests.support.models.tiny_llama import make_tiny_llama, write_tiny_data
from tests.support.runs import questions

pytestmark = pytest.mark.torch


@pytest.fixture
def cluster():
    cluster = SlurmCluster(1)
    yield cluster
    cluster.close()


def test_a_sweep_trained_in_a_job_has_the_losses_and_adapters_of_one_trained_here(tmp_path, cluster):
    model = make_tiny_llama(tmp_path / "model")
    request = questions.sweep(
        base=str(model), data=str(write_tiny_data(tmp_path / "data.jsonl")), ranks=(2, 4), max_steps=3
    )
    store = RunStore(tmp_path / "home")
    here = store.run_ids(store.create(request))
    there = store.run_ids(store.create(request, "", Destination("slurm")))
    supervisor = Supervisor(store, engines=[Local(store.home), cluster.engine(store)], poll_seconds=0.1)

    supervisor.start()
    supervisor.settle(timeout_seconds=1200)
    supervisor.stop()

    runs = [store.get(run_id) for run_id in (*here, *there)]
    assert ["completed"] * 4 == [run.state for run in runs], [run.error for run in runs]
    losses = [[step.loss for step in run.steps] for run in runs]
    weights = [store.run_dir(run.run_id) / run.adapter_path / "adapter_model.safetensors" for run in runs]
    assert losses[:2] == losses[2:]
    assert [each.read_bytes() for each in weights[:2]] == [each.read_bytes() for each in weights[2:]]
