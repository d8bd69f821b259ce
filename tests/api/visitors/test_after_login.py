"""What a visitor made under the cookie of their browser is wholly theirs once they have logged in, also for limits."""

import pytest

from rankviz.core.runs.events import RunCancelled
from rankviz.errors import InvalidSettingError, LimitError
from rankviz.store import export_runs
from rankviz.visitor import Visitor, acting_as
from tests.api.visitors.owned import sweep_of
from tests.api.visitors.test_quota import SMALL
from tests.support.runs import questions
from tests.support.web.visitors import BEN

COOKIE = Visitor("c" * 32)
ALICE = Visitor("hf:1", "alice", also=COOKIE.id)
CARL = Visitor("hf:2", "carl", also=BEN.id)


def cancelled(api, data):
    with acting_as(COOKIE):
        sweep_id = api.runs.start(questions.sweep(**SMALL, data=data))
        (run,) = api.runs.sweep(sweep_id).runs
        api.workspace.store.append(run.run_id, RunCancelled(time=1.0))
    return sweep_id, run


@pytest.fixture
def exported(tmp_path, monkeypatch):
    """exported(api): a zip with a run of BEN's, which COOKIE has uploaded."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "page"))

    def export(api):
        (folder := tmp_path / "page" / "zips").mkdir(parents=True)
        path = export_runs([api.workspace.store], [sweep_of(api, BEN)], folder / "out.zip")
        api.workspace.temp.own(path, COOKIE.id)
        return path

    return export


def test_a_sweep_with_uploaded_data_goes_on(shared, uploaded):
    api = shared()
    sweep_id, run = cancelled(api, uploaded(api, COOKIE, 10))

    with acting_as(ALICE):
        assert 10 == api.runs.preview(run.request.data).rows
        assert [run.run_id] == api.moves.resume(sweep_id)
        added = api.workspace.store.get(api.moves.add(sweep_id, 8))
        assert run.request.data == added.request.data
        assert COOKIE.id == api.workspace.store.ownership(added.run_id).owner
    for other in (CARL, Visitor("hf:1", "alice")):
        with acting_as(other), pytest.raises(InvalidSettingError, match="Upload the file"):
            api.runs.preview(run.request.data)


def test_the_places_in_the_queue_are_of_both(shared):
    api = shared()
    with acting_as(COOKIE):
        api.runs.start(questions.sweep(**SMALL))
    with acting_as(ALICE):
        api.runs.start(questions.sweep(**SMALL))
        with pytest.raises(LimitError, match=r"per visitor \(you have 2\)"):
            api.runs.start(questions.sweep(**SMALL))
