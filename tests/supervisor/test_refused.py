"""A run whose engine says that it has to wait."""

from rankviz.core.runs.events import AttemptPlaced
from rankviz.errors import EngineUnavailableError
from rankviz.supervisor import Supervisor
from tests.support.elsewhere import Elsewhere
from tests.support.workers import COMPLETE_ALL, states, sweep


class Refusing(Elsewhere):
    """Starts nothing as long as it has a reason."""

    reason = "Its cluster does not answer."

    def start(self, job):
        if self.reason:
            raise EngineUnavailableError(self.reason)
        return super().start(job)


def test_a_run_that_is_refused_again_and_again_stays_one_attempt_and_says_why_once(store, tmp_path):
    (run_id,) = sweep(store, 4)
    engine = Refusing(store, tmp_path / "elsewhere", COMPLETE_ALL)
    supervisor = Supervisor(store, engines=[engine])

    for _ in range(5):
        supervisor.tick()

    record = store.get(run_id)
    assert (1, "Its cluster does not answer.") == (record.attempt, record.waits)
    assert 2 == sum(isinstance(event, AttemptPlaced) for event in store.events(run_id))
    engine.reason = ""
    supervisor.settle()
    supervisor.stop()
    assert (["completed"], 1) == (states(store, [run_id]), store.get(run_id).attempt)
    assert "" == store.get(run_id).waits
