"""The Runs tab of a shared page: one's own sweeps, what publishes them, and what another visitor shares to be read."""

import pytest

from rankviz.api import Api
from rankviz.api.runs import Publication
from rankviz.publish import DATASET, TRACKIO, Destination, Token
from rankviz.ui.parts.sweep import OF_ANOTHER
from rankviz.ui.runs import view as runs_view
from rankviz.visitor import acting_as
from tests.support.runs.finished_runs import finished, text_of
from tests.support.runs.published import trained
from tests.support.web.tabs import drawn
from tests.support.web.visitors import ADMIN, ANN, BEN

TOKEN = "hf_annsOwnToken0123456789"


@pytest.fixture
def api(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_theServersOwnToken0123456789")
    return Api(home=tmp_path, shared=True)


@pytest.fixture
def sweep(api):
    with acting_as(ANN):
        return trained(api)


@pytest.fixture
def started(api, monkeypatch):
    """What was published, instead of publishing it."""
    calls, there = [], Publication(url="https://hub/ann/ranks", updated=False, private=True)
    monkeypatch.setattr(api.runs, "publish", lambda *call, **more: calls.append((*call, more)) or there)
    return calls


def press(api, sweep, *, token=TOKEN):
    form = {"to": DATASET, "place": "ann/ranks", "space": "", "base_model": "", "public": False, "use_login": True}
    return runs_view.publish(api, sweep_id=sweep.sweep_id, run_id="", token=token, **form)


def test_a_shared_page_asks_for_a_token_and_never_uses_the_servers_login(api, sweep, started):
    with acting_as(ANN):
        press(api, sweep, token="")
        view = runs_view.publish_form(api, to=TRACKIO, sweep_id=sweep.sweep_id)

    assert [(None, {"use_login": True})] == [call[2:] for call in started]  # which api.runs refuses there
    assert view.space.visible and not view.base_model.visible and not view.use_login.visible


def test_the_section_is_shown_to_the_owner_alone(api, sweep):
    for visitor, sees in ((ANN, True), (ADMIN, False)):
        with acting_as(visitor):
            assert sees == runs_view.publish_box(api, sweep).visible
    with acting_as(ANN):
        api.runs.open_to_all(sweep.sweep_id, True)
    with acting_as(BEN):
        assert not runs_view.publish_box(api, sweep).visible
    assert not runs_view.publish_box(api, api.runs.recorded()[0]).visible


def test_what_is_typed_is_published_once_and_its_end_is_a_link(api, sweep, started):
    with acting_as(ANN):
        status = press(api, sweep)

    place = Destination(to=DATASET, name="ann/ranks")
    assert "Published (private): ann/ranks" == text_of(status).strip()
    assert 'href="https://hub/ann/ranks"' in status
    assert [(sweep.sweep_id, place, Token(TOKEN), {"use_login": False})] == started


CHANGES = ("resume", "cancel", "add", "ship", "export", "share", "delete")


@pytest.fixture
def anns(api):
    """A finished sweep of Ann's."""
    with acting_as(ANN):
        return finished(api, {4: 2.0, 16: 1.5}).sweep_id


def offered(view):
    """The buttons that are shown."""
    return {name for name in CHANGES if getattr(view, name).visible}


def test_its_owner_is_offered_to_share_export_and_delete_it_and_others_read_a_shared_one_by_its_address(api, anns):
    with acting_as(ANN):
        mine = drawn(api, sweep_id=anns)
        api.runs.open_to_all(anns, True)
    with acting_as(BEN):
        theirs = drawn(api, sweep_id=anns)

    assert ({"add", "export", "share", "delete"}, set()) == (offered(mine), offered(theirs))
    assert (True, False, True) == (anns in mine.table, anns in theirs.table, theirs.sweep_box.visible)
    assert ("", OF_ANOTHER, False) == (mine.owner, text_of(theirs.owner), mine.share.value)
    assert theirs.by_rank


def test_a_run_of_an_unreadable_sweep_is_deleted_with_it_and_says_at_its_address_what_is_wrong(api, anns, tmp_path):
    store = api.workspace.store
    first, second = (run.run_id for run in store.sweep(anns).runs)
    (store.run_dir(first) / "request.json").write_text("{")
    api = Api(home=tmp_path, shared=True)

    with acting_as(ANN):
        assert f"Run '{first}' cannot be read: " in text_of(drawn(api, sweep_id=first).message).replace("&#x27;", "'")
        assert {first, second} == set(api.runs.delete(anns))
        assert {} == api.runs.unreadable()
