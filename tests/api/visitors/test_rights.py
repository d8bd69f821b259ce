"""On a shared page runs belong to whoever made them; others look at most, and only where the owner lets them."""

import json

import pytest

from rankviz.errors import InvalidSettingError, NotYoursError, RunNotFoundError, StorageError
from rankviz.machine import disk
from rankviz.store.journal import Ownership, request_text
from rankviz.visitor import NOBODY, acting_as
from tests.support.runs import questions
from tests.support.runs.probes import request as probe_request
from tests.support.web.kept import first_run, sweep_of
from tests.support.web.visitors import ADMIN, ANN, BEN


def changes(api, tmp_path):
    """Everything that a run or a sweep can be asked for beyond looking at it."""
    return {
        "cancel": api.runs.cancel,
        "resume": api.runs.resume,
        "add": lambda name: api.runs.add(name, 8),
        "delete": api.runs.delete,
        "export": lambda name: api.runs.export([name], tmp_path / "out.zip"),
        "open": lambda name: api.runs.open_to_all(name, True),
    }


def test_lists_and_choices_hold_ones_own_runs_only(api):
    mine, other = sweep_of(api, ANN), sweep_of(api, BEN)

    with acting_as(ANN):
        assert [mine] == [sweep.sweep_id for sweep in api.runs.sweeps()]
        assert [mine] == [s.sweep_id for s in api.studies.own_sweeps("embedded") if not s.recorded]
        assert [first_run(api, mine)] == [run.run_id for run in api.adapters.runs()]
    with acting_as(NOBODY):
        assert [] == list(api.runs.sweeps())
    with acting_as(ADMIN):
        assert {mine, other} == {sweep.sweep_id for sweep in api.runs.sweeps()}


@pytest.mark.parametrize(("visitor", "words"), [(ANN, disk.NOTHING_NOW), (ADMIN, disk.NO_KEY_SENTENCE)])
def test_nothing_becomes_anybodys_while_they_would_not_be_known_after_a_restart(api, tmp_path, visitor, words):
    (tmp_path / "home" / "cookie.key").mkdir(parents=True)
    makes = {
        "start": lambda: api.runs.start(questions.sweep(ranks=(4,), max_steps=2)),
        "import": lambda: api.runs.import_(tmp_path / "runs.zip"),
        "studies": lambda: api.studies.add([tmp_path / "results.json"]),
    }

    for name, make in makes.items():
        with acting_as(visitor), pytest.raises(StorageError) as refusal:
            make()
        assert words == str(refusal.value), name
    assert [] == api.workspace.store.all()


def test_what_another_made_is_answered_as_if_it_were_not_there(api, tmp_path):
    sweep_id = sweep_of(api, BEN)
    run_id = first_run(api, sweep_id)
    looks = {
        "sweep": api.runs.sweep,
        "is_sweep": api.runs.is_sweep,
        "is_mine": api.runs.is_mine,
        "fast_curve": api.verdicts.fast_curve,
        "verdict": api.verdicts.of_sweep,
        "decision": api.verdicts.decide,
        "forecast": api.studies.bent,
        "run": lambda _: api.runs.get(run_id),
        "row": lambda _: api.runs.row(run_id),
        **changes(api, tmp_path),
    }

    with acting_as(ANN):
        for name, ask in looks.items():
            with pytest.raises(RunNotFoundError) as refusal:
                ask(sweep_id)
            with pytest.raises(RunNotFoundError) as absent:
                api.runs.sweep("20200101-000000-aaaa")
            message = str(refusal.value).replace(run_id, "X").replace(sweep_id, "X")
            assert str(absent.value).replace("20200101-000000-aaaa", "X") == message, name
        assert not api.adapters.is_here(run_id, 4)


def test_what_is_open_can_be_looked_at_by_its_address_and_nothing_more(api, tmp_path):
    sweep_id = sweep_of(api, BEN, 4, 8)
    run_id = first_run(api, sweep_id)
    with acting_as(BEN):
        assert not api.runs.is_open(sweep_id)
        api.runs.open_to_all(run_id, True)
        assert api.runs.is_open(sweep_id)  # while others can read one of its runs
        api.runs.open_to_all(sweep_id, True)

    with acting_as(ANN):
        assert sweep_id == api.runs.sweep(sweep_id).sweep_id
        assert run_id == api.runs.get(run_id).run_id
        assert api.runs.is_open(sweep_id) and not api.runs.is_mine(sweep_id)
        assert [] == list(api.runs.sweeps())
        for name, change in changes(api, tmp_path).items():
            with pytest.raises(NotYoursError):
                change(sweep_id)
            assert "completed" == api.runs.get(run_id).state, name
        with pytest.raises(NotYoursError):
            api.adapters.zip_of_rank(run_id, 4)
        with pytest.raises(NotYoursError):
            api.adapters.spectrum(run_id)
        assert not api.adapters.is_here(run_id, 4)
    with acting_as(BEN):
        api.runs.open_to_all(sweep_id, False)
        assert not api.runs.is_open(sweep_id)
    with acting_as(ANN), pytest.raises(RunNotFoundError):
        api.runs.sweep(sweep_id)


def test_a_visitor_who_cannot_be_told_keeps_nothing_here(api, tmp_path):
    file = tmp_path / "results.json"
    file.write_text("{}")

    with acting_as(NOBODY):
        for ask in (
            lambda: api.runs.start(questions.sweep(ranks=(4,))),
            lambda: api.machine.start_probe(questions.probe("HuggingFaceTB/SmolLM2-135M")),
            lambda: api.runs.import_(tmp_path / "out.zip"),
            lambda: api.studies.add([file]),
        ):
            with pytest.raises(InvalidSettingError, match="cannot tell you from other visitors"):
                ask()
    assert [] == api.workspace.store.records()


def test_an_intruder_under_the_name_of_a_sweep_does_not_come_before_the_owners_own(api, tmp_path):
    sweep_id = sweep_of(api, ANN, 4)
    mine = api.workspace.store.sweep(sweep_id).runs[0].request
    named = questions.run(run_id=sweep_id, sweep_id="elsewhere", base=mine.base, data=mine.data, created_at=1.0)
    inside = questions.run(run_id="inside", sweep_id=sweep_id, base=mine.base, data=mine.data, created_at=1.0)
    for request in (named, inside):
        api.workspace.store.publish(
            {request.run_id: {"request.json": request_text(request)}}, Ownership(BEN.id, is_open=True)
        )

    with acting_as(ANN):
        assert [mine.run_id] == [run.run_id for run in api.runs.sweep(sweep_id).runs]
        assert [mine.run_id] == api.runs.delete(sweep_id)
    assert {"inside", sweep_id} == {record.run_id for record in api.workspace.store.all()}


def test_a_probe_is_seen_and_ended_by_who_started_it(api):
    request = probe_request()
    api.workspace.store.create_probe(request, "{}", BEN.id)

    with acting_as(ANN):
        assert [] == list(api.machine.probes())
        for ask in (api.machine.probe, api.runs.cancel, api.runs.delete):
            with pytest.raises(RunNotFoundError):
                ask(request.probe_id)
    with acting_as(BEN):
        assert [request.probe_id] == [record.run_id for record in api.machine.probes()]
        assert [request.probe_id] == api.runs.cancel(request.probe_id)


def test_what_cannot_be_read_is_listed_for_its_owner_who_can_delete_it(api):
    sweep_id = sweep_of(api, ANN)
    run_id = first_run(api, sweep_id)
    folder = api.workspace.store.run_dir(run_id)
    (folder / "request.json").write_text(json.dumps({"run_id": run_id, "max_steps": "many"}))
    api.workspace.store.forget([run_id])

    with acting_as(BEN):
        assert {} == api.runs.unreadable()
        with pytest.raises(RunNotFoundError):
            api.runs.delete(run_id)
    with acting_as(ANN):
        assert [run_id] == list(api.runs.unreadable())
        api.runs.delete(run_id)
    assert not folder.exists()


def test_a_recorded_sweep_is_everybodys_to_look_at_and_nobodys_to_change(api, tmp_path):
    sweep = api.runs.recorded()[0]

    with acting_as(ADMIN):
        assert sweep.sweep_id == api.runs.sweep(sweep.sweep_id).sweep_id
        assert not api.runs.is_mine(sweep.sweep_id)
        for name in (sweep.sweep_id, sweep.runs[0].run_id):
            with pytest.raises(InvalidSettingError, match="ships with RankViz"):
                api.runs.delete(name)
    with acting_as(NOBODY):
        assert api.runs.export([sweep.sweep_id], tmp_path / "out.zip").is_file()


def test_no_run_becomes_open_by_what_another_has_under_the_name_of_its_sweep(api):
    sweep_id = sweep_of(api, ANN, 4)
    request = api.workspace.store.sweep(sweep_id).runs[0].request
    with acting_as(ANN):
        api.runs.open_to_all(sweep_id, True)
    bens = questions.run(run_id="bens", sweep_id=sweep_id, base=request.base, data=request.data, created_at=1.0)
    api.workspace.store.publish({"bens": {"request.json": request_text(bens)}}, Ownership(BEN.id))

    assert not api.workspace.store.ownership("bens").is_open
