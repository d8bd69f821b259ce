"""Verdicts on runs with many held-out examples: one visitor makes one at a time, each is made once, and there is an
end of what is compared."""

from contextlib import contextmanager
from dataclasses import replace

import pytest

from rankviz.api import Api, verdicts
from rankviz.core.runs.events import Evaluated
from rankviz.errors import LimitError
from rankviz.ui.runs.view import overlay
from rankviz.visitor import acting_as
from tests.support.limits import limit
from tests.support.runs import questions
from tests.support.runs.finished_runs import finished_events
from tests.support.web.visitors import ANN

EXAMPLES = 20
MODEL = "HuggingFaceTB/SmolLM2-135M"
MANY, MOST = 2 * EXAMPLES, 6 * EXAMPLES


@pytest.fixture
def api(tmp_path, monkeypatch):
    """Of a shared page on which the examples of three runs are many, and those of seven too many."""
    monkeypatch.setattr(verdicts, "MANY_NUMBERS", MANY)
    limit(monkeypatch, example_numbers=MOST)
    api = Api(home=tmp_path, shared=True)
    monkeypatch.setattr(api.runs, "recorded", lambda: ())
    return api


def sweep_of(api, runs, *, seeds=(0,)):
    """Of ANN: so many ranks."""
    request = questions.sweep(ranks=tuple(range(1, runs + 1)), max_steps=2, seeds=seeds, base=MODEL)
    sweep_id = api.workspace.store.create(request, ANN.id)
    for run in api.workspace.store.sweep(sweep_id).runs:
        for event in finished_events(run.request, 2.0):
            if isinstance(event, Evaluated) and event.when == "after":
                own = 2.0 + 5.0 * ((run.request.seed + run.request.r) % 2)
                event = replace(event, example_losses=tuple(own + i / run.request.r for i in range(EXAMPLES)))
            api.workspace.store.append(run.run_id, event)
    return sweep_id


@pytest.fixture
def turns(api, monkeypatch):
    """Those that were taken in the line for what is read."""
    taken = []

    @contextmanager
    def turn():
        taken.append("turn")
        yield

    monkeypatch.setattr(api.workspace.children, "turn", turn)
    return taken


def judged(api, sweep_id, *arguments, visitor=ANN):
    with acting_as(visitor):
        return api.verdicts.of_sweep(sweep_id, *arguments)


def test_one_on_many_takes_a_turn_and_is_kept_until_a_run_changes(api, turns):
    sweep_id = sweep_of(api, 4)
    first = judged(api, sweep_id)
    assert [first] == [judged(api, sweep_id)] == [judged(api, sweep_id, None, "loss")]
    assert 1 == len(turns)

    judged(api, sweep_id, 0.5)
    assert 2 == len(turns)

    with acting_as(ANN):
        api.runs.delete(api.runs.sweep(sweep_id).runs[0].run_id)
    judged(api, sweep_id)
    assert 3 == len(turns)


def test_runs_with_too_many_examples_are_not_compared_and_the_limit_is_named(api):
    sweep_id = sweep_of(api, 7)

    with pytest.raises(LimitError, match=r"have 140 numbers of held-out examples; this server compares at most 120\."):
        judged(api, sweep_id)
    with acting_as(ANN), pytest.raises(LimitError), api.verdicts._turn(api.runs.sweep(sweep_id).runs):
        pass


def test_of_runs_of_several_sweeps_in_one_chart_all_examples_count_together(api, turns):
    def drawn(count):
        with acting_as(ANN):
            sweeps = api.runs.sweeps()[:count]
            return overlay(api, sweeps, [run.run_id for sweep in sweeps for run in sweep.runs], "adapter")

    for _ in range(7):
        sweep_of(api, 1)

    assert (True, []) == (bool(drawn(2)["curve"]), turns)
    assert (True, ["turn"]) == (bool(drawn(3)["curve"]), turns)
    assert "have 140 numbers" in drawn(7)["caption"]
