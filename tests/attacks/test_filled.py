"""Whoever makes new visitors without end: what all visitors share is filled, and others still find room in it."""

import os
import time

import pytest

from rankviz.store.temp import FRESH_SECONDS
from tests.attacks.payloads import run_files, runs_zip
from tests.attacks.spaces import Space
from tests.attacks.test_imports import imported
from tests.attacks.test_owners import sweeps_of
from tests.attacks.watching import watched
from tests.support.web.stranger import Stranger


@pytest.fixture
def small(tmp_path):
    """A shared app with little room for all visitors together."""
    limits = {"RUNS_IN_TOTAL": 20, "SWEEPS": 4, "DISK_MB": 8}
    with Space(tmp_path, **{f"RANKVIZ_MAX_{name}": str(value) for name, value in limits.items()}) as space:
        yield space


@pytest.mark.slow
def test_imports_of_visitors_without_number_keep_nobody_out(small, name):
    ann, ben = Stranger(small.url), Stranger(small.url)

    def attack():
        for number in range(3):
            ann.become_another()
            runs = [(f"{name}-{number}-{each}", run_files(f"{name}-{number}-{each}", name)) for each in range(10)]
            imported(ann, runs_zip(*runs))

    watched(small, ben, "imports of visitors without number", attack)

    assert "" == ben.press("train-button", train_steps=2).error
    imported(ben, runs_zip((f"{name}-b", run_files(f"{name}-b"))))
    assert f"{name}-b" in sweeps_of(ben)


@pytest.mark.slow
def test_queued_sweeps_of_visitors_without_number_leave_a_place(small, name):
    ann, ben = Stranger(small.url), Stranger(small.url)

    def attack():
        errors = []
        for _ in range(2):
            ann.become_another()
            errors += [ann.press("train-button", train_steps=2).error for _ in range(3)]
        return errors

    errors = watched(small, ben, "queued sweeps of visitors without number", attack)

    assert 4 == errors.count("")
    assert "" == ben.press("train-button", train_steps=2).error
    assert "in total" in ben.press("train-button", train_steps=2).error


def test_uploads_of_visitors_without_number_make_room(small):
    ann, ben = Stranger(small.url), Stranger(small.url)

    def attack():
        for number in range(2):
            ann.become_another()
            path = ann.upload("rows.jsonl", f"{number}".encode() * 950_000)
            os.utime(path, (time.time() - FRESH_SECONDS - 60,) * 2)  # some minutes later

    watched(small, ben, "uploads of visitors without number", attack)

    assert ben.upload("mine.jsonl", b"x" * 500_000)
