"""Progress and answers in a journal: written, read back, exported and imported; and journals of before they were."""

import json

import pytest

from rankviz.core.runs.events import Answered, GreedyAnswer, RunCompleted, StageProgressed, StageReached
from rankviz.store import RunStore, export_runs, import_runs
from tests.support.runs import questions

BEFORE = Answered(
    time=2.0,
    when="before",
    answers=(GreedyAnswer(place=3, prompt="Spell: cat", reference="K AE T", text="K É", ended=False),),
    seconds=1.5,
)
AFTER = Answered(
    time=8.0,
    when="after",
    answers=(GreedyAnswer(place=3, prompt="Spell: cat", reference="K AE T", text="K AE T", ended=True),),
    seconds=1.5,
)
DONE = RunCompleted(time=9.0, train_seconds=8.0, peak_memory_bytes=100, peak_memory_kind="process resident")
LOADING = StageReached(time=1.0, stage="loading the base")
HALF = StageProgressed(time=1.5, done=50, total=100, unit="bytes")
UNKNOWN = StageProgressed(time=1.7, done=60, total=None, unit="bytes")


@pytest.fixture
def answered(store):
    run_id = store.run_ids(store.create(questions.sweep(ranks=(8,))))[0]
    for event in (LOADING, HALF, UNKNOWN, BEFORE, AFTER, DONE):
        store.append(run_id, event)
    return run_id


def test_progress_and_answers_read_back_as_they_were_written(store, answered):
    elsewhere = RunStore(store.home)

    assert (LOADING, HALF, UNKNOWN, BEFORE, AFTER, DONE) == elsewhere.events(answered)
    assert (BEFORE, AFTER) == (elsewhere.get(answered).answered_before, elsewhere.get(answered).answered_after)
    assert UNKNOWN == elsewhere.get(answered).stage_progress
    assert 0 == elsewhere.get(answered).unreadable_lines


def test_an_answer_of_another_form_is_an_unreadable_line(store, answered):
    row = {"event": "Answered", "time": 1.0, "when": "before", "answers": [{"place": "x"}], "seconds": 1.0}
    run_id = store.run_ids(store.create(questions.sweep(ranks=(8,))))[0]
    (store.run_dir(run_id) / "events.jsonl").write_text(json.dumps(row) + "\n")

    assert 1 == store.get(run_id).unreadable_lines
    assert () == store.get(run_id).answers


def test_an_export_takes_answers_along(store, answered, tmp_path):
    target = export_runs([store], [answered], tmp_path / "runs.zip")
    elsewhere = RunStore(tmp_path / "elsewhere")

    import_runs(elsewhere, target)

    assert store.get(answered).answers == elsewhere.get(answered).answers
    assert "K AE T" == elsewhere.get(answered).answers[0].after.text


def test_a_request_of_before_answers_were_shown_asked_for_none(store):
    run_id = store.run_ids(store.create(questions.sweep(ranks=(8,))))[0]
    file = store.run_dir(run_id) / "request.json"
    row = json.loads(file.read_text())
    assert 4 == row.pop("shown_answers")
    file.write_text(json.dumps(row))

    assert 0 == RunStore(store.home).get(run_id).request.shown_answers
