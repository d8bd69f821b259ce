"""A server that is full: what of others makes room, and what never does."""

from dataclasses import replace

import pytest

from rankviz.core.runs.events import RunCancelled
from rankviz.errors import LimitError
from rankviz.visitor import acting_as
from tests.support.runs import questions
from tests.support.web.kept import aged, ended, imported, kept_data, sweeps_here
from tests.support.web.visitors import ANN, BEN, CARL

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


def test_a_run_that_is_added_does_not_take_the_place_of_its_own_sweep(shared):
    api = shared(runs_in_total=3)
    store = api.workspace.store
    sweep_id = aged(api, imported(api, ended(store, ANN.id, 4, 8)), 60)
    other = imported(api, ended(store, BEN.id, 4))

    with acting_as(ANN):
        api.moves.add(sweep_id, 16)

    assert 3 == len(store.run_ids(sweep_id))
    assert other not in sweeps_here(api)
