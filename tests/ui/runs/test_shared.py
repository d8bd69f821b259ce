"""The Runs tab of a shared page: one's own sweeps, and what another visitor shares, to read only."""

import pytest

from rankviz.api import Api
from rankviz.errors import NotYoursError, RunNotFoundError
from rankviz.ui import page
from rankviz.ui.parts.live import OF_ANOTHER
from rankviz.ui.runs import view as of_sweep
from rankviz.ui.runs.view import ANY_STATE, runs_view
from rankviz.ui.train import tab
from rankviz.ui.train import tab as train
from rankviz.ui.train.tab import TRAIN, TRAIN_ANOTHER, progress
from rankviz.visitor import acting_as
from tests.support.runs import questions
from tests.support.runs.finished_runs import finished, text_of
from tests.support.web.visitors import ADMIN, ANN, BEN

CHANGES = ("resume", "cancel", "add", "ship", "export", "share", "delete")


@pytest.fixture
def api(tmp_path):
    return Api(home=tmp_path, shared=True)


@pytest.fixture
def anns(api):
    """A finished sweep of Ann's."""
    with acting_as(ANN):
        return finished(api, {4: 2.0, 16: 1.5}).sweep_id


def drawn(api, sweep_id, **more):
    texts = {"text": "", "state": ANY_STATE, "x": "adapter", "y": "loss", "run_id": "", "open_id": ""}
    judged = {"metric": "loss", "tolerance": "0.02"}
    return runs_view(
        api, showing="yes", selected=(), sweep_id=sweep_id, **{**texts, **judged, "seen": "", **more}
    ).__dict__


def offered(view):
    """The buttons that are shown."""
    return {name for name in CHANGES if view[name].visible}


def share(api, sweep_id, is_open=True):
    with acting_as(ANN):
        api.runs.open_to_all(sweep_id, is_open)


def test_another_visitors_sweep_is_neither_listed_nor_found_by_its_id(api, anns):
    with acting_as(BEN):
        view = drawn(api, anns)

        assert anns not in view["table"]
        assert not view["sweep_box"].visible
        assert f"No run or sweep '{anns}' here, or its owner does not share it." == text_of(view["message"]).replace(
            "&#x27;", "'"
        )
        assert "" == tab.now(api).line


def test_its_owner_is_offered_to_share_export_and_delete_it(api, anns):
    with acting_as(ANN):
        view = drawn(api, anns)

    assert anns in view["table"]
    assert {"add", "export", "share", "delete"} == offered(view)
    assert not view["share"].value
    assert "" == view["owner"]


def test_a_shared_sweep_is_read_by_its_address_and_not_listed(api, anns):
    share(api, anns)

    with acting_as(BEN):
        view = drawn(api, anns)

    assert anns not in view["table"]
    assert view["sweep_box"].visible
    assert set() == offered(view)
    assert OF_ANOTHER == text_of(view["owner"])
    assert view["by_rank"]


def test_what_is_no_longer_shared_is_gone_for_others(api, anns):
    share(api, anns)
    with acting_as(BEN):
        seen = drawn(api, anns)["seen"]
    share(api, anns, is_open=False)

    with acting_as(BEN):
        assert not drawn(api, anns, seen=seen)["sweep_box"].visible


def test_another_visitor_cannot_share_or_delete(api, anns):
    with acting_as(BEN):
        for change in (lambda: api.runs.open_to_all(anns, True), lambda: of_sweep.delete(api, anns)):
            with pytest.raises(RunNotFoundError):
                change()
    share(api, anns)
    with acting_as(BEN), pytest.raises(NotYoursError):
        of_sweep.delete(api, anns)


def test_the_admin_sees_and_may_change_everything(api, anns):
    with acting_as(ADMIN):
        view = drawn(api, anns)

    assert anns in view["table"]
    assert {"add", "export", "share", "delete"} == offered(view)


def test_one_run_of_a_shared_sweep_is_read_and_not_cancelled(api):
    with acting_as(ANN):
        sweep_id = api.workspace.store.create(questions.sweep(ranks=(4,)), ANN.id)
    run_id = api.workspace.store.sweep(sweep_id).runs[0].run_id
    share(api, sweep_id)

    for visitor, may in ((ANN, True), (BEN, False)):
        with acting_as(visitor):
            view = drawn(api, sweep_id, run_id=run_id)
            assert run_id in view["detail"]
            assert may == view["cancel_run"].visible
            assert may == view["cancel"].visible


def test_train_shows_a_shared_sweep_without_what_would_change_it(api):
    sweep_id = api.workspace.store.create(questions.sweep(ranks=(4,)), ANN.id)
    share(api, sweep_id)

    for visitor, button in ((ANN, TRAIN_ANOTHER), (BEN, TRAIN)):
        with acting_as(visitor):
            shown = progress(api, sweep_id=sweep_id, seen="")
            assert (button, visitor is ANN) == (shown.start.value, shown.cancel.visible)
    with acting_as(BEN):
        assert train.form_of(api, sweep_id) is None
    with acting_as(ANN):
        assert train.form_of(api, sweep_id)


@pytest.fixture
def waiting(api):
    """A sweep of Ann's that waits."""
    return api.workspace.store.create(questions.sweep(ranks=(4,)), ANN.id)


def test_nothing_of_a_stranger_is_taken_by_default(api, anns, waiting):
    with acting_as(ADMIN):
        restored = page.restore(api, {"tab": "train"})
        assert "" == restored.training_sweep
        assert api.runs.recorded()[0].sweep_id == restored.sweep
        assert TRAIN == progress(api, sweep_id="", seen="").start.value
        assert anns not in progress(api, sweep_id="", seen="").status
        own = api.workspace.store.create(questions.sweep(ranks=(8,)), ADMIN.id)
        assert own == page.restore(api, {"tab": "train"}).training_sweep
        assert progress(api, sweep_id=own, seen="").cancel.visible


def test_what_the_admin_cancels_of_another_is_asked_about_first_and_its_owner_reads_who_did_it(api, waiting):
    with acting_as(ADMIN):
        assert not progress(api, sweep_id=waiting, seen="").cancel.visible
        asked, row, words = of_sweep.cancel_or_ask(api, waiting)
        assert (waiting, True) == (asked, row.visible)
        assert f"{waiting} belongs to visitor ann. Cancel it?" == text_of(words)
        assert not api.runs.sweep(waiting).ended
        assert of_sweep.NOT_ASKING == of_sweep.cancel(api, asked)

    with acting_as(ANN):
        assert "1 run cancelled (cancelled by the admin)." in text_of(drawn(api, waiting)["status"])
        assert "cancelled by the admin" in progress(api, sweep_id=waiting, seen="").events


def test_a_run_of_a_sweep_that_cannot_be_read_is_deleted_with_it_and_says_at_its_address_what_is_wrong(
    api, anns, tmp_path
):
    store = api.workspace.store
    first, second = (run.run_id for run in store.sweep(anns).runs)
    (store.run_dir(first) / "request.json").write_text("{")
    api = Api(home=tmp_path, shared=True)

    with acting_as(ANN):
        assert f"Run '{first}' cannot be read: " in text_of(drawn(api, first)["message"]).replace("&#x27;", "'")
        assert {first, second} == set(api.runs.delete(anns))
        assert {} == api.runs.unreadable()


def test_uploads_are_listed_until_their_owner_deletes_them(api, anns, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "page"))
    with acting_as(ANN):
        before = drawn(api, anns)
        path = tmp_path / "page" / "1a" / "chats.jsonl"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x" * 1500)
        api.workspace.temp.own(path, ANN.id)

        view = drawn(api, anns, seen=before["seen"])
        assert (True, "Delete my uploads (1 file, 1.5 kB)") == (view["uploads"].visible, view["uploads"].value)
        assert not of_sweep.delete_uploads(api).visible
        assert not drawn(api, anns, seen=view["seen"])["uploads"].visible
    assert not before["uploads"].visible
    with acting_as(BEN):
        assert not drawn(api, "")["uploads"].visible
