"""Estimates of runs here start from those that have finished here: on journals written without a worker."""

import pytest

from rankviz import machine
from rankviz.api import Api
from rankviz.core.cost.pace import LIBRARIES, UNSURE
from rankviz.core.runs.estimate import workload_of
from rankviz.core.runs.events import Evaluated, RunCompleted, RunStarted, StageReached, StepLogged
from rankviz.visitor import acting_as
from tests.support.runs import questions
from tests.support.web.visitors import ADMIN, ANN

CPU = {"device": "cpu", "device_name": "a CPU", "cpu_count": 2, "versions": {"torch": "2.0"}}
HERE = {**machine.here(), "versions": machine.versions(LIBRARIES)}


@pytest.fixture
def api(tmp_path):
    return Api(home=tmp_path)


def finish(
    api, ended_at, *, load=8.0, compiling=0.0, step=1.0, evaluation=5.0, environment=HERE, slowed=None, **settings
):
    """One run that took these seconds, on the journal of a sweep of its own; returns its record. slowed: how many times
    longer other programs made its training, with two threads; None is a journal without that."""
    chosen = {"ranks": (16,), "max_steps": 40, "shown_answers": 0, **settings}
    sweep_id = api.workspace.store.create(questions.sweep(**chosen))
    (run,) = api.workspace.store.sweep(sweep_id).runs
    training = compiling + step * run.request.max_steps
    began = ended_at - (load + training + 2 * evaluation + 1)

    def use(seconds):
        spent = (2 * seconds / slowed, 2 * seconds * (1 - 1 / slowed)) if slowed else (None, None)
        return dict(zip(("own_cpu_seconds", "waited_cpu_seconds"), spent, strict=True))

    for event in (
        StageReached(time=began, stage="reading the data"),
        RunStarted(time=began + load, environment=environment),
        Evaluated(time=0.0, when="before", loss=3.0, tokens=100, examples=64, seconds=evaluation),
        *(
            StepLogged(
                time=0,
                step=n,
                loss=1,
                learning_rate=0,
                tokens=n,
                seconds=compiling + step * n,
                memory_bytes=1,
                **use(compiling + step * n),
            )
            for n in range(1, run.request.max_steps + 1)
        ),
        Evaluated(time=0.0, when="after", loss=2.0, tokens=100, examples=64, seconds=evaluation),
        RunCompleted(
            time=ended_at, train_seconds=training, peak_memory_bytes=2**30, peak_memory_kind="process resident"
        ),
    ):
        api.workspace.store.append(run.run_id, event)
    return api.runs.get(run.run_id)


def expected(api, **settings):
    return api.runs.expected(questions.sweep(**{"ranks": (16,), "max_steps": 40, "shown_answers": 0, **settings}))


def test_after_three_runs_a_like_run_is_announced_as_what_they_took(api):
    for second in (1, 2, 3):
        finish(api, 1000.0 * second)

    announced = expected(api)

    # load 8 s, 40 steps of 1 s, two evaluations of 5 s, and 1 s more
    assert 59.0 == pytest.approx(announced.seconds.expected)
    assert announced.seconds.high <= 2 * announced.seconds.low
    assert (8.0, 40.0, 10.0, 1.0) == pytest.approx(
        tuple(getattr(announced.time, part).expected for part in ("load", "training", "evaluation", "rest"))
    )
    assert "from 3 finished runs here." in announced.sentences[0]
    assert announced.sentences[1].startswith("Loading ")


def test_the_estimate_beside_a_run_rests_on_what_had_ended_before_it_began(api):
    first, second = finish(api, 1000.0), finish(api, 2000.0)

    assert () == api.runs.expected_run(first).timed_by
    assert (first.run_id,) == api.runs.expected_run(second).timed_by


def test_a_run_whose_data_or_base_has_gone_breaks_nothing(api):
    finish(api, 1000.0, data="/no/such/file.jsonl")
    finish(api, 2000.0, base="/no/such/folder")
    finish(api, 3000.0, base="nobody/knows-this")

    assert "from 1 finished run here" in expected(api).sentences[0]


def paces_now(api, load_average, *, at):
    """Of a run like the finished ones, on a CPU."""
    run = api.workspace.store.all()[0]
    model, device = api.models.get("embedded"), api.workspace.device(CPU)
    workload = workload_of(model, run.request, device, api.measured.row_tokens(run.request))
    return api.measured.paces(workload, CPU, before=at, load_average=load_average)


def test_runs_that_other_programs_slowed_announce_what_the_machine_takes_without_them(api):
    for second, slowed in enumerate((1.0, 2.0, 4.0), 1):
        finish(api, 1000.0 * second, environment=CPU, slowed=slowed, step=slowed)

    quiet, busy = (paces_now(api, load, at=4000.0) for load in (0.0, 2.0 + UNSURE))

    # between the middle of the last three, 2, and now: 1 on the quiet machine, 2 on the busy one
    assert 2**0.5 == pytest.approx(quiet.training.factor / quiet.training.idle)
    assert 2.0 == pytest.approx(busy.training.factor / busy.training.idle)
    assert quiet.training.idle == pytest.approx(busy.training.idle)
    assert "other programs want about 100 % of its processors" in busy.busy_in_words
    assert "" == quiet.busy_in_words


def test_on_a_shared_page_imported_runs_say_nothing_of_this_machine_and_everybodys_own_do(tmp_path):
    api = Api(home=tmp_path, shared=True)
    with acting_as(ADMIN):
        imported = [finish(api, 1000.0 * number) for number in range(1, 4)]

    with acting_as(ANN):
        assert () == api.runs.expected(questions.sweep(ranks=(16,))).paces.source_ids
        for record in imported:
            api.workspace.store.begin(record.run_id)
        expected = Api(home=tmp_path, shared=True).runs.expected(questions.sweep(ranks=(16,)))

    assert 3 == len(expected.paces.source_ids)
