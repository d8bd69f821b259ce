"""Supervisors that are stopped at the end of a test."""

import pytest

from rankviz.store import RunStore
from tests.support.engines.elsewhere import Elsewhere
from tests.support.processes.workers import HANG_IN_EACH, Patient


@pytest.fixture
def started():
    """Starts a supervisor with these engines."""
    running = []

    def start(store, *engines, **settings):
        running.append(Patient(store, engines=engines, poll_seconds=0.05, max_attempts=2, **settings))
        running[-1].start()
        return running[-1]

    yield start
    for supervisor in running:
        supervisor.stop()


@pytest.fixture
def supervise(store, tmp_path):
    """A supervisor that the test ticks, with an engine that does not share its disk."""
    started = []

    def start(command=HANG_IN_EACH, *, make=Elsewhere, machines=2, **settings):
        here = RunStore(store.home)
        engine = make(here, tmp_path / "elsewhere", command, machines)
        supervisor = Patient(here, engines=[engine], poll_seconds=0.02, **settings)
        started.append((supervisor, engine))
        return supervisor, engine

    yield start
    for supervisor, engine in started:
        supervisor.stop()
        engine.kill_all()
