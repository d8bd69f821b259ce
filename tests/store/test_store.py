"""Runs on disk: what is written, what is read back, what a crash leaves."""

import json
from dataclasses import replace

import pytest

from rankviz.core.runs.events import Evaluated, RunCancelled, RunFailed
from rankviz.core.runs.record import RunState
from rankviz.errors import InvalidSettingError, RunNotFoundError
from rankviz.store import RunStore, recorded
from tests.store.written_runs import DONE, STARTED, ended_run, one_run, step
from tests.support.runs import questions

QUIET = "no rights for ..."


def test_a_created_run_is_queued_and_reads_back_as_it_was_asked(tmp_path):
    store = RunStore(tmp_path)

    sweep_id = store.create(questions.sweep(ranks=(16,), learning_rates=(2e-4,), target_modules=("q_proj", "v_proj")))

    record = RunStore(tmp_path).sweep(sweep_id).runs[0]
    assert RunState.QUEUED is record.state
    assert (16, 2e-4, 32.0) == (record.request.r, record.request.learning_rate, record.request.lora.lora_alpha)
    assert ("q_proj", "v_proj") == record.request.lora.target_modules


def test_looking_at_an_empty_home_writes_nothing(tmp_path):
    store = RunStore(tmp_path / "home")

    assert [] == store.all() == store.sweeps()
    assert not store.home.exists()


def test_a_sweep_with_a_mistake_leaves_nothing_behind(tmp_path):
    store = RunStore(tmp_path)

    with pytest.raises(InvalidSettingError):
        store.create(questions.sweep(ranks=(8, 0)))

    assert [] == store.all()


def test_a_record_follows_its_journal_as_it_grows(tmp_path):
    writer, reader = RunStore(tmp_path), RunStore(tmp_path)
    run_id = one_run(writer)

    writer.append(run_id, STARTED)
    assert RunState.RUNNING is reader.get(run_id).state
    writer.append(run_id, step(1))
    writer.append(run_id, step(2))
    assert (1, 2) == tuple(s.step for s in reader.get(run_id).steps)
    writer.append(run_id, DONE)

    assert RunState.COMPLETED is reader.get(run_id).state
    assert (STARTED, step(1), step(2), DONE) == reader.events(run_id)


def test_what_others_said_is_written_down_without_their_tokens(tmp_path):
    store = RunStore(tmp_path)
    run_id = one_run(store)
    said = "no rights for hf_alicesOwnToken0123456789"

    store.append(run_id, RunFailed(time=3.0, error=said, log_tail=said))

    assert (QUIET,) * 2 == (store.get(run_id).error, store.get(run_id).log_tail)
    assert b"alicesOwn" not in (store.run_dir(run_id) / "events.jsonl").read_bytes()


def test_what_stands_deep_in_an_event_is_written_down_without_tokens_too(tmp_path):
    store = RunStore(tmp_path)
    run_id = one_run(store)
    said = "no rights for hf_alicesOwnToken0123456789"

    store.append(run_id, replace(STARTED, environment={"loaded_from": said, said: {"nested": [said, 3]}}))

    journal = (store.run_dir(run_id) / "events.jsonl").read_text()
    assert "alicesOwn" not in journal
    assert {"loaded_from": QUIET, QUIET: {"nested": [QUIET, 3]}} == json.loads(journal)["environment"]


def test_the_end_of_a_long_log_begins_with_no_part_of_a_token(tmp_path):
    store = RunStore(tmp_path)
    run_id = one_run(store)
    (store.run_dir(run_id) / "worker.log").write_text(" hf_alicesOwnToken0123456789abcdefghij" * 1000)

    assert {"..."} == set(store.log_tail(run_id).split())


def test_no_token_and_no_piece_of_one_is_in_the_end_of_a_log(tmp_path):
    store = RunStore(tmp_path)
    run_id = one_run(store)
    (store.run_dir(run_id) / "worker.log").write_text(f"no rights for hf_alicesOwnToken0123456789 {'x' * 3990}\n")

    assert f"... {'x' * 3990}" == store.log_tail(run_id)[-3994:]


def test_a_half_written_last_line_is_not_yet_an_event(tmp_path):
    store = RunStore(tmp_path)
    run_id = one_run(store)
    store.append(run_id, STARTED)
    journal = store.run_dir(run_id) / "events.jsonl"
    line = json.dumps({"event": "RunCancelled", "time": 3.0}) + "\n"

    with journal.open("a") as file:
        file.write(line[:20])
    assert RunState.RUNNING is store.get(run_id).state
    assert (STARTED,) == store.events(run_id)

    with journal.open("a") as file:
        file.write(line[20:])
    assert RunState.CANCELLED is store.get(run_id).state
    assert 0 == store.get(run_id).unreadable_lines


def test_what_a_crash_cut_off_takes_no_later_event_with_it(tmp_path):
    store = RunStore(tmp_path)
    run_id = one_run(store)
    store.append(run_id, STARTED)
    with (store.run_dir(run_id) / "events.jsonl").open("a") as file:
        file.write('{"event": "StepLogged", "ti')

    store.append(run_id, RunCancelled(time=5.0))

    record = store.get(run_id)
    assert RunState.CANCELLED is record.state
    assert 1 == record.unreadable_lines
    assert (STARTED, RunCancelled(time=5.0)) == store.events(run_id)


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b"[1, 2]",
        b'{"event": "Unheard", "time": 1}',
        b'{"event": "RunCancelled"}',
        b'{"event": "RunCancelled", "time": "soon"}',
        b'{"event": ["RunCancelled"], "time": 1}',
        b"\xff\xfe",
    ],
)
def test_a_broken_line_in_the_middle_is_left_out_and_counted(tmp_path, line):
    store = RunStore(tmp_path)
    run_id = one_run(store)
    store.append(run_id, STARTED)
    with (store.run_dir(run_id) / "events.jsonl").open("ab") as file:
        file.write(line + b"\n")
    store.append(run_id, step(1))

    record = store.get(run_id)

    assert (RunState.RUNNING, 1, 1) == (record.state, len(record.steps), record.unreadable_lines)


def test_an_event_of_a_later_version_with_one_more_field_still_counts(tmp_path):
    store = RunStore(tmp_path)
    run_id = one_run(store)
    with (store.run_dir(run_id) / "events.jsonl").open("a") as file:
        file.write('{"event": "RunCancelled", "time": 2.0, "by": "someone"}\n')

    assert RunState.CANCELLED is store.get(run_id).state


def test_accuracies_come_back_from_a_journal_and_one_of_before_they_were_counted_has_none(tmp_path):
    store = RunStore(tmp_path)
    new, old = store.run_ids(store.create(questions.sweep(ranks=(4, 8), exact_match_examples=2)))
    line = {"event": "Evaluated", "time": 2.0, "when": "after", "loss": 1.5, "tokens": 8, "examples": 2, "seconds": 1.0}
    counts = {"correct_tokens": 6, "example_exact_matches": (1, None)}
    store.append(new, Evaluated(**{name: value for name, value in line.items() if name != "event"}, **counts))
    (store.run_dir(old) / "events.jsonl").write_text(json.dumps(line) + "\n")

    now, before = RunStore(tmp_path).get(new).loss_after, RunStore(tmp_path).get(old).loss_after

    assert (0.75, 1.0, (1, None)) == (now.token_accuracy, now.exact_match, now.example_exact_matches)
    assert (1.5, None, None) == (before.loss, before.token_accuracy, before.exact_match)
    assert 2 == store.get(new).request.exact_match_examples


def test_an_ended_run_stays_ended(tmp_path):
    store = RunStore(tmp_path)
    run_id = one_run(store)
    for event in (STARTED, DONE, RunCancelled(time=10.0), step(3)):
        store.append(run_id, event)

    assert (RunState.COMPLETED, ()) == (RunStore(tmp_path).get(run_id).state, store.get(run_id).steps)


def test_a_failed_run_asked_for_again_starts_from_nothing_for_every_reader(tmp_path):
    writer, reader = RunStore(tmp_path), RunStore(tmp_path)
    run_id = one_run(writer)
    assert writer.begin(run_id)
    for event in (STARTED, step(1), RunFailed(time=3.0, error="no luck")):
        writer.append(run_id, event)
    assert RunState.FAILED is reader.get(run_id).state

    writer.requeue(run_id)

    again = reader.get(run_id)
    assert (RunState.QUEUED, (), "") == (again.state, again.steps, again.error)
    assert reader.begin(run_id)
    writer.append(run_id, STARTED)
    writer.append(run_id, step(1))
    assert (RunState.RUNNING, 1) == (reader.get(run_id).state, len(reader.get(run_id).steps))


def test_only_one_caller_begins_a_run(tmp_path):
    store = RunStore(tmp_path)
    run_id = one_run(store)

    assert [True, False] == [store.begin(run_id), RunStore(tmp_path).begin(run_id)]


@pytest.mark.parametrize("run_id", ["nothing", "../secrets", "", ".", "a/b", ".new-x"])
def test_a_run_that_is_not_there_is_said_not_to_be(tmp_path, run_id):
    with pytest.raises(RunNotFoundError):
        RunStore(tmp_path).get(run_id)


def test_a_strange_folder_among_the_runs_is_passed_over(tmp_path):
    store = RunStore(tmp_path)
    run_id = one_run(store)
    (store.runs_dir / "holiday-pictures").mkdir()

    assert [run_id] == [record.run_id for record in store.all()]


def test_sweeps_come_oldest_first_and_their_runs_in_the_order_they_run(tmp_path):
    store = RunStore(tmp_path)
    first = store.create(questions.sweep(ranks=(64, 4), seeds=(0, 1)))
    second = store.create(questions.sweep(ranks=(2,)))

    sweeps = store.sweeps()

    assert [first, second] == [sweep.sweep_id for sweep in sweeps]
    assert [(0, 4), (0, 64), (1, 4), (1, 64)] == [(r.request.seed, r.request.r) for r in sweeps[0].runs]


def test_an_upload_is_kept_once_under_its_own_name(tmp_path):
    upload = tmp_path / "mine.jsonl"
    upload.write_text('{"text": "hello"}\n')
    store = RunStore(tmp_path / "home")

    first, second = store.keep(upload), store.keep(upload)
    upload.unlink()

    assert first == second
    assert "mine.jsonl" == first.name
    assert '{"text": "hello"}\n' == first.read_text()


@pytest.mark.parametrize("made", ["kept", "created", "added"])
def test_a_copy_that_was_changed_on_the_disk_is_replaced_by_what_is_given(tmp_path, made):
    upload, text = tmp_path / "mine.jsonl", '{"text": "hello"}\n'
    upload.write_text(text)
    store = RunStore(tmp_path / "home")
    kept, sweep_id = store.keep(upload), store.create(questions.sweep(ranks=(4,)))
    kept.write_text(text[:5])

    if made == "kept":
        store.keep(upload)
    elif made == "created":
        store.create(questions.sweep(ranks=(4,)), data=upload)
    else:
        run = store.sweep(sweep_id).runs[0].request
        store.add(replace(run, run_id=f"{sweep_id}-002-r8"), data=upload)

    assert text == kept.read_text()
    assert [kept] == list(kept.parent.iterdir())


def test_a_request_that_no_sweep_can_ask_for_is_unreadable_with_its_reason_and_hides_nothing_else(tmp_path):
    store = RunStore(tmp_path)
    run_id, spoiled = ended_run(store), ended_run(store)
    request = store.run_dir(spoiled) / "request.json"
    request.write_text(request.read_text().replace('"max_length": 256', '"max_length": -1'))
    (store.runs_dir / "torn").mkdir()
    (store.runs_dir / "torn" / "request.json").write_text("{")
    (store.runs_dir / "of someone else").mkdir()

    fresh = RunStore(tmp_path)

    assert [run_id] == [record.run_id for record in fresh.all()]
    assert {spoiled, "torn"} == fresh.unreadable().keys()
    assert "Maximum length must be a whole number" in fresh.unreadable()[spoiled]


def test_every_request_that_a_sweep_makes_is_valid_by_itself():
    for sweep in (
        questions.sweep(ranks=(1, 1024), alpha="2r"),
        questions.sweep(ranks=(64,), cut_ranks=(2,), alpha="0.5"),
    ):
        for run in sweep.runs(sweep_id="s", created_at=1.0):
            run.validate()


def test_recorded_sweeps_are_folded_as_any_other_and_say_that_they_are_recorded(tmp_path):
    run_id = ended_run(RunStore(tmp_path / "recorded"))

    (sweep,) = recorded(tmp_path)

    assert (True, True) == (sweep.recorded, sweep.ended)
    assert (run_id, RunState.COMPLETED) == (sweep.runs[0].run_id, sweep.runs[0].state)
