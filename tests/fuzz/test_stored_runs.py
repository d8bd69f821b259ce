"""Runs that others wrote: what cannot be read is refused or left out, and what is read can be shown."""

import json
import shutil
import tempfile
from functools import cache
from pathlib import Path

import pytest

from rankviz.api import Api
from rankviz.store import RunStore
from tests.attacks.payloads import zip_of
from tests.fuzz import mutate
from tests.fuzz.in_process import InProcess
from tests.fuzz.stored import ROWS, SHOWS, broken_journal, broken_request, request_row, write_run
from tests.support.runs.finished_runs import import_runs


def test_an_imported_zip_is_taken_whole_or_refused(fuzz):
    def make(rng):
        members = {"runs/a/request.json": broken_request(rng, "a", "s"), "runs/a/events.jsonl": broken_journal(rng)}
        members |= {f"runs/b/{name}": data for name, data in _sound("b").items()}
        return mutate.zip_bytes(members, rng) if rng.random() < 0.5 else zip_of(members)

    def read(data):
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / "runs.zip"
            archive.write_bytes(data)
            ids = import_runs(RunStore(Path(folder)), archive)
            assert sorted(ids) == sorted(record.run_id for record in RunStore(Path(folder)).all())

    fuzz(make, read)


@pytest.mark.timeout(3600)  # a minute or two by itself; each case has bounds of its own
@pytest.mark.parametrize("shown", SHOWS)
def test_what_is_stored_is_shown_whatever_it_is(fuzz, shown):
    home = Path(tempfile.mkdtemp())
    api = Api(home=home)
    InProcess.of(api.workspace)
    api.runs.recorded()  # reads what RankViz ships, once

    def make(rng):
        return rng.randrange(10**9), broken_request(rng, "a", "s"), broken_journal(rng)

    def read(case):
        number, request, journal = case
        shutil.rmtree(home / "runs", ignore_errors=True)
        sweep_id, run_id = f"s{number}", f"a{number}"
        request = request.replace(b'"a"', f'"{run_id}"'.encode(), 1).replace(b'"s"', f'"{sweep_id}"'.encode(), 1)
        sound = _sound(f"b{number}", sweep_id)
        write_run(home, run_id, request, journal)
        write_run(home, f"b{number}", sound["request.json"], sound["events.jsonl"])
        SHOWS[shown](api)

    try:
        fuzz(make, read, refuses=False)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@cache
def _sound(run_id, sweep_id="s"):
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    return {"request.json": json.dumps(request_row(run_id, sweep_id, r=4)).encode(), "events.jsonl": lines.encode()}
