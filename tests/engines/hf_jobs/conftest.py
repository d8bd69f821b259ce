import pytest

from rankviz.errors import EngineEndingError
from rankviz.jobs.hf_jobs import HfJobs
from rankviz.jobs.hub import Logins
from rankviz.jobs.local import Local
from rankviz.store import RunStore
from tests.support.engines.hub_jobs import stand_in_hub, sweep
from tests.support.processes.workers import COMPLETE_ALL, HANG_IN_EACH, Patient, wait_for


@pytest.fixture
def hub(tmp_path):
    with stand_in_hub(tmp_path / "hub") as hub:
        yield hub


@pytest.fixture
def logins(hub):
    logins = Logins(hub.url, of_machine=False)
    logins.give("ann", "hf_alice")
    return logins


@pytest.fixture
def supervise(store, logins):
    """Starts a supervisor that rents from the stand-in, and trains on this machine too, where runs hang."""
    started = []

    def start(command=COMPLETE_ALL, logins=logins, **settings):
        here = RunStore(store.home)
        engine = HfJobs(here, logins, worker=command, poll_seconds=0.1, **settings)
        local = Local(here.home, commands={"finetune": HANG_IN_EACH}, grace_seconds=0.2)
        supervisor = Patient(here, engines=[engine, local], poll_seconds=0.05, max_attempts=2)
        supervisor.start()
        started.append(supervisor)
        return supervisor

    yield start
    for supervisor in started:
        supervisor.stop()


@pytest.fixture
def until_it_says():
    """until_it_says(words, supervisor, cancelled): asks to cancel until it is said that its job has not ended so."""

    def ask(words, supervisor, cancelled):
        def says():
            with pytest.raises(EngineEndingError) as ending:
                supervisor.cancel(cancelled, timeout_seconds=0.0)
            return words in str(ending.value)

        wait_for(says)

    return ask


@pytest.fixture
def going(supervise, store):
    """(supervisor, the two runs of a job whose first one trains)."""
    run_ids = sweep(store, 2, 4)
    supervisor = supervise(HANG_IN_EACH)
    wait_for(lambda: store.get(run_ids[0]).steps)
    return supervisor, run_ids
