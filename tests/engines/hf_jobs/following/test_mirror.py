"""What comes by the log, by the bucket, or by both, in any order and in part, counts once."""

import json
import threading

import pytest

from rankviz.core.runs.events import Attempt
from rankviz.engines import bundle
from rankviz.engines.bounds import Bounds
from rankviz.engines.hf_jobs.following.lines import Piece
from rankviz.engines.hf_jobs.following.mirror import Mirror
from rankviz.settings import Limits
from rankviz.store.journal import parse_lines

ATTEMPT = Attempt("r4", 1)
STEPS = [
    json.dumps(
        {
            "event": "StepLogged",
            "time": 1.0,
            "step": number,
            "loss": 1.0,
            "learning_rate": 0.1,
            "tokens": 1,
            "seconds": 1.0,
            "memory_bytes": 1,
        }
    ).encode()
    + b"\n"
    for number in (1, 2, 3)
]
SAVED = json.dumps({"event": "AdapterSaved", "time": 1.0, "path": "adapter", "file_bytes": 4}).encode() + b"\n"
DONE = (
    json.dumps(
        {
            "event": "RunCompleted",
            "time": 1.0,
            "train_seconds": 1.0,
            "peak_memory_bytes": 1,
            "peak_memory_kind": "process resident",
        }
    ).encode()
    + b"\n"
)
JOURNAL = b"".join(STEPS)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "runs" / "r4").mkdir(parents=True)
    return tmp_path


def mirror_of(folder):
    return Mirror(folder, [ATTEMPT], Bounds.of(Limits()))


def piece(journal, start, end=None):
    return Piece(ATTEMPT, start, journal[start:end])


def bucket(data):
    return lambda path, offset: data[offset:]


def here(folder):
    return bundle.since(folder, "r4", 0)


def test_what_the_log_says_twice_counts_once(folder):
    mirror = mirror_of(folder)

    for _ in range(2):
        mirror.take(piece(JOURNAL, 0))

    assert JOURNAL == here(folder)


def test_what_came_by_the_log_and_by_the_bucket_counts_once(folder):
    mirror = mirror_of(folder)
    mirror.take(piece(JOURNAL, 0, len(STEPS[0])))

    mirror.fill(bucket(JOURNAL), final=False)
    mirror.take(piece(JOURNAL, len(STEPS[0])))

    assert JOURNAL == here(folder)


def test_a_mirror_of_a_restarted_app_goes_on_where_the_journal_here_ends(folder):
    mirror_of(folder).take(piece(JOURNAL, 0, len(STEPS[0])))

    mirror_of(folder).take(piece(JOURNAL, 0))

    assert JOURNAL == here(folder)


def test_a_line_is_read_once_all_its_pieces_are_here(folder):
    mirror = mirror_of(folder)

    mirror.take(piece(JOURNAL, 0, 30))
    assert b"" == here(folder)
    mirror.take(piece(JOURNAL, 30))

    assert JOURNAL == here(folder)


def test_what_the_log_left_out_is_filled_from_the_bucket(folder):
    mirror = mirror_of(folder)
    mirror.take(piece(JOURNAL, len(STEPS[0])))

    assert mirror.waits
    assert b"" == here(folder)
    mirror.fill(bucket(STEPS[0]), final=False)

    assert JOURNAL == here(folder)
    assert not mirror.waits


def test_a_half_written_file_of_the_bucket_gives_its_whole_lines(folder):
    mirror = mirror_of(folder)

    mirror.fill(bucket(JOURNAL[:-20]), final=False)
    assert b"".join(STEPS[:2]) == here(folder)
    mirror.fill(bucket(JOURNAL), final=False)

    assert JOURNAL == here(folder)


def test_a_file_that_is_read_while_it_is_written_brings_no_line_that_is_none(folder):
    holes = STEPS[0] + b"\0" * 20 + b"\n"
    mirror = mirror_of(folder)

    mirror.fill(bucket(holes), final=False)
    mirror.take(piece(JOURNAL, 0))

    assert JOURNAL == here(folder)


def test_where_a_part_never_comes_the_rest_is_read_from_the_log(folder):
    mirror = mirror_of(folder)
    mirror.take(piece(JOURNAL, 0, len(STEPS[0])))
    mirror.take(piece(JOURNAL, len(STEPS[0] + STEPS[1])))

    mirror.bridge()

    assert [1, 3] == [event.step for event in parse_lines(here(folder))]
    assert len(JOURNAL) == len(here(folder))


def test_an_end_is_held_back_until_its_adapter_is_here_whole(folder):
    mirror, journal = mirror_of(folder), SAVED + DONE
    files = {"runs/r4/adapter/adapter_model.safetensors": 2}
    mirror.take(piece(journal, 0))

    mirror.bring(files, lambda path, target, *_: target.write_bytes(b"12"), logs=False)
    assert not mirror.release(final=False)
    assert SAVED == here(folder)
    files["runs/r4/adapter/adapter_model.safetensors"] = 4
    mirror.bring(files, lambda path, target, *_: target.write_bytes(b"1234"), logs=False)

    assert mirror.release(final=False)
    assert journal == here(folder)


def test_an_end_whose_adapter_never_comes_is_read_at_last_and_the_adapter_is_missing(folder):
    mirror = mirror_of(folder)
    mirror.take(piece(SAVED + DONE, 0))

    assert mirror.release(final=True)

    assert SAVED + DONE == here(folder)
    assert "did not arrive whole" in bundle.missing(folder, "r4")


def test_nothing_is_written_outside_the_folder(folder):
    mirror = mirror_of(folder)
    mirror.take(piece(SAVED + DONE, 0))
    names = ("runs/r4/../../../out", "runs/r4/.hidden", "runs/r5/adapter/a", "out", "runs/r4/events.jsonl")

    mirror.bring(dict.fromkeys(names, 1), lambda path, target, *_: pytest.fail(path), logs=True)


def test_pieces_of_other_runs_and_attempts_are_left_out(folder):
    mirror = mirror_of(folder)

    mirror.take(Piece(Attempt("r4", 2), 0, STEPS[0]))
    mirror.take(Piece(Attempt("r5", 1), 0, STEPS[0]))

    assert b"" == here(folder)


def test_pieces_may_come_in_any_order(folder):
    mirror, size = mirror_of(folder), len(STEPS[0])

    for number in (4, 1, 3, 2, 0):
        mirror.take(piece(STEPS[0] * 5, number * size, (number + 1) * size))

    assert STEPS[0] * 5 == here(folder)


WEIGHTS = "runs/r4/adapter/adapter_model.safetensors"
SECONDS = 600
"""Until another thread has come so far, on a busy machine."""


class Slow:
    """Fetches 4 bytes: the first two, and the others once it may go on."""

    def __init__(self):
        self.begun, self.goes_on = threading.Event(), threading.Event()
        self.fetched = 0

    def __call__(self, path, target, *_):
        self.fetched += 1
        with target.open("wb") as file:
            file.write(b"12")
            file.flush()
            self.begun.set()
            assert self.goes_on.wait(SECONDS)
            file.write(b"34")


@pytest.fixture
def slow():
    fetch = Slow()
    yield fetch
    fetch.goes_on.set()


def bringing(mirror, fetch, *, logs=False):
    thread = threading.Thread(target=mirror.bring, args=({WEIGHTS: 4}, fetch), kwargs={"logs": logs})
    thread.start()
    return thread


def waiting_mirror(folder):
    mirror = mirror_of(folder)
    mirror.take(piece(SAVED + DONE, 0))
    return mirror


def test_while_one_thread_fetches_an_adapter_another_leaves_it_to_that_one(folder, slow):
    mirror = waiting_mirror(folder)
    first = bringing(mirror, slow)
    assert slow.begun.wait(SECONDS)

    mirror.bring({WEIGHTS: 4}, lambda *_: pytest.fail("fetched twice"), logs=False)
    assert not mirror.release(final=False)
    slow.goes_on.set()
    first.join()

    assert b"1234" == (folder / WEIGHTS).read_bytes()
    assert mirror.release(final=False)


def test_who_reads_a_job_to_its_end_waits_for_what_another_thread_fetches(folder, slow):
    mirror = waiting_mirror(folder)
    first = bringing(mirror, slow)
    assert slow.begun.wait(SECONDS)

    last = bringing(mirror, slow, logs=True)
    last.join(0.2)
    assert last.is_alive()
    slow.goes_on.set()
    first.join()
    last.join()

    assert (1, b"1234") == (slow.fetched, (folder / WEIGHTS).read_bytes())


def test_a_mirror_that_was_closed_changes_nothing_while_another_has_its_folder(folder, slow):
    old = waiting_mirror(folder)
    thread = bringing(old, slow)
    assert slow.begun.wait(SECONDS)

    old.close()
    new = waiting_mirror(folder)
    new.bring({WEIGHTS: 4}, lambda path, target, *_: target.write_bytes(b"abcd"), logs=False)
    slow.goes_on.set()
    thread.join()
    old.take(piece(SAVED + DONE, 0))
    old.fill(bucket(JOURNAL), final=True)
    old.bridge()

    assert not old.release(final=True)
    assert ["adapter_model.safetensors"] == [file.name for file in (folder / WEIGHTS).parent.iterdir()]
    assert b"abcd" == (folder / WEIGHTS).read_bytes()
    assert (SAVED, True, SAVED + DONE) == (here(folder), new.release(final=False), here(folder))


def test_what_a_killed_app_fetched_in_part_is_removed(folder):
    left = folder / WEIGHTS
    left.parent.mkdir(parents=True)
    left.with_name(".adapter_model.safetensors.1234abcd.part").write_bytes(b"12")

    waiting_mirror(folder).bring({WEIGHTS: 4}, lambda path, target, *_: target.write_bytes(b"1234"), logs=False)

    assert ["adapter_model.safetensors"] == [file.name for file in left.parent.iterdir()]


@pytest.mark.parametrize("content", [b"", b'{"r": 4, "lora', b"[]"])
def test_an_end_is_held_back_until_the_settings_of_its_adapter_are_here_whole(folder, content):
    mirror, config = waiting_mirror(folder), "runs/r4/adapter/adapter_config.json"
    contents = {WEIGHTS: b"1234", config: content}

    def bring():
        sizes = {path: len(data) for path, data in contents.items()}
        mirror.bring(sizes, lambda path, target, *_: target.write_bytes(contents[path]), logs=False)
        return mirror.release(final=False)

    assert not bring()
    contents[config] = b'{"r": 4, "lora_alpha": 8}'
    assert bring()
