"""One's place in the queue, and how long it will take."""

import time

import pytest

from rankviz.api import Api
from rankviz.core.runs.events import RunStarted
from rankviz.core.runs.words import AFTER_OTHERS
from rankviz.jobs.supervisor import Supervisor
from rankviz.store.ownership import WantedEngine
from rankviz.visitor import acting_as
from tests.support.engines.elsewhere import Elsewhere
from tests.support.processes.workers import wait_for, worker
from tests.support.runs import questions
from tests.support.web.visitors import ANN, BEN


@pytest.fixture
def api(tmp_path):
    return Api(home=tmp_path / "home", shared=True)


def sweep_of(api, visitor, *ranks):
    return api.workspace.store.create(questions.sweep(ranks=ranks or (4,), max_steps=2), visitor.id)


def begin(api, sweep_id):
    """Its first run, as its worker would."""
    store = api.workspace.store
    run_id = store.sweep(sweep_id).runs[0].run_id
    store.begin(run_id)
    store.append(run_id, RunStarted(time=time.time(), environment={"device": "cpu", "cpu_count": 2}))
    return run_id


def test_the_place_counts_what_goes_first_by_turns_and_the_wait_grows_with_it(api):
    mine = [sweep_of(api, ANN) for _ in range(3)]
    theirs = sweep_of(api, BEN)

    with acting_as(ANN):
        places = [api.runs.waiting(sweep_id) for sweep_id in mine]
    with acting_as(BEN):
        other = api.runs.waiting(theirs)

    assert [0, 2, 3] == [place.ahead for place in places]
    assert 1 == other.ahead
    assert 0 < other.seconds.expected < places[1].seconds.expected < places[2].seconds.expected
    assert other.sentence.startswith("Place 2 in the queue: 1 sweep before it. Expected wait: up to ")


def test_what_runs_has_no_place_and_counts_for_those_behind(api):
    first, second = sweep_of(api, ANN, 4, 8), sweep_of(api, BEN)
    begin(api, first)

    with acting_as(ANN):
        assert api.runs.waiting(first) is None
    with acting_as(BEN):
        place = api.runs.waiting(second)

    assert 1 == place.ahead
    assert place.seconds.high > 0  # of the running one, by its estimate


@pytest.fixture
def elsewhere(api, tmp_path):
    """A page with one machine elsewhere, whose worker begins once the file `go` is there."""
    go = str(tmp_path / "go")
    command = worker(f"while not os.path.exists({go!r}): time.sleep(0.02)\nbegin(run_ids[0]) and time.sleep(600)")
    there = Elsewhere(api.workspace.store, tmp_path / "elsewhere", command, machines=1)
    there.name = "there"
    api.workspace.supervisor = Supervisor(api.workspace.store, engines=[there], poll_seconds=0.05)
    yield there
    api.workspace.supervisor.stop()
    there.live = type(there).live.__get__(there)
    for each in there.live():
        there.cancel(each)


def test_a_sweep_says_step_by_step_why_it_has_not_begun(api, elsewhere, tmp_path):
    sweep_id = api.workspace.store.create(questions.sweep(ranks=(4, 16)), ANN.id, WantedEngine("there"))

    with acting_as(ANN):
        sweep = api.runs.sweep(sweep_id)
        assert "Next in the queue." == api.runs.why_sweep_waits(sweep) == api.runs.why_waits(sweep.runs[0])
        api.workspace.work_queue()
        wait_for(lambda: api.workspace.supervisor.with_job)

        starting = "Its worker is starting on another machine."
        wait_for(lambda: api.runs.why_sweep_waits(api.runs.sweep(sweep_id)) == starting)
        assert api.runs.waiting(sweep_id) is None
        (tmp_path / "go").touch()
        wait_for(lambda: api.runs.sweep(sweep_id).running)

        sweep = api.runs.sweep(sweep_id)
        assert ("", AFTER_OTHERS) == tuple(api.runs.why_waits(run) for run in sweep.runs)
        assert "" == api.runs.why_sweep_waits(sweep)
