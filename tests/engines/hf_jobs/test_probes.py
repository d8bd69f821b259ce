"""A probe measures the machine that RankViz is on, also where sweeps rent one."""

import pytest

from rankviz.core.runs.events import Attempt
from rankviz.errors import EngineError
from rankviz.jobs import Job
from rankviz.jobs.hf_jobs import HfJobs
from rankviz.store.ownership import read_destination
from tests.support.engines.hub_jobs import page_on, use
from tests.support.processes.workers import wait_for
from tests.support.runs import probes


def test_where_sweeps_rent_a_machine_a_probe_is_on_this_one(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("RANKVIZ_ENGINE", "hf-jobs")
    hub.holds.set()
    with page_on(hub, tmp_path / "home") as api:
        use(api, hub, "hf_alice")
        store = api.workspace.store
        store.create_probe(probes.request(), "{}")
        (probe,) = store.probes()
        api.workspace.work_queue()

        wait_for(lambda: store.probe(probe.run_id).state != "queued" or hub.jobs)
        api.workspace.supervisor.cancel(probe.run_id)

        assert {} == hub.jobs
        assert "local" == read_destination(store.run_dir(probe.run_id)).engine


def test_no_machine_is_rented_for_a_probe(store, logins):
    with pytest.raises(EngineError, match="no machine is rented"):
        HfJobs(store, logins).start(Job(attempts=(Attempt("probe-1", 1),), kind="probe", owner="ann"))
