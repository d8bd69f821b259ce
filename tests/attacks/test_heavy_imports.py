"""Zips within the limits of files, bytes, runs and events, whose lines are long to read, or large to keep."""

import json
import random
import string

import pytest

from rankviz.settings import SHARED_LIMITS
from tests.attacks.payloads import run_files, runs_zip
from tests.attacks.test_imports import added, imported, line, measured
from tests.support.quick import first_quick

VALUES = f"more than {SHARED_LIMITS.values_per_import:,} values together"
KEPT = f"at most {SHARED_LIMITS.record_kb:,},000 are imported"
ANSWER = {"place": 0, "reference": "", "text": "", "ended": True}
TRUNCATED = {"loss": 2.0, "tokens": 9, "examples": 3, "seconds": 1.0, "example_losses": [2.0] * 3}


def one_run(name, events):
    return runs_zip((name, run_files(name, events=events)))


def letters(number, seed):
    """So many, which no packing makes 200 times shorter."""
    return random.Random(seed).choices(string.ascii_letters, k=number)


def events(number, kind, fields):
    """So many more lines of this event, each with the fields of its number."""
    return added(*(json.dumps({"event": kind, "time": 5.0, **fields(each)}) for each in range(number)))


def modules(number):
    """Of which the last line has few, and is the one that is kept."""
    return {"environment": {"target_modules": letters(9990 if number < 150 else 7, number)}}


def versions(number):
    return {"environment": {"versions": dict(enumerate(letters(199, number)))}}


def answers(number):
    return {"when": "after", "seconds": 1, "answers": [ANSWER | {"prompt": each} for each in letters(100, number)]}


LONG_TO_READ = {
    "150 lines of 9,990 modules": lambda name: one_run(name, events(151, "RunStarted", modules)),
    "3,000 lines of 199 versions": lambda name: one_run(name, events(3000, "RunStarted", versions)),
    "2,000 lines of 100 answers": lambda name: one_run(name, events(2000, "Answered", answers)),
    "16 evaluations of 80,000 losses": lambda name: measured(name, 8, example_losses=[2] * 80_000),
    "60 runs of 100,000 matches": lambda name: measured(name, 60, example_exact_matches=[1, 0] * 50_000),
}
LARGE_TO_KEEP = {
    "9,990 modules": line("RunStarted", environment={"target_modules": [f"module_{n}" for n in range(9990)]}),
    "195 texts": line("RunStarted", environment={f"text_{n}": "x" * 1000 for n in range(195)}),
    "1,000 truncations": events(1000, "AdapterCut", lambda number: TRUNCATED | {"r": number + 1}),
}


@pytest.mark.parametrize("much", first_quick(LONG_TO_READ))
def test_a_zip_that_is_long_to_read_brings_nothing(during, ann, name, much):
    """Such were read in seconds by the page itself, which answered nobody meanwhile; verdicts on them took 0.5 GB."""
    data = LONG_TO_READ[much](name)

    answer = during(lambda: imported(ann, data))

    assert VALUES in answer
    assert name not in ann.endpoint("runs").text


@pytest.mark.slow
@pytest.mark.parametrize("much", LARGE_TO_KEEP)
def test_a_run_that_is_large_to_keep_is_not_imported(during, ann, name, much):
    """0.9 MB of the page's memory for each run."""
    data = one_run(name, LARGE_TO_KEEP[much])

    answer = during(lambda: imported(ann, data))

    assert KEPT in answer
    assert name not in ann.endpoint("runs").text


@pytest.mark.slow
def test_a_zip_as_long_as_may_be_keeps_nobody_waiting(during, ann, name):
    data = measured(name, 6, example_losses=[2] * 80_000)

    answer = during(lambda: (imported(ann, data), ann.endpoint("runs").text))

    assert name in answer[1]
