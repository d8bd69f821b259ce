"""A server that is full: what of others makes room, and what never does."""

from dataclasses import replace

import pytest

from rankviz.core.runs.events import RunCancelled
from rankviz.errors import InvalidSettingError, LimitError
from rankviz.store.runs import IMPORTED
from rankviz.visitor import acting_as
from tests.support.runs import questions
from tests.support.runs.finished_runs import finished_events
from tests.support.web.kept import aged, ended, imported, kept_data, sweeps_here, upload_of
from tests.support.web.visitors import ADMIN, ANN, BEN, CARL

LOW, ONE, TWO, THREE = (questions.sweep(ranks=ranks, max_steps=2) for ranks in ((1,), (4,), (4, 8), (4, 8, 16)))


def test_where_all_visitors_have_too_many_the_oldest_imported_sweep_makes_room_whole(shared):
    api = shared(runs_in_total=6)
    store = api.workspace.store
    newer = imported(api, ended(store, CARL.id, 4))
    aged(api, imported(api, ended(store, BEN.id, 4, 8)), 60)
    trained = aged(api, ended(store, BEN.id, 4), 120)

    with acting_as(ANN):
        mine = api.runs.start(THREE)

    assert {newer, trained, mine} == sweeps_here(api)


def test_sweeps_that_were_started_and_cancelled_make_room_too(shared):
    """Else many of them, which cost nothing, would keep everybody out."""
    api = shared(runs_in_total=3)
    for visitor in (BEN, CARL, ADMIN):
        with acting_as(visitor):
            api.workspace.store.append(f"{api.runs.start(ONE)}-001-r4", RunCancelled(time=1.0))

    with acting_as(ANN):
        mine = api.runs.start(THREE)

    assert {mine} == sweeps_here(api)


def test_what_was_trained_here_stays_beside_what_was_not(shared):
    api = shared(runs_in_total=3)
    store = api.workspace.store
    sweep_id = ended(store, BEN.id, 4, 8, 16)
    first, second, third = store.run_ids(sweep_id)
    (store.run_dir(second) / IMPORTED).touch()

    with acting_as(ANN):
        api.runs.start(ONE)

    assert [first, third] == store.run_ids(sweep_id)


def test_nothing_of_a_sweep_that_has_not_ended_and_no_trained_run_makes_room(shared):
    api = shared(runs_in_total=5)
    store = api.workspace.store
    trained, queued = ended(store, BEN.id, 4), store.create(TWO, BEN.id)
    imported(api, queued)
    store.append(store.run_ids(queued)[0], RunCancelled(time=1.0))
    copy = imported(api, ended(store, CARL.id, 4))

    with acting_as(ANN):
        with pytest.raises(LimitError, match="at most 5 runs of all visitors, and 4 are there"):
            api.runs.start(THREE)
        assert {trained, queued, copy} == sweeps_here(api)
        mine = api.runs.start(TWO)
    assert {trained, queued, mine} == sweeps_here(api)


def test_an_imported_run_that_was_trained_again_here_is_no_copy(shared):
    api = shared(runs_in_total=1)
    store = api.workspace.store
    sweep_id = imported(api, store.create(ONE, BEN.id))
    (run_id,) = store.run_ids(sweep_id)
    store.append(run_id, RunCancelled(time=1.0))
    store.requeue(run_id)
    for event in finished_events(store.get(run_id).request, 2.0):
        store.append(run_id, replace(event, attempt=2))

    with acting_as(ANN), pytest.raises(LimitError, match="at most 1 runs of all visitors"):
        api.runs.start(ONE)

    assert "completed" == store.get(run_id).state


def test_a_run_that_is_added_does_not_take_the_place_of_its_own_sweep(shared):
    api = shared(runs_in_total=3)
    store = api.workspace.store
    sweep_id = aged(api, imported(api, ended(store, ANN.id, 4, 8)), 60)
    other = imported(api, ended(store, BEN.id, 4))

    with acting_as(ANN):
        api.runs.add(sweep_id, 16)

    assert 3 == len(store.run_ids(sweep_id))
    assert other not in sweeps_here(api)


def test_newcomers_import_where_others_have_filled_the_server_with_imports(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    api = shared(runs_in_total=2)
    store = api.workspace.store
    exported = upload_of(ended(store, BEN.id, 4, 8), api, tmp_path)
    with acting_as(ANN):
        anns = api.runs.import_(exported)
    api.workspace.temp.own(exported, CARL.id)

    with acting_as(CARL):
        carls = api.runs.import_(exported)

    assert not set(anns) & set(carls)
    assert sorted(carls) == sorted(record.run_id for record in store.records())


def test_a_zip_that_is_refused_takes_nobodys_place(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    api = shared(runs_in_total=1)
    copy = imported(api, ended(api.workspace.store, BEN.id, 4))
    (tmp_path / "no.zip").write_bytes(b"no zip")
    api.workspace.temp.own(tmp_path / "no.zip", ANN.id)

    with acting_as(ANN), pytest.raises(InvalidSettingError):
        api.runs.import_(tmp_path / "no.zip")

    assert {copy} == sweeps_here(api)


def test_an_import_of_what_is_here_already_takes_nobodys_place(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    api = shared(runs_in_total=3)
    store = api.workspace.store
    exported = upload_of(ended(store, BEN.id, 4, 8), api, tmp_path)
    copy = aged(api, imported(api, ended(store, CARL.id, 4)), 60)

    with acting_as(ANN):
        api.runs.import_(exported)
        (anns,) = {run.sweep_id for run in api.runs.sweeps()}
        with pytest.raises(InvalidSettingError, match="is here already"):
            api.runs.import_(exported)

    assert {copy, anns} == sweeps_here(api)


def test_an_import_that_is_refused_takes_nobodys_place_where_the_folder_is_over_its_size(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    store = shared().workspace.store
    copies = [aged(shared(), imported(shared(), ended(store, CARL.id, 4)), 60) for _ in range(2)]
    for sweep_id in copies:
        (store.run_dir(store.run_ids(sweep_id)[0]) / "adapter").write_bytes(b"x" * 2_000_000)
    (tmp_path / "no.zip").write_bytes(b"no zip")
    shared().workspace.temp.own(tmp_path / "no.zip", ANN.id)
    api = shared(disk_mb=3)

    with acting_as(ANN), pytest.raises(InvalidSettingError):
        api.runs.import_(tmp_path / "no.zip")
    assert set(copies) == sweeps_here(api)

    exported = upload_of(ended(api.workspace.store, BEN.id, 4), api, tmp_path)
    with acting_as(ANN):
        (run_id,) = api.runs.import_(exported)
    assert 2 == len(sweeps_here(api))
    assert api.workspace.store.get(run_id).request.sweep_id in sweeps_here(api)


def test_a_sweep_whose_data_finds_no_room_takes_nobodys_place(shared, uploaded):
    api = shared(runs_in_total=2)
    copy = imported(api, ended(api.workspace.store, BEN.id, 4))
    data = uploaded(api, ANN, 1500)
    api = shared(runs_in_total=2, files_mb_per_visitor=2)

    with acting_as(ANN), pytest.raises(LimitError, match="at most 2 MB of a visitor's files"):
        api.runs.start(replace(TWO, data=data))

    assert {copy} == sweeps_here(api)


def test_a_run_that_is_added_to_too_many_takes_nobodys_place(shared):
    api = shared(runs_in_total=3, runs_per_sweep=2)
    store = api.workspace.store
    mine, copy = ended(store, ANN.id, 4, 8), imported(api, ended(store, BEN.id, 4))

    with acting_as(ANN), pytest.raises(LimitError, match="at most 2 runs"):
        api.runs.add(mine, 16)

    assert {mine, copy} == sweeps_here(api)


def test_where_the_runs_folder_is_over_its_size_what_was_not_trained_makes_room_with_its_data(shared, uploaded):
    shared(disk_mb=2, files_mb_per_visitor=9)
    api, trained = shared(), None
    with acting_as(BEN):
        api.runs.cancel(api.runs.start(replace(LOW, data=uploaded(api, BEN, 3000))))
        trained = ended(api.workspace.store, BEN.id, 4)
    api = shared()  # looks at the size of the folder anew

    with acting_as(ANN):
        mine = api.runs.start(LOW)

    assert {trained, mine} == sweeps_here(api)
    assert [] == kept_data(api)


def test_nothing_goes_where_all_that_can_go_is_too_little(shared):
    api = shared(disk_mb=2)
    copy = imported(api, ended(api.workspace.store, BEN.id, 4))
    (api.workspace.home / "else").write_bytes(b"x" * 3_000_000)

    with acting_as(ANN), pytest.raises(LimitError, match="more than the 2 MB"):
        api.runs.start(ONE)

    assert {copy} == sweeps_here(api)
