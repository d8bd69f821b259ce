"""Runs on disk: what is written, what is read back, what a crash leaves, and what somebody else may have written."""

import contextlib
import errno
import json
import os
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from unittest.mock import Mock

import pytest

from rankviz.core.runs.events import Evaluated, RunCancelled
from rankviz.core.runs.record import RunState
from rankviz.errors import BadAdapterError, RunNotFoundError, RunUnreadError
from rankviz.settings import MIN_SECRET
from rankviz.shared.rights import KEY_FILE, store_key
from rankviz.store import RunStore, durable
from rankviz.store.journal import (
    MAX_LINE_BYTES,
    MAX_SHORT_LINE_BYTES,
    NO_ONES,
    OWNER_FILE,
    UNKNOWN,
    UNKNOWN_SENTENCE,
    Ownership,
    line_of,
    parse_event,
    request_text,
)
from rankviz.store.removal import ABANDONED_SECONDS, remove, tidy
from tests.store.written_runs import STARTED, one_run, step
from tests.support.processes.hostile_disks import fill, small_disk
from tests.support.processes.opened_files import failing_reads, opened_files
from tests.support.runs import questions

QUIET = "no rights for ..."
DEEP = "[" * 5000
STEP = {"event": "StepLogged", "time": 2.0, "step": 1, "loss": 2.5, "learning_rate": 1e-3, "tokens": 8, "seconds": 1.0}
STEP |= {"memory_bytes": 7}
LOSSES = {"event": "Evaluated", "time": 2.0, "when": "after", "loss": 2.5, "tokens": 6, "examples": 2, "seconds": 1.0}


def test_what_stands_deep_in_an_event_is_written_down_without_tokens_too(store):
    run_id = one_run(store)
    said = "no rights for hf_alicesOwnToken0123456789"

    store.append(run_id, replace(STARTED, environment={"loaded_from": said, said: {"nested": [said, 3]}}))

    journal = (store.run_dir(run_id) / "events.jsonl").read_text()
    assert "alicesOwn" not in journal
    assert {"loaded_from": QUIET, QUIET: {"nested": [QUIET, 3]}} == json.loads(journal)["environment"]


def test_only_one_caller_begins_a_run(store):
    run_id = one_run(store)

    assert not store.begin(run_id, attempt=2)
    assert [True, False] == [store.begin(run_id, attempt=1), RunStore(store.home).begin(run_id)]


def test_what_a_power_failure_may_lose_are_steps_only(store, monkeypatch):
    run_id, synced = one_run(store), []
    monkeypatch.setattr(os, "fsync", synced.append)

    for events, count in (((step(1), step(2)), 0), ((STARTED,), 1), ((step(3), RunCancelled(time=2.0)), 2)):
        store.append(run_id, *events)
        assert count == len(synced)


def test_the_log_of_a_run_ends_with_what_was_said_last_and_holds_no_token(store):
    run_id, token = one_run(store), "hf_alicesOwnToken0123456789"
    assert "" == store.log_tail(run_id)

    for text, tail in (
        (f"1 %\r50 %\n{token}\n", "50 %\n..."),
        (token.ljust(15_996) + "\nend", "...\nend"),
        (token.ljust(16_006) + "\nend", "end"),  # the last 16,000 bytes begin within the token
        ("a" * 9000, "a" * 4000),
    ):
        (store.run_dir(run_id) / "worker.log").write_text(text)
        assert tail == store.log_tail(run_id)


def test_a_wish_to_cancel_keeps_its_word_and_is_one_where_that_cannot_be_read(store):
    run_id = one_run(store)
    assert store.cancel_word(run_id) is None
    for word in ("stop", ""):
        store.ask_to_cancel(run_id, word)
        assert "stop" == store.cancel_word(run_id)

    for code in (errno.EACCES, errno.EISDIR):
        with failing_reads(store.home, code, ("cancel",)):
            assert "" == store.cancel_word(run_id)
    with failing_reads(store.home, errno.EIO, ("cancel",)), pytest.raises(RunUnreadError, match="Input/output error"):
        store.cancel_word(run_id)


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
        ("created_at", float("nan")),
        ("base", "half \ud800"),
        ("data", "a\x00b"),
        ("sweep_id", "../s"),
        ("run_id", "another"),
        ("lora__r", 10**300),
        ("lora__target_modules", ["q_proj", "\ud800"]),
        ("training__optim", "zz"),
        ("training__max_steps", 10**15),
        ("seed", True),
        ("cut_ranks", [1] * 100_000),
        ("request.json holds no object.", "[]"),
        ("request.json is not JSON.", DEEP),
        ("request.json is of before 25 November 2026", '{"r": 8}'),
        ("request.json is larger than 1,000,000 bytes.", " " * 1_000_001),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_request_that_holds_what_none_can_is_one_unreadable_row_with_a_reason(tmp_path, name, value):
    store = write(RunStore(tmp_path), "good")
    request = store.run_dir("good") / "request.json"
    request.write_text(request.read_text().ljust(1_000_000))
    write(store, "bad", **({} if " " in name else {name: value}))
    if " " in name:
        (store.run_dir("bad") / "request.json").write_text(value)
    store.run_dir("a folder of others").mkdir()

    assert ["good"] == [record.run_id for record in store.all()]
    ((folder, reason),) = store.unreadable().items()
    assert "bad" == folder
    assert reason.isprintable() and len(reason) < 300 and (name in reason or " " not in name)
    with pytest.raises(RunNotFoundError):
        store.get("bad")


@pytest.mark.parametrize(
    "line",
    [
        *(DEEP, "[1]", "1", "{}", '{"event": ["StepLogged"]}'),
        pytest.param(json.dumps(STEP).ljust(MAX_SHORT_LINE_BYTES), id="a long line"),
        pytest.param(json.dumps(LOSSES).ljust(MAX_LINE_BYTES), id="a longer line"),
        json.dumps(STEP | {"step": 10**300}),
        json.dumps(STEP | {"loss": "2.5"}),
        json.dumps(LOSSES | {"correct_tokens": 7}),
        json.dumps(LOSSES | {"example_losses": [1.0, 2.0], "example_tokens": [1]}),
        json.dumps(LOSSES | {"example_exact_matches": [2, 0]}),
        json.dumps({"event": "StageReached", "time": 1.0, "stage": "\ud800"}),
        json.dumps({"event": "RunStarted", "time": 1.0, "environment": {"cpu_count": "many"}}),
        json.dumps({"event": "RunStarted", "time": 1.0, "environment": {f"k{n}": 1 for n in range(1000)}}),
        json.dumps({"event": "AdapterSaved", "time": 1.0, "path": "a/../../../etc", "file_bytes": 1}),
        json.dumps(LOSSES | {"event": "AdapterCut", "r": 2, "example_losses": [], "path": ".."}),
    ],
)
def test_a_line_that_holds_what_no_event_can_is_one_unreadable_line(tmp_path, line):
    step = json.dumps(STEP).ljust(MAX_SHORT_LINE_BYTES - 1)  # as long as a line of a step may be
    store = write(RunStore(tmp_path), "a", journal=f"{line}\n{step}\n")

    record = store.get("a")

    assert (1, 1) == (record.unreadable_lines, len(record.steps))
    assert not record.environment and record.loss_after is None and record.adapter_path is None
    with (store.run_dir("a") / "events.jsonl").open("a") as file:
        file.write(f"{line}\n")
    assert 2 == store.get("a").unreadable_lines


@pytest.mark.parametrize("run_id", ["nothing", "../secrets", "", ".", "a/b", ".new-x"])
def test_a_run_that_is_not_there_is_said_not_to_be(tmp_path, run_id):
    with pytest.raises(RunNotFoundError):
        RunStore(tmp_path).get(run_id)


@pytest.mark.parametrize("path", ["/etc", "a/../../b", ".hidden", "a//b", "~root", "a\\b", "link/deeper", "round"])
def test_a_path_that_leaves_the_folder_of_its_run_is_refused(tmp_path, path):
    store = write(RunStore(tmp_path), "a")
    os.symlink("/", store.run_dir("a") / "link")
    os.symlink("round", store.run_dir("a") / "round")

    with pytest.raises(BadAdapterError, match="not in the run's own folder"):
        store.path("a", path)


def test_the_largest_evaluation_there_can_be_fits_a_line_and_a_long_line_of_another_event_is_not_parsed(monkeypatch):
    lists = {"example_losses": (0.12345678901234567,) * 100_000, "example_tokens": (1000,) * 100_000}
    lists |= {"example_correct_tokens": (1000,) * 100_000, "example_exact_matches": (None,) * 100_000}
    largest = Evaluated(
        time=1.0, when="after", loss=2.5, tokens=10**8, examples=100_000, seconds=1.0, correct_tokens=10**8, **lists
    )
    assert len(line_of(largest)) < MAX_LINE_BYTES
    assert largest == parse_event(line_of(largest))

    monkeypatch.setattr("rankviz.store.journal.json.loads", None)
    for name in ("X", "StepLogged", "RunCancelled"):
        line = b'{"event": "%s", "time": 1.0, "a": [%s{}]}' % (name.encode(), b"{}," * (MAX_SHORT_LINE_BYTES // 3))
        assert parse_event(line) is None


TOGETHER = 8


@pytest.fixture
def cancelled(store):
    """A cancelled run's id."""
    (run_id,) = store.run_ids(store.create(questions.sweep(ranks=(4,))))
    assert store.begin(run_id)
    store.append(run_id, RunCancelled(time=time.time()))
    return run_id


def test_of_many_who_ask_at_once_one_queues_the_run(store, cancelled):
    gate, stores = threading.Barrier(TOGETHER), [RunStore(store.home) for _ in range(TOGETHER)]

    with ThreadPoolExecutor(TOGETHER) as threads:
        answers = list(threads.map(lambda each: gate.wait() < TOGETHER and each.requeue_all([cancelled]), stores))

    assert [False] * (TOGETHER - 1) + [True] == sorted(map(bool, answers))
    assert 1 == (store.run_dir(cancelled) / "events.jsonl").read_text().count("RunRequeued")
    assert (RunState.QUEUED, 2) == (store.get(cancelled).state, store.get(cancelled).attempt)


def test_a_run_that_another_app_has_deleted_is_not_queued_and_nothing_is_added_to_its_sweep(store, cancelled):
    elsewhere = RunStore(store.home)
    request = elsewhere.get(cancelled).request
    remove(store, [cancelled])

    assert not elsewhere.requeue_all([cancelled])
    with pytest.raises(RunNotFoundError):
        elsewhere.add([request], joins=request.sweep_id)

    assert not store.run_dir(cancelled).exists()
    assert [] == store.all() == elsewhere.all()


@pytest.mark.parametrize("names", [(), ("mine.jsonl",)])
def test_a_data_copy_that_was_changed_on_the_disk_or_is_unreadable_is_replaced_by_what_is_given(store, tmp_path, names):
    upload, text = tmp_path / "mine.jsonl", '{"text": "hello"}\n'
    upload.write_text(text)
    kept = store.copy_path(upload)
    durable.copy(upload, kept)
    kept.write_text(text if names else text[:5])

    with failing_reads(store.home, names=names), opened_files(tmp_path) as opened:
        store.create(questions.sweep(ranks=(4,)), data=upload)

    assert 1 == opened.count("mine.jsonl")  # to be copied; its digest is known
    assert text == kept.read_text()
    assert [kept] == list(kept.parent.iterdir())


RANKS = (1, 2, 4, 8)


def ranks_of(store):
    return [record.request.r for record in store.records()]


def names_in(store):
    return sorted(p.name for p in store.runs_dir.iterdir() if p.name.startswith((".new-", ".gone-", ".publishing")))


@pytest.mark.parametrize("after", [0, 2])
def test_a_sweep_whose_app_was_killed_between_two_runs_is_whole_once_the_next_app_starts(store, after, monkeypatch):
    if not (app := os.fork()):
        rename, left = os.rename, iter(range(after))
        os.rename = lambda *paths: os._exit(9) if next(left, None) is None else rename(*paths)
        try:
            store.create(questions.sweep(ranks=RANKS))
        finally:
            os._exit(1)
    assert 9 == os.waitstatus_to_exitcode(os.waitpid(app, 0)[1])
    assert after == len(ranks_of(store))
    with monkeypatch.context() as patch, pytest.raises(OSError, match="again later"):
        patch.setattr(os, "rename", Mock(side_effect=OSError(errno.EIO, "again later")))
        tidy(store)
    for aside in store.runs_dir.glob(".new-*"):
        os.utime(aside, (0, ABANDONED_SECONDS))

    tidy(store)

    assert list(RANKS) == ranks_of(store) == ranks_of(RunStore(store.home))
    assert [] == names_in(store)


@pytest.mark.parametrize("call", ["rename", "replace", "fsync"])
def test_whichever_write_fails_a_sweep_is_queued_as_a_whole_or_not_at_all(store, monkeypatch, call):
    real, left = getattr(os, call), 0

    def fails(*arguments):
        nonlocal left
        left -= 1
        if left == -1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if call == "fsync" and stat.S_ISDIR(os.fstat(*arguments).st_mode):
            raise OSError(errno.EINVAL, "what some network disks answer")
        return real(*arguments)

    monkeypatch.setattr(os, call, fails)
    for left in range(99):  # noqa: B007 - counted down in `fails`
        with contextlib.suppress(OSError):
            store.create(questions.sweep(ranks=RANKS))
            break
        assert [] == ranks_of(RunStore(store.home)) == names_in(store)

    assert left >= 0 and list(RANKS) == ranks_of(RunStore(store.home))


def test_a_sweep_is_deleted_from_a_full_disk():
    with small_disk(1) as folder:
        store = RunStore(folder / "home")
        run_ids = store.run_ids(store.create(questions.sweep(ranks=RANKS)))
        for run_id in run_ids:
            store.append(run_id, RunCancelled(time=1.0))
        fill(folder)

        remove(store, run_ids)

        assert [] == ranks_of(store) == names_in(store)


@pytest.mark.parametrize("text", [b"", b"\n", b".new-gone\nx", b".gone-new\nx", b".gone-new\n", b"\0\xff\n\0"])
def test_a_broken_list_of_what_is_on_its_way_takes_nothing_with_it(store, text):
    store.create(questions.sweep(ranks=RANKS))
    (store.runs_dir / ".publishing").write_bytes(text)

    store.create(questions.sweep(ranks=(16,)))

    assert [*RANKS, 16] == ranks_of(store)
    assert [] == names_in(store)


@pytest.mark.parametrize("owner", ["ann", ""])
def test_a_run_is_whose_sweep_made_it_and_closed_until_its_owner_opens_it(store, owner):
    sweep_id = store.create(questions.sweep(ranks=(4, 8)), owner)
    run_ids = store.run_ids(sweep_id)
    another = RunStore(store.home)
    assert [Ownership(owner, False)] * 2 == [another.ownership(run_id) for run_id in run_ids]

    store.open_to_all(sweep_id, True)
    assert [Ownership(owner, True)] * 2 == [another.ownership(run_id) for run_id in run_ids]
    store.open_to_all(run_ids[0], False)
    assert [False, True] == [another.ownership(run_id).is_open for run_id in run_ids]


def test_an_owner_that_cannot_be_read_is_not_known_and_said_to_be_and_where_there_is_no_file_it_is_the_hosts(store):
    (run_id,) = store.run_ids(store.create(questions.sweep(ranks=(4,)), "ann"))
    file = store.run_dir(run_id) / OWNER_FILE

    for content in ("", "{", "[]", '{"owner": 3, "is_open": true}', '{"owner": "ben"}', "[" * 900, '{"owner":1' * 99):
        file.write_text(content)
        reader = RunStore(store.home)
        assert UNKNOWN == reader.ownership(run_id), content
        assert [run_id] == [record.run_id for record in reader.all()]
        assert {run_id: UNKNOWN_SENTENCE} == reader.unreadable()
    file.unlink()
    assert NO_ONES == store.ownership(run_id)
    file.mkdir()
    assert UNKNOWN == store.ownership(run_id)


def test_it_is_stored_once_it_can_be_and_nobody_else_can_read_it(tmp_path):
    home, keys = tmp_path / "home", ["b" * 64, "a" * 64]
    home.write_text("")  # no folder

    assert not store_key(home, keys)
    home.unlink()
    assert store_key(home, keys)

    assert ["b" * 64, "a" * 64] == keys
    assert "a" * 64 == (home / KEY_FILE).read_text()
    assert 0o600 == stat.S_IMODE((home / KEY_FILE).stat().st_mode)
    for stored, signs in (("a" * 64, "a" * 64), ("c" * MIN_SECRET,) * 2, ("c" * (MIN_SECRET - 1), "b" * 64)):
        (home / KEY_FILE).write_text(stored)
        store_key(home, keys := ["b" * 64])
        assert signs == keys[-1]
