"""What comes of a job is its owner's: nothing of it may be of any length, and what has more fails alone."""

import contextlib
import json
import time
from dataclasses import replace

import pytest

from rankviz.core.runs.events import Attempt, RunCompleted, RunFailed
from rankviz.engines import bounds, bundle
from rankviz.engines.bounds import Bounds
from rankviz.engines.hf_jobs.following import growing, mirror
from rankviz.engines.hf_jobs.following.lines import Piece
from rankviz.engines.hf_jobs.following.mirror import Mirror
from rankviz.errors import EngineUnavailableError
from rankviz.settings import SharedLimits
from rankviz.store.journal import MAX_LINE_BYTES, parse_lines
from tests.engines.hf_jobs.following.test_mirror import DONE, SAVED, STEPS, bucket

ATTEMPTS = [Attempt("r4", 1), Attempt("r8", 1)]
BOUNDS = Bounds(journal_bytes=10**8, journal_lines=10**7, adapter_bytes=1000, job_bytes=2500)
SMALL = Bounds(journal_bytes=10_000, journal_lines=20, adapter_bytes=1000, job_bytes=2500)


@pytest.fixture
def folder(tmp_path):
    for attempt in ATTEMPTS:
        (tmp_path / "runs" / attempt.run_id).mkdir(parents=True)
    return tmp_path


def events(folder, run_id="r4"):
    return parse_lines(bundle.since(folder, run_id, 0))


def failure(folder, run_id="r4"):
    """Of a run that has ended so."""
    last = events(folder, run_id)[-1]
    assert isinstance(last, RunFailed)
    return last.error


def never(*_):
    pytest.fail("it was fetched")


@pytest.mark.parametrize(
    "piece",
    [
        Piece(ATTEMPTS[0], 1_500_000_000, b"x\n"),
        Piece(ATTEMPTS[0], 0, b"x\n" * 21),
        Piece(ATTEMPTS[0], 0, b" " * 10_001),
    ],
    ids=["far away", "many lines", "many bytes"],
)
def test_a_journal_that_is_too_long_fails_its_run_and_no_other(folder, piece):
    brought = Mirror(folder, ATTEMPTS, SMALL)
    brought.take(piece)
    brought.take(Piece(ATTEMPTS[1], 0, STEPS[0]))
    brought.bridge()

    assert "20 lines, 0 MB" in failure(folder)
    assert [1] == [event.step for event in events(folder, "r8")]
    assert (folder / "runs/r4/events.jsonl").stat().st_size < 10_000


def test_a_line_that_is_longer_than_any_can_be_fails_its_run(folder):
    brought = Mirror(folder, ATTEMPTS[:1], BOUNDS)

    brought.fill(lambda path, offset: (b"1" * 10**7)[offset:][: mirror.READ_BYTES], final=True)

    assert f"one line of {MAX_LINE_BYTES // 10**6} MB" in failure(folder)
    assert brought.is_complete


def test_a_journal_of_very_many_short_lines_is_read_in_linear_time(folder):
    journal = b"1\n" * 2_000_000 + STEPS[0]
    begin = time.thread_time()

    Mirror(folder, ATTEMPTS[:1], BOUNDS).fill(bucket(journal), final=True)

    assert len(journal) == (folder / "runs/r4/events.jsonl").stat().st_size
    assert time.thread_time() - begin < 10


def test_a_long_line_in_many_pieces_is_read_in_linear_time(folder):
    brought, begin = Mirror(folder, ATTEMPTS[:1], BOUNDS), time.thread_time()

    for offset in range(0, 3_900_000, 100):
        brought.take(Piece(ATTEMPTS[0], offset, b" " * 100))
    brought.take(Piece(ATTEMPTS[0], 3_900_000, STEPS[0]))

    assert time.thread_time() - begin < 10
    assert 3_900_000 + len(STEPS[0]) == (folder / "runs/r4/events.jsonl").stat().st_size


def test_a_journal_is_filled_to_its_end_where_only_a_part_is_read_at_once(folder, monkeypatch):
    monkeypatch.setattr(mirror, "READ_BYTES", len(STEPS[0]) + 10)
    journal = b"".join(STEPS)

    Mirror(folder, ATTEMPTS[:1], BOUNDS).fill(lambda path, offset: journal[offset:][: mirror.READ_BYTES], final=False)

    assert [1, 2, 3] == [event.step for event in events(folder)]


def test_what_waits_for_what_stands_before_it_has_a_bound_and_its_beginning_is_still_taken(folder, monkeypatch):
    monkeypatch.setattr(growing, "MAX_LATER_BYTES", 4000)
    brought, size = Mirror(folder, ATTEMPTS[:1], BOUNDS), len(STEPS[0])
    for number in range(1, 100):
        brought.take(Piece(ATTEMPTS[0], number * size, STEPS[0]))

    brought.take(Piece(ATTEMPTS[0], 0, STEPS[0]))

    assert 1 < len(events(folder)) < 40


def test_where_a_part_never_comes_no_line_is_longer_than_readers_take(folder):
    brought = Mirror(folder, ATTEMPTS[:1], BOUNDS)
    brought.take(Piece(ATTEMPTS[0], 9_000_000, STEPS[0]))

    brought.bridge()

    journal = (folder / "runs/r4/events.jsonl").read_bytes()
    assert 9_000_000 == journal.index(STEPS[0])
    assert max(map(len, journal.split(b"\n"))) < 2**16


def test_of_a_bucket_only_what_a_journal_names_is_fetched(folder):
    brought = Mirror(folder, ATTEMPTS[:1], BOUNDS)
    brought.take(Piece(ATTEMPTS[0], 0, SAVED + DONE))
    names = ("adapter/a", "adapter/b/c", "junk/a", "cuts/r2/a", "worker.log", "adapter.zip", "adapter/../junk/a")
    fetched = []

    def fetch(path, target, offset, most):
        fetched.append(path)
        target.write_bytes(b"1" * most)

    brought.bring({f"runs/r4/{name}": 3 for name in names}, fetch, logs=False)

    assert ["runs/r4/adapter/a", "runs/r4/adapter/b/c"] == fetched


def test_of_a_log_only_its_end_is_fetched(folder, monkeypatch):
    monkeypatch.setattr(bundle, "LOG_BYTES", 100)
    fetches = []

    def fetch(path, target, offset, most):
        fetches.append((path, offset, most))
        target.write_bytes(b"1" * most)

    for _ in range(2):
        Mirror(folder, ATTEMPTS[:1], BOUNDS).bring({"runs/r4/worker.log": 10**12}, fetch, logs=True)

    assert [("runs/r4/worker.log", 10**12 - 100, 100)] == fetches


@pytest.mark.parametrize(
    "files", [{"adapter/a": 900, "adapter/b": 101}, {f"adapter/{number}": 0 for number in range(2001)}]
)
def test_an_adapter_that_is_too_large_is_not_fetched_and_fails_its_run(folder, files):
    brought = Mirror(folder, ATTEMPTS[:1], BOUNDS)
    brought.take(Piece(ATTEMPTS[0], 0, SAVED + DONE))

    brought.bring({f"runs/r4/{name}": size for name, size in files.items()}, never, logs=False)

    assert f"Its adapters have {len(files):,} files" in failure(folder)
    assert brought.release(final=False)


def test_files_that_never_become_whole_are_not_fetched_for_ever(folder):
    brought, fetched = Mirror(folder, ATTEMPTS[:1], BOUNDS), []
    brought.take(Piece(ATTEMPTS[0], 0, SAVED + DONE))

    def fetch(path, target, offset, most):
        fetched.append(path)
        target.write_bytes(b"1" * (most - 1))

    for _ in range(10):
        brought.bring({"runs/r4/adapter/a": 900}, fetch, logs=False)

    assert 2 == len(fetched)
    assert "more than this server takes of one" in failure(folder)


@pytest.mark.parametrize("error", [EngineUnavailableError("busy"), None], ids=["refused", "listed and not there"])
def test_tries_that_brought_nothing_count_nothing(folder, error):
    brought, tries = Mirror(folder, ATTEMPTS[:1], replace(BOUNDS, job_bytes=10)), []
    brought.take(Piece(ATTEMPTS[0], 0, SAVED + DONE))

    def fetch(path, target, offset, most):
        tries.append(path)
        target.write_bytes(b"1234" if len(tries) == 9 else b"")
        if error and len(tries) < 9:
            raise error

    for _ in range(9):
        with contextlib.suppress(EngineUnavailableError):
            brought.bring({"runs/r4/adapter/adapter_model.safetensors": 4}, fetch, logs=False)

    assert brought.release(final=False)
    assert isinstance(events(folder)[-1], RunCompleted)


def test_what_is_here_already_counts_once(folder):
    brought = Mirror(folder, ATTEMPTS[:1], replace(BOUNDS, job_bytes=1000))
    brought.take(Piece(ATTEMPTS[0], 0, SAVED + DONE))
    contents = {"a": b"1" * 900, "adapter_config.json": b"{", "adapter_model.safetensors": b"1234"}

    def fetch(path, target, *_):
        target.write_bytes(contents[path.rpartition("/")[2]])

    def bring():
        brought.bring({f"runs/r4/adapter/{name}": len(data) for name, data in contents.items()}, fetch, logs=False)
        return brought.release(final=False)

    assert not bring()
    contents["adapter_config.json"] = b"{}"

    assert bring()
    assert isinstance(events(folder)[-1], RunCompleted)


def test_after_a_restart_a_run_that_has_ended_stays_so(folder):
    Mirror(folder, ATTEMPTS[:1], SMALL).take(Piece(ATTEMPTS[0], 10**9, b"x"))
    error = failure(folder)
    again = Mirror(folder, ATTEMPTS[:1], SMALL)

    again.take(Piece(ATTEMPTS[0], 0, STEPS[0] * 9))

    assert again.is_complete
    assert error == failure(folder)


def test_the_bounds_are_those_of_imports_and_adapters():
    shared = Bounds.of(SharedLimits())

    assert Bounds(journal_bytes=50 * 10**6, journal_lines=20_000, adapter_bytes=2 * 10**9, job_bytes=10**10) == shared
    assert len(json.dumps("x" * bounds.EVENT_BYTES)) * shared.journal_lines < shared.journal_bytes
