"""What comes by the log, by the bucket, or by both, in any order and in part, counts once."""

import json

import pytest

from rankviz.core.runs.attempts import Attempt
from rankviz.engines import bundle
from rankviz.engines.hf_jobs.bounds import Bounds
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

    assert [1, 3] == [event.step for event in parse_lines(here(folder)).events]
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
