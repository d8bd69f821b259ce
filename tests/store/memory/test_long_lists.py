"""Long lists of evaluations are on the disk and not in memory, and every use of them is exact."""

import csv
import io
import tracemalloc
import zipfile
from dataclasses import replace

import pytest

from rankviz import verdict
from rankviz.core.runs.events import Evaluated, RunCancelled
from rankviz.errors import RunNotFoundError
from rankviz.store import RunStore, export_runs, import_runs
from rankviz.store import journal as long_lists
from rankviz.store.journal import (
    MAX_LINE_BYTES,
    MAX_SHORT_LINE_BYTES,
    SHORT,
    LongList,
    ReadAgain,
    line_of,
    parse_event,
    whole_lines,
)
from rankviz.store.removal import remove
from tests.support.runs import questions

COUNT = 20_000
ROW_BYTES = 1000
"""Of an example's row in memory, and of its text."""
LOSSES = tuple(2.0 + place / 7 for place in range(COUNT))


def evaluated(losses=LOSSES, **changes):
    whole = {"loss": 2.5, "tokens": 2 * len(losses), "examples": len(losses), "seconds": 1.0, "correct_tokens": 0}
    lists = {"example_losses": losses, "example_tokens": (2,) * len(losses)}
    matches = {"example_exact_matches": (1, 0, None, 1) * (len(losses) // 4)}
    return Evaluated(time=1.0, when="after", **{**whole, **lists, **matches, **changes})


@pytest.fixture
def run_id(store):
    """A run that was evaluated on many examples."""
    (run_id,) = store.run_ids(store.create(questions.sweep(ranks=(4,))))
    store.append(run_id, evaluated())
    store.append(run_id, RunCancelled(time=2.0))
    return run_id


def journal_of(store, run_id):
    return store.run_dir(run_id) / "events.jsonl"


def test_a_verdict_an_export_and_an_import_have_every_number(store, run_id, tmp_path):
    record = store.get(run_id)
    assert isinstance(record.loss_after.example_losses, LongList)
    assert (LOSSES, COUNT) == (tuple(record.loss_after.example_losses), len(record.loss_after.example_losses))
    assert LOSSES[-3:] == record.loss_after.example_losses[-3:]
    assert (2 / 3, 15_000) == (record.loss_after.exact_match, record.loss_after.answered)
    (losses,) = verdict.losses_of([record])
    assert list(LOSSES) == losses.losses.tolist()

    export_runs([store], [run_id], tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        rows = list(csv.DictReader(io.TextIOWrapper(archive.open("losses.csv"))))
    assert list(LOSSES) == [float(row["loss"]) for row in rows]
    elsewhere = RunStore(tmp_path / "elsewhere")
    import_runs(elsewhere, tmp_path / "a.zip")
    assert LOSSES == tuple(elsewhere.get(run_id).loss_after.example_losses)
    assert journal_of(store, run_id).read_bytes() == journal_of(elsewhere, run_id).read_bytes()


def test_a_record_and_its_latest_events_take_no_memory_for_them(store, run_id):
    with journal_of(store, run_id).open("ab") as journal:
        journal.write(b'{"event": "RunRequeued", "time": 3.0}\n' + line_of(replace(evaluated(), attempt=2)) * 30)

    tracemalloc.start()
    try:
        reader = RunStore(store.home)
        assert 30 < len(reader.latest(run_id))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert kept < 2e6  # one evaluation's lists alone have that


def test_of_what_was_read_the_latest_numbers_are_kept(store, run_id, monkeypatch):
    monkeypatch.setattr(long_lists, "_lists", lists := ReadAgain(long_lists._count, 100_000))
    for _ in range(5):
        store.requeue(run_id)
        store.append(run_id, replace(evaluated(), attempt=store.get(run_id).attempt))
        store.append(run_id, RunCancelled(time=2.0))
        assert LOSSES == tuple(store.get(run_id).loss_after.example_losses)

    assert 1 == len(lists._kept)


def test_an_export_has_the_examples_of_one_run_in_memory_at_a_time(store, tmp_path):
    run_ids = store.run_ids(store.create(questions.sweep(ranks=tuple(range(1, 9)))))
    for run_id in run_ids:
        store.append(run_id, evaluated())
        store.append(run_id, RunCancelled(time=2.0))

    tracemalloc.start()
    try:
        export_runs([store], run_ids, tmp_path / "a.zip")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 2 * ROW_BYTES * COUNT
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        rows = list(csv.DictReader(io.TextIOWrapper(archive.open("losses.csv"))))
    assert 8 * list(LOSSES) == [float(row["loss"]) for row in rows]


@pytest.mark.parametrize(("count", "kind"), [(SHORT, tuple), (SHORT + 1, LongList)])
def test_a_short_list_is_in_the_record(store, run_id, count, kind):
    store.requeue(run_id)
    few = replace(evaluated(LOSSES[:count]), attempt=2)

    store.append(run_id, few)

    assert few == store.get(run_id).loss_after
    assert isinstance(store.get(run_id).loss_after.example_losses, kind)


def test_the_lists_of_a_run_that_was_deleted_meanwhile_are_gone(store, run_id):
    measured = store.get(run_id).loss_after
    long_lists._lists._kept.clear()
    remove(store, [run_id])

    with pytest.raises(RunNotFoundError):
        list(measured.example_losses)


def test_the_largest_evaluation_there_can_be_fits_a_line():
    losses = (0.12345678901234567,) * 100_000
    lists = {"example_correct_tokens": (1000,) * 100_000, "example_exact_matches": (None,) * 100_000}
    largest = replace(evaluated(losses), example_tokens=(1000,) * 100_000, tokens=10**8, **lists)

    assert len(line_of(largest)) < MAX_LINE_BYTES
    assert largest == parse_event(line_of(largest))


@pytest.mark.parametrize("name", ["X", "StepLogged", "RunCancelled"])
def test_a_long_line_of_any_other_event_is_not_parsed(name, monkeypatch):
    line = b'{"event": "%s", "time": 1.0, "a": [%s{}]}' % (name.encode(), b"{}," * (MAX_SHORT_LINE_BYTES // 3))
    monkeypatch.setattr("rankviz.store.journal.json.loads", None)

    assert parse_event(line) is None


def test_a_line_longer_than_any_is_passed_over_in_pieces_and_the_next_one_counts():
    cancelled = line_of(RunCancelled(time=1.0))
    too_long = b" " * (2 * MAX_LINE_BYTES + 5) + b"\n"

    lines = list(whole_lines(io.BytesIO(too_long + cancelled + b'{"event"')))

    assert [(0, b"\n"), (len(too_long), cancelled)] == lines
