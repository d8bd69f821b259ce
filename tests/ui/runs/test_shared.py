"""The Runs tab of a shared page: one's own sweeps, and what another visitor shares, to read only."""

import pytest

from rankviz.api import Api
from rankviz.errors import NotYoursError, RunNotFoundError
from rankviz.ui.parts.sweep import OF_ANOTHER
from rankviz.ui.runs.view import delete
from rankviz.visitor import acting_as
from tests.support.runs.finished_runs import finished, text_of
from tests.support.web.runs_tab import drawn
from tests.support.web.visitors import ANN, BEN

CHANGES = ("resume", "cancel", "add", "ship", "export", "share", "delete")


@pytest.fixture
def api(tmp_path):
    return Api(home=tmp_path, shared=True)


@pytest.fixture
def anns(api):
    """A finished sweep of Ann's."""
    with acting_as(ANN):
        return finished(api, {4: 2.0, 16: 1.5}).sweep_id


def offered(view):
    """The buttons that are shown."""
    return {name for name in CHANGES if getattr(view, name).visible}


def share(api, sweep_id, is_open=True):
    with acting_as(ANN):
        api.runs.open_to_all(sweep_id, is_open)


def test_another_visitors_sweep_is_neither_listed_nor_found_by_its_id(api, anns):
    with acting_as(BEN):
        view = drawn(api, sweep_id=anns)

        assert anns not in view.table
        assert not view.sweep_box.visible
        assert f"No run or sweep '{anns}' here, or its owner does not share it." == text_of(view.message).replace(
            "&#x27;", "'"
        )


def test_its_owner_is_offered_to_share_export_and_delete_it(api, anns):
    with acting_as(ANN):
        view = drawn(api, sweep_id=anns)

    assert anns in view.table
    assert {"add", "export", "share", "delete"} == offered(view)
    assert not view.share.value
    assert "" == view.owner


def test_a_shared_sweep_is_read_by_its_address_and_not_listed(api, anns):
    share(api, anns)

    with acting_as(BEN):
        view = drawn(api, sweep_id=anns)

    assert anns not in view.table
    assert view.sweep_box.visible
    assert set() == offered(view)
    assert OF_ANOTHER == text_of(view.owner)
    assert view.by_rank


def test_another_visitor_cannot_share_or_delete(api, anns):
    with acting_as(BEN):
        for change in (lambda: api.runs.open_to_all(anns, True), lambda: delete(api, anns)):
            with pytest.raises(RunNotFoundError):
                change()
    share(api, anns)
    with acting_as(BEN), pytest.raises(NotYoursError):
        delete(api, anns)


def test_a_run_of_a_sweep_that_cannot_be_read_is_deleted_with_it_and_says_at_its_address_what_is_wrong(
    api, anns, tmp_path
):
    store = api.workspace.store
    first, second = (run.run_id for run in store.sweep(anns).runs)
    (store.run_dir(first) / "request.json").write_text("{")
    api = Api(home=tmp_path, shared=True)

    with acting_as(ANN):
        assert f"Run '{first}' cannot be read: " in text_of(drawn(api, sweep_id=first).message).replace("&#x27;", "'")
        assert {first, second} == set(api.runs.delete(anns))
        assert {} == api.runs.unreadable()
