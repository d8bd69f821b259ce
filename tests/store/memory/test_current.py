"""What is kept in memory of a folder of runs: it is read once, it is always what the journals say, and it is little."""

import itertools
import os
import shutil
from dataclasses import replace

import pytest

from rankviz.core.runs.events import (
    RunCancelled,
    RunFailed,
    RunRequeued,
    StepLogged,
)
from rankviz.core.runs.record import RunRecord, RunState
from rankviz.errors import RunNotFoundError
from rankviz.store import RunStore
from rankviz.store.index import CANCEL, FILE, SECONDS, Current
from rankviz.store.journal import JournalReader, line_of, new_record, parse_lines, parse_request, request_text
from rankviz.store.removal import remove
from tests.store.written_runs import DONE, STARTED
from tests.support.processes.opened_files import opened_files
from tests.support.runs import questions


def step(number: int) -> StepLogged:
    return StepLogged(
        time=1.0 + number, step=number, loss=2.5, learning_rate=1e-3, tokens=80 * number, seconds=number, memory_bytes=7
    )


def queued(store: RunStore, *ranks: int) -> list[str]:
    return store.run_ids(store.create(questions.sweep(ranks=ranks)))


def finish(store: RunStore, run_id: str, steps: int = 3) -> None:
    for event in (STARTED, *map(step, range(1, steps + 1)), DONE):
        store.append(run_id, event)


@pytest.fixture
def filled(store):
    """A store with two runs that have finished, one that runs and two that wait; and their names."""
    run_ids = queued(store, 1, 2, 4, 8, 16)
    for run_id in run_ids[:2]:
        finish(store, run_id)
    store.begin(run_ids[2])
    store.append(run_ids[2], STARTED)
    store.records()
    return store, run_ids


@pytest.fixture
def watched(filled):
    """What is known of the same runs, their names, and what looks at them every second until a round is over."""
    store, run_ids = filled
    now = itertools.count(1000.0)

    def open_reader(run_id: str) -> JournalReader:
        request = parse_request((store.run_dir(run_id) / "request.json").read_bytes())
        return JournalReader(str(store.run_dir(run_id) / "events.jsonl"), new_record(request))

    for run_id in run_ids:
        os.utime(store.run_dir(run_id), (0, 0))  # long ago
    current = Current(store.runs_dir, open_reader, now.__next__)

    def a_round() -> None:
        for _ in range(int(SECONDS)):
            current.standing()

    a_round()
    a_round()
    return current, run_ids, a_round


def states(store: RunStore) -> list[str]:
    return [record.state.value for record in store.records()]


def test_a_list_of_runs_of_which_nothing_was_written_opens_no_file(filled):
    store, _ = filled

    with opened_files(store.runs_dir) as opened:
        for look in (store.records, store.sweeps, store.unended, store.standing, store.turns):
            look()
        store.unreadable()

    assert [] == opened


def test_of_one_run_of_which_something_was_written_its_journal_alone_is_opened(filled):
    store, run_ids = filled
    RunStore(store.home).append(run_ids[2], step(1))

    with opened_files(store.runs_dir) as opened:
        store.records()
        store.records()

    assert [f"{run_ids[2]}/events.jsonl"] == opened


def test_every_change_by_another_process_is_seen_at_once(filled):
    store, run_ids = filled
    other = RunStore(store.home)
    turns = [store.turns()]

    def passes() -> bool:
        turns.append(store.turns())
        return turns[-1] > turns[-2]

    other.append(run_ids[2], DONE)
    assert passes() and [*["completed"] * 3, "queued", "queued"] == states(store)
    other.begin(run_ids[3])
    assert passes() and [run_ids[3]] == [record.run_id for record in store.standing().at_work]
    other.append(run_ids[3], RunFailed(time=2.0, error="It failed."))
    assert passes() and () == store.standing().at_work
    other.requeue(run_ids[3])
    assert passes() and run_ids[3:] == [record.run_id for record in store.unended()]
    other.ask_to_cancel(run_ids[4])
    assert passes() and [run_ids[4]] == store.standing().unwanted
    other.append(run_ids[4], RunCancelled(time=3.0))
    assert passes() and [] == store.standing().unwanted
    (added,) = queued(other, 32)
    assert passes() and added == store.records()[-1].run_id
    remove(other, [run_ids[0]])
    assert passes() and run_ids[0] not in {record.run_id for record in store.records()}


def test_while_runs_only_go_on_the_queue_stays(filled):
    store, run_ids = filled
    turns = store.turns()

    store.append(run_ids[2], step(1))

    assert 1 == len(store.get(run_ids[2]).steps)
    assert turns == store.turns()


def test_whose_a_run_is_and_who_may_look_at_it_is_told(filled):
    store, run_ids = filled
    assert not store.listed_ownership(run_ids[1]).is_open

    RunStore(store.home).open_to_all(run_ids[1], True)
    store.records()

    assert store.listed_ownership(run_ids[1]).is_open


def test_a_folder_that_somebody_deletes_is_gone_and_one_that_they_copy_here_is_there(filled, tmp_path):
    store, run_ids = filled
    shutil.copytree(store.run_dir(run_ids[0]), tmp_path / "kept")

    shutil.rmtree(store.run_dir(run_ids[0]))
    assert run_ids[1:] == [record.run_id for record in store.records()]

    shutil.copytree(tmp_path / "kept", store.run_dir(run_ids[0]))
    assert run_ids == [record.run_id for record in store.records()]


@pytest.mark.parametrize("content", [None, b"", b"\xff\x00garbage\n../../etc\n\n" * 50, b"no-such-run\n"])
def test_whatever_becomes_of_the_file_of_changes_the_journals_are_what_counts(filled, content):
    store, run_ids = filled
    finish(RunStore(store.home), run_ids[2])
    (store.runs_dir / FILE).unlink()
    if content is not None:
        (store.runs_dir / FILE).write_bytes(content)

    assert [*["completed"] * 3, "queued", "queued"] == states(store) == states(RunStore(store.home))
    finish(RunStore(store.home), run_ids[3])
    assert [*["completed"] * 4, "queued"] == states(store)


def test_a_line_that_somebody_wrote_by_hand_into_a_journal_counts_when_the_run_is_looked_at(filled):
    store, run_ids = filled
    with (store.run_dir(run_ids[4]) / "events.jsonl").open("ab") as file:
        file.write(line_of(RunCancelled(time=2.0)))

    assert RunState.CANCELLED is store.get(run_ids[4]).state
    assert [*["completed"] * 2, "running", "queued", "cancelled"] == states(store)


def test_a_round_opens_no_file_of_runs_in_which_nothing_was_written(watched, store):
    current, run_ids, a_round = watched
    looks = [current.looks(run_id) for run_id in run_ids]

    with opened_files(store.runs_dir) as opened:
        a_round()

    assert [] == opened
    assert looks == [current.looks(run_id) for run_id in run_ids]


@pytest.mark.parametrize("waits", [3, 4])
def test_what_somebody_makes_by_hand_in_the_folder_of_a_run_counts_after_a_round(watched, store, waits):
    current, run_ids, a_round = watched
    (store.run_dir(run_ids[waits]) / CANCEL).touch()
    assert [] == current.standing().unwanted

    a_round()

    assert [run_ids[waits]] == current.standing().unwanted


def test_an_event_that_somebody_appends_by_hand_counts_after_a_round(watched, store):
    current, run_ids, a_round = watched
    with (store.run_dir(run_ids[0]) / "events.jsonl").open("ab") as file:
        file.write(line_of(RunRequeued(time=10.0)))
    os.utime(store.run_dir(run_ids[0]), (0, 0))

    a_round()

    assert run_ids[0] == current.unended()[0].run_id


def test_a_journal_cut_at_any_byte_is_what_its_whole_lines_say(store):
    (run_id,) = queued(store, 4)
    finish(store, run_id)
    journal = store.run_dir(run_id) / "events.jsonl"
    whole, request = journal.read_bytes(), store.get(run_id).request

    for size in range(len(whole) + 1):
        journal.write_bytes(whole[:size])
        record = RunStore(store.home).get(run_id)

        assert RunRecord(request=request).after_all(parse_lines(whole[:size]).events) == record


def test_one_sweep_is_read_alone_as_long_as_nobody_asks_for_all(store):
    mine, other = queued(store, 4, 8), queued(store, 4, 8)
    for run_id in (*mine, *other):
        finish(store, run_id)
    fresh = RunStore(store.home)

    with opened_files(store.runs_dir) as opened:
        sweep = fresh.sweep(store.get(mine[0]).request.sweep_id)

    assert (mine, {"completed"}) == ([run.run_id for run in sweep.runs], {run.state for run in sweep.runs})
    assert [] == [path for path in opened if path.startswith(tuple(other)) and not path.endswith("request.json")]
    assert sorted([*mine, *other]) == sorted(record.run_id for record in fresh.records())


def test_a_sweep_that_is_read_alone_has_runs_of_any_name_and_is_read_as_it_goes_on(store):
    (run_id,) = queued(store, 4)
    request = replace(store.get(run_id).request, run_id="imported-by-hand")
    store.publish({"imported-by-hand": {"request.json": request_text(request)}})
    fresh = RunStore(store.home)

    assert {run_id, "imported-by-hand"} == {run.run_id for run in fresh.sweep(request.sweep_id).runs}
    finish(store, run_id)

    assert fresh.sweep(request.sweep_id).runs[0].state is RunState.COMPLETED
    with pytest.raises(RunNotFoundError):
        fresh.sweep("no-such-sweep")
