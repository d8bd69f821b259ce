"""The token of a login at Hugging Face: no operation writes it down, also not for the process that does its work."""

import json
from dataclasses import asdict, replace

import pytest

from rankviz import children
from rankviz.api import Api
from rankviz.core.runs.request import SweepRequest
from rankviz.publish import Token
from rankviz.visitor import Login, Visitor, acting_as
from tests.api.sinks.publishing import PLACE, everything_below
from tests.api.test_studies import uploaded
from tests.support.engines import hub_stand_in
from tests.support.engines.hub_jobs import only_job, page_on
from tests.support.processes.workers import wait_for
from tests.support.runs.published import trained

TYPED = Token(hub_stand_in.TOKEN)


def logged_in(token="hf_theLoginOfAnn0123456789"):
    return Visitor("hf:1", "alice", also="ann", login=Login(token))


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """What lay on the disk as each child process began, its request with it; filled as they begin."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "home" / "page"))
    seen = []
    run = children.run

    def looked_at(*given, folder, **more):
        assert (folder / children.REQUEST).is_file()
        seen.append(everything_below(tmp_path))
        return run(*given, folder=folder, **more)

    monkeypatch.setattr(children, "run", looked_at)
    return seen


def publish(api, ann, monkeypatch):
    with hub_stand_in.hub_stand_in() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        api.sinks.publish(trained(api).sweep_id, PLACE, TYPED)


def look_at_an_adapter(api, ann, monkeypatch):
    api.adapters.spectrum(trained(api).runs[0].run_id)


def export_and_import(api, ann, monkeypatch):
    sweep_id = trained(api).sweep_id
    zipped = api.runs.zip_of([sweep_id])
    api.workspace.temp.own(zipped, ann.id)
    api.runs.delete(sweep_id)
    api.runs.import_(zipped)


def add_a_study(api, ann, monkeypatch):
    api.studies.add([uploaded(api, ann)])


@pytest.mark.parametrize("operation", [publish, look_at_an_adapter, export_and_import, add_a_study])
def test_no_child_process_gets_the_token_of_a_login_in_a_file(tmp_path, kept, monkeypatch, operation):
    api, ann = Api(home=tmp_path / "home", shared=True), logged_in()

    with acting_as(ann):
        operation(api, ann, monkeypatch)

    assert kept
    assert not any(ann.login.token.encode() in files for files in [*kept, everything_below(tmp_path)])


def test_a_job_that_a_login_pays_for_leaves_its_token_in_no_file(tmp_path, hub):
    alice = logged_in("hf_alice")

    with page_on(hub, tmp_path / "home", shared=True) as shared, acting_as(alice):
        shared.engines.start(SweepRequest(ranks=(4,), seeds=(0,)), "hf-jobs", "l4x1", 5.0)
        wait_for(lambda: hub.jobs)

        assert only_job(hub)
        assert alice.login.token.encode() not in everything_below(tmp_path)


def test_a_visitor_with_a_login_cannot_be_written_as_json():
    ann = logged_in()

    with pytest.raises(TypeError, match="Login"):
        json.dumps(asdict(ann))

    assert ann == Visitor(**json.loads(json.dumps(asdict(replace(ann, login=None)))))
