"""Whose a run is, as every reader of the runs folder has it."""

from rankviz.store import RunStore
from rankviz.store.ownership import FILE, NO_ONES, Ownership
from tests.support import questions


def test_a_run_is_whose_sweep_made_it_and_closed_until_its_owner_opens_it(store):
    sweep_id = store.create(questions.sweep(ranks=(4, 8)), "ann")
    run_ids = store.run_ids(sweep_id)
    another = RunStore(store.home)
    assert [Ownership("ann", False)] * 2 == [another.ownership(run_id) for run_id in run_ids]

    store.open_to_all(sweep_id, True)
    assert [Ownership("ann", True)] * 2 == [another.ownership(run_id) for run_id in run_ids]
    store.open_to_all(run_ids[0], False)
    assert [False, True] == [another.ownership(run_id).is_open for run_id in run_ids]


def test_what_says_nothing_readable_of_an_owner_is_the_hosts_and_closed(store):
    (run_id,) = store.run_ids(store.create(questions.sweep(ranks=(4,)), "ann"))
    file = store.run_dir(run_id) / FILE

    for content in (
        "",
        "{",
        "[]",
        '{"owner": 3, "is_open": true}',
        '{"owner": "ben"}',
        "[" * 900,
        '{"owner": "ben"' * 99,
    ):
        file.write_text(content)
        assert NO_ONES == RunStore(store.home).ownership(run_id), content
    file.unlink()
    assert NO_ONES == store.ownership(run_id)
