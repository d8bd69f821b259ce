"""The owner of a run, as every reader has it, and the key of the visitors' cookies."""

import stat

from rankviz.store import RunStore
from rankviz.store.ownership import FILE, KEY_FILE, NO_ONES, UNKNOWN, UNKNOWN_SENTENCE, Ownership, store_key
from tests.support.runs import questions


def test_a_run_is_whose_sweep_made_it_and_closed_until_its_owner_opens_it(store):
    sweep_id = store.create(questions.sweep(ranks=(4, 8)), "ann")
    run_ids = store.run_ids(sweep_id)
    another = RunStore(store.home)
    assert [Ownership("ann", False)] * 2 == [another.ownership(run_id) for run_id in run_ids]

    store.open_to_all(sweep_id, True)
    assert [Ownership("ann", True)] * 2 == [another.ownership(run_id) for run_id in run_ids]
    store.open_to_all(run_ids[0], False)
    assert [False, True] == [another.ownership(run_id).is_open for run_id in run_ids]


def test_an_owner_that_cannot_be_read_is_not_known_and_said_to_be_and_where_there_is_no_file_it_is_the_hosts(store):
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
        reader = RunStore(store.home)
        assert UNKNOWN == reader.ownership(run_id), content
        assert [run_id] == [record.run_id for record in reader.all()]
        assert {run_id: UNKNOWN_SENTENCE} == reader.unreadable()
    file.unlink()
    assert NO_ONES == store.ownership(run_id)


def key_of(home):
    """What the next start of an app signs by."""
    keys = ["0" * 64]
    store_key(home, keys)
    return keys[-1]


def test_it_is_stored_once_and_nobody_else_can_read_it(tmp_path):
    home, keys = tmp_path / "home", ["a" * 64]

    assert store_key(home, keys)
    assert ["a" * 64] == keys
    assert "a" * 64 == key_of(home)
    assert 0o600 == stat.S_IMODE((home / KEY_FILE).stat().st_mode)


def test_one_that_could_not_be_written_is_written_as_soon_as_it_can_be(tmp_path):
    home, keys = tmp_path / "home", ["a" * 64]
    home.write_text("")  # no folder

    assert not store_key(home, keys)
    home.unlink()
    assert store_key(home, keys)

    assert "a" * 64 == key_of(home)
