"""The true worker trains a tiny Llama in a job of the stand-in, and its losses are those of this machine."""

import pytest

from rankviz.jobs.hf_jobs import HfJobs
from rankviz.jobs.hub import Logins
from tests.support.engines.alike import trains_there_as_here
from tests.support.engines.hub_jobs import stand_in_hub

pytestmark = pytest.mark.torch


@pytest.fixture
def hub(tmp_path):
    with stand_in_hub(tmp_path / "hub") as hub:
        yield hub


def test_a_sweep_trained_in_a_job_has_the_losses_and_adapters_of_one_trained_here(tmp_path, hub):
    logins = Logins(hub.url, of_machine=False)
    logins.give("", "hf_alice")

    trains_there_as_here(tmp_path, "hf-jobs", lambda store: HfJobs(store, logins, sees_folders=True, poll_seconds=0.2))
