"""A supervisor with an engine that does not share its disk."""

import pytest

from rankviz.jobs.supervisor import Supervisor
from rankviz.store import RunStore
from tests.support.engines.elsewhere import Elsewhere
from tests.support.processes.workers import HANG_IN_EACH


@pytest.fixture
def supervise(store, tmp_path):
    started = []

    def start(command=HANG_IN_EACH, *, make=Elsewhere, machines=2, **settings):
        here = RunStore(store.home)
        engine = make(here, tmp_path / "elsewhere", command, machines)
        supervisor = Supervisor(here, engines=[engine], poll_seconds=0.02, **settings)
        started.append((supervisor, engine))
        return supervisor, engine

    yield start
    for supervisor, engine in started:
        supervisor.stop()
        engine.kill_all()
