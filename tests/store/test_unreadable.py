"""What somebody may have written into a run's folder: one bad record is one unreadable row, one bad line one line."""

import json
import os
from dataclasses import replace

import pytest

from rankviz.core.runs.events import RunCancelled, RunStarted, StepLogged
from rankviz.core.runs.record import RunState
from rankviz.errors import BadAdapterError, RunNotFoundError
from rankviz.jobs.ending import BY_ADMIN
from rankviz.store import RunStore
from rankviz.store.journal import request_text
from tests.support.runs import questions

DEEP = "[" * 5000


def write(store, run_id, /, *, journal="", **changes):
    """A run whose request has these settings, by "lora__r"."""
    (run,) = questions.sweep(ranks=(8,)).runs(sweep_id="s", created_at=1.0)
    row = json.loads(request_text(replace(run, run_id=run_id)))
    for path, value in changes.items():
        *parents, last = path.split("__")
        at = row
        for name in parents:
            at = at[name]
        at[last] = value
    folder = store.run_dir(run_id)
    folder.mkdir(parents=True)
    (folder / "request.json").write_text(json.dumps(row))
    (folder / "events.jsonl").write_text(journal)
    return store


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("created_at", 1e300),
        ("created_at", -1e18),
        ("created_at", float("nan")),
        ("created_at", 10**400),
        ("base", "half \ud800"),
        ("base", "x" * 5000),
        ("data", "a\x00b"),
        ("sweep_id", "../s"),
        ("sweep_id", "s" * 101),
        ("run_id", "another"),
        ("lora__r", 10**300),
        ("lora__lora_alpha", float("inf")),
        ("lora__target_modules", ["q_proj", "\ud800"]),
        ("training__optim", "zz"),
        ("training__max_steps", 10**15),
        ("training__per_device_train_batch_size", 10**9),
        ("learning_rate", float("nan")),
        ("seed", True),
        ("cut_ranks", [1] * 100_000),
    ],
)
def test_a_request_that_holds_what_none_can_is_one_unreadable_row_with_a_reason(tmp_path, name, value):
    store = write(RunStore(tmp_path), "good")
    write(store, "bad", **{name: value})

    assert ["good"] == [record.run_id for record in store.all()]
    reason = store.unreadable()["bad"]
    assert reason.isprintable() and len(reason) < 300
    with pytest.raises(RunNotFoundError):
        store.get("bad")


@pytest.mark.parametrize("text", [DEEP, '{"run_id": "bad", "base": ' + DEEP, "1" * 5000, '"' * 10, "\ufeff{}"])
def test_a_request_that_is_no_json_is_one_unreadable_row(tmp_path, text):
    store = write(RunStore(tmp_path), "bad")
    (store.run_dir("bad") / "request.json").write_text(text)

    assert [] == store.all()
    assert "request.json" in store.unreadable()["bad"]


def test_a_request_of_many_megabytes_is_not_read_whole(tmp_path):
    store = write(RunStore(tmp_path), "bad", base="x" * 2_000_000)

    assert "larger than 1,000,000 bytes" in store.unreadable()["bad"]


def test_a_journal_that_cannot_be_opened_makes_its_run_unreadable_and_no_other(tmp_path):
    store = write(RunStore(tmp_path), "good")
    (write(store, "bad").run_dir("bad") / "events.jsonl").unlink()
    (store.run_dir("bad") / "events.jsonl").mkdir()

    assert ["good"] == [record.run_id for record in store.all()]
    assert "Is a directory" in store.unreadable()["bad"]


STEP = {"event": "StepLogged", "time": 2.0, "step": 1, "loss": 2.5, "learning_rate": 1e-3, "tokens": 8, "seconds": 1.0}
STEP |= {"memory_bytes": 7}
LOSSES = {"event": "Evaluated", "time": 2.0, "when": "after", "loss": 2.5, "tokens": 6, "examples": 2, "seconds": 1.0}


@pytest.mark.parametrize(
    "line",
    [
        DEEP,
        '{"event": "RunFailed", "time": 1, "error": ' + DEEP,
        json.dumps(STEP | {"step": 10**300}),
        json.dumps(STEP | {"tokens": -1}),
        json.dumps(STEP | {"seconds": float("inf")}),
        json.dumps(STEP | {"time": 1e300}),
        json.dumps(STEP | {"loss": "2.5"}),
        json.dumps(LOSSES | {"tokens": 0}),
        json.dumps(LOSSES | {"when": "later"}),
        json.dumps(LOSSES | {"correct_tokens": 7}),
        json.dumps(LOSSES | {"example_losses": [1.0, 2.0], "example_tokens": [1]}),
        json.dumps(LOSSES | {"example_exact_matches": [2, 0]}),
        json.dumps({"event": "StageReached", "time": 1.0, "stage": "\ud800"}),
        json.dumps({"event": "StageReached", "time": 1.0, "stage": "x" * 5000}),
        json.dumps({"event": "RunStarted", "time": 1.0, "environment": {"cpu_count": "many"}}),
        json.dumps({"event": "RunStarted", "time": 1.0, "environment": {"versions": [1]}}),
        json.dumps({"event": "RunStarted", "time": 1.0, "environment": {f"k{n}": 1 for n in range(1000)}}),
        json.dumps({"event": "AdapterSaved", "time": 1.0, "path": "/etc", "file_bytes": 1}),
        json.dumps({"event": "AdapterSaved", "time": 1.0, "path": "a/../../../etc", "file_bytes": 1}),
        json.dumps(
            {"event": "AdapterCut", **LOSSES, "r": 2, "example_losses": [], "path": ".."} | {"event": "AdapterCut"}
        ),
    ],
)
def test_a_line_that_holds_what_no_event_can_is_one_unreadable_line(tmp_path, line):
    store = write(RunStore(tmp_path), "a", journal=f"{line}\n" + json.dumps(STEP) + "\n")

    record = store.get("a")

    assert (1, 1) == (record.unreadable_lines, len(record.steps))
    assert not record.environment and record.loss_after is None and record.adapter_path is None


@pytest.mark.parametrize("loss", [float("inf"), -float("inf"), 1e300, 10**400])
def test_a_loss_beyond_all_numbers_is_that_of_a_run_that_diverged(tmp_path, loss):
    store = write(RunStore(tmp_path), "a", journal=json.dumps(STEP | {"loss": loss}) + "\n")

    (step,) = store.get("a").steps

    assert step.loss != step.loss


def test_what_people_read_is_cut_off_and_made_printable_and_the_failure_counts(tmp_path):
    failed = {"event": "RunFailed", "time": 3.0, "error": "no \udc80 file" + "x" * 10**5, "log_tail": "a\nb\x1b[31m"}
    store = write(RunStore(tmp_path), "a", journal=json.dumps(failed) + "\n")

    record = store.get("a")

    assert (RunState.FAILED, 4000, "a\nb\ufffd[31m") == (record.state, len(record.error), record.log_tail)
    assert record.error.startswith("no \ufffd file") and record.error.encode()


def test_a_step_that_goes_back_cannot_follow_and_is_left_out(tmp_path):
    lines = [STEP, STEP | {"step": 2, "tokens": 16, "seconds": 2.0}, STEP, STEP | {"step": 3, "tokens": 16}]
    store = write(RunStore(tmp_path), "a", journal="".join(json.dumps(line) + "\n" for line in lines))

    record = store.get("a")

    assert ([1, 2], 2) == ([step.step for step in record.steps], record.unreadable_lines)


def test_steps_are_kept_in_order_whatever_stands_between_them_and_go_when_the_run_is_asked_for_again(tmp_path):
    store = write(RunStore(tmp_path), "a")
    for number in (1, 2):
        store.append("a", StepLogged(**{n: v for n, v in (STEP | {"step": number}).items() if n != "event"}))
        store.append("a", RunStarted(time=1.0, environment={"device": "cpu"}))
    assert [1, 2] == [step.step for step in RunStore(tmp_path).get("a").steps]

    store.append("a", RunCancelled(time=3.0))
    store.requeue("a")

    assert () == RunStore(tmp_path).get("a").steps == store.get("a").steps


def test_the_last_events_are_kept_without_steps(tmp_path):
    stage = {"event": "StageReached", "time": 1.0}
    rows = [stage | {"stage": f"stage {n}"} for n in range(100)] + [STEP | {"step": n + 1} for n in range(100)]
    store = write(RunStore(tmp_path), "a", journal="".join(json.dumps(row) + "\n" for row in rows))

    latest = store.latest("a")

    assert [f"stage {n}" for n in range(40, 100)] == [event.stage for event in latest]


@pytest.mark.parametrize(
    "path", ["/etc", "../b", "a/../../b", ".hidden", "a//b", "~root", "a\\b", "link", "link/deeper"]
)
def test_a_path_that_leaves_the_folder_of_its_run_is_refused(tmp_path, path):
    store = write(RunStore(tmp_path), "a")
    os.symlink("/", store.run_dir("a") / "link")

    with pytest.raises(BadAdapterError, match="not in the run's own folder"):
        store.path("a", path)


def test_a_path_in_the_folder_of_its_run_is_followed(tmp_path):
    store = write(RunStore(tmp_path), "a")

    assert store.run_dir("a") / "cuts" / "r4" == store.path("a", "cuts/r4")


def test_a_wish_to_cancel_that_cannot_be_read_is_one_without_a_word(tmp_path):
    store = write(RunStore(tmp_path), "bytes")
    write(store, "folder")
    (store.run_dir("bytes") / "cancel").write_bytes(b"\xff\xfe\x00")
    (store.run_dir("folder") / "cancel").mkdir()

    assert store.cancel_word("bytes") not in (None, BY_ADMIN)
    assert "" == store.cancel_word("folder")
