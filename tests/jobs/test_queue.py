"""Visitors take turns; a run that takes too long is ended."""

import pytest

from rankviz.core.runs.events import RunCancelled
from rankviz.jobs import Job
from rankviz.jobs.local import Local
from rankviz.jobs.queue import in_turn, parts, waiting_jobs
from rankviz.store.ownership import WantedEngine, write_destination
from tests.support.engines.elsewhere import Elsewhere
from tests.support.processes.workers import COMPLETE_ALL, Patient, states, wait_for
from tests.support.runs import questions


def queued(store, owner, *ranks):
    """The run ids of a sweep that waits."""
    return store.run_ids(store.create(questions.sweep(ranks=ranks or (4,)), owner))


def test_a_run_that_was_moved_starts_though_the_others_of_its_sweep_wait_elsewhere(store, tmp_path):
    there, here = store.run_ids(store.create(questions.sweep(ranks=(2, 4)), "ann", WantedEngine("elsewhere")))
    write_destination(store.run_dir(here), WantedEngine("local"))
    local = Local(store.home, commands={"finetune": COMPLETE_ALL})
    supervisor = Patient(store, engines=[Elsewhere(store, tmp_path / "elsewhere", COMPLETE_ALL, machines=0), local])

    wait_for(lambda: supervisor.tick() or store.get(here).state.ended)
    supervisor.stop()

    assert ["queued", "completed"] == states(store, [there, here])


@pytest.mark.parametrize(
    ("runs", "room", "least", "sizes"),
    [
        ([54], 4, 3, [14, 13, 14, 13]),
        ([12], 3, 3, [4, 4, 4]),
        ([12], 8, 3, [3, 3, 3, 3]),
        ([54, 12], 4, 3, [27, 27, 6, 6]),
        ([54, 12], 3, 3, [27, 27, 12]),
        ([2, 54], 3, 3, [2, 27, 27]),
        ([5], 2, 3, [5]),
        ([8, 2], 2, 3, [8, 2]),
        ([1], 4, 1, [1]),
        ([], 2, 3, []),
    ],
)
def test_a_sweep_is_divided_where_places_are_free_and_each_part_is_worth_a_base(runs, room, least, sizes):
    order = [Job(sweep_id=f"s{at}", attempts=tuple(range(count))) for at, count in enumerate(runs)]

    divided = parts(order, room, least=least)

    assert sizes == [len(job.attempts) for job in divided]
    for job in order:
        together = [attempt for part in divided if part.sweep_id == job.sweep_id for attempt in part.attempts]
        assert list(job.attempts) == together


def test_a_run_that_is_asked_for_again_waits_behind_who_came_before_whenever_it_was_made(store):
    old, first = queued(store, "ann"), queued(store, "ben")
    for run_id in old:
        store.begin(run_id)
        store.append(run_id, RunCancelled(time=1.0))
        store.requeue_all([run_id])

    assert [*first, *old] == [run_id for job in waiting_jobs(store.records(), store) for run_id in job.run_ids]


def test_who_has_fewest_places_now_goes_first_and_then_who_was_served_longest_ago():
    waiting = [Job(owner=owner, sweep_id=f"{owner}{place}", attempts=()) for place, owner in enumerate("aabcc")]

    order = in_turn(waiting, {"a": 1.0, "b": 9.0, "c": 5.0}, {"a": 1})

    assert ["c3", "b2", "a0", "c4", "a1"] == [job.sweep_id for job in order]
