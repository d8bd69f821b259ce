"""What of the runs folder is read for one run, and for one sweep."""

import pytest

from rankviz.api import Api
from rankviz.paths import ASSETS
from tests.support.processes.opened_files import opened_files
from tests.support.runs.finished_runs import finished


@pytest.fixture
def folder(tmp_path):
    """Of two finished sweeps of two runs each."""
    api = Api(home=tmp_path, shared=False)
    for _ in range(2):
        finished(api, {4: 2.0, 16: 1.5})
    return tmp_path


def first_of(folder):
    return min(path.parent.name for path in folder.glob("runs/*/events.jsonl"))


def test_one_sweep_is_found_without_reading_the_journals_of_others_or_of_those_that_ship(folder):
    run_id = first_of(folder)
    sweep_id, api = run_id.rsplit("-", 2)[0], Api(home=folder, shared=False)

    with opened_files(folder / "runs") as opened, opened_files(ASSETS / "recorded") as shipped:
        assert api.runs.is_sweep(sweep_id)
        runs = api.runs.sweep(sweep_id).runs

    assert {run.run_id for run in runs} == {path.split("/")[0] for path in opened if path.endswith("events.jsonl")}
    assert [] == shipped
