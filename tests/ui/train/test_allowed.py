"""What stands before the Train button: what a run may be, its data, time and memory."""

import pytest

from rankviz.api import Api
from rankviz.api.engines import LOG_IN, SET_TOKEN
from rankviz.api.workspace import EMBEDDED
from rankviz.errors import BusyError, InvalidSettingError, LimitError, StorageError
from rankviz.machine import disk
from rankviz.ui.train import form as before
from rankviz.ui.train.form import DEFAULTS, before_start, request_of, trainable
from rankviz.visitor import acting_as
from tests.support.runs.finished_runs import text_of
from tests.support.web.tabs import FORM
from tests.support.web.visitors import ANN

LLAMA = "meta-llama/Llama-3.1-8B"


def test_why_nothing_trains_stands_at_the_top_as_soon_as_it_is_so_and_goes_with_it(tmp_path, monkeypatch):
    api = Api(home=tmp_path, shared=True)
    with acting_as(ANN):
        assert "" == before.before_start(api, **DEFAULTS).trainer
        monkeypatch.setattr(disk, "trouble", lambda folder: disk.FULL_SENTENCE)

        for values in (DEFAULTS, {**DEFAULTS, "learning_rates": "fast"}):
            assert "The disk of this page is full. Try later." == text_of(before.before_start(api, **values).trainer)


@pytest.mark.parametrize("zero", ["true", ""])
def test_where_nothing_trains_here_the_note_names_the_login_that_trains_elsewhere(tmp_path, monkeypatch, zero):
    monkeypatch.setenv("SPACES_ZERO_GPU", zero)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    monkeypatch.setattr("rankviz.installed.has", lambda *libraries: False)
    shared, own = Api(home=tmp_path, shared=True), Api(home=tmp_path / "own", shared=False)

    def note(api):
        return text_of(before.before_start(api, **DEFAULTS).trainer)

    assert SET_TOKEN.partition(",")[0] in note(own)
    with acting_as(ANN):
        assert "Log in" not in note(shared)
        monkeypatch.setattr(before, "login_is_on", lambda: True)
        assert note(shared).endswith(LOG_IN)
        monkeypatch.setattr(disk, "trouble", lambda folder: disk.FULL_SENTENCE)
        assert "Log in" not in note(shared)


@pytest.mark.parametrize(
    ("asked", "limit", "changed"),
    [
        ({"model": LLAMA}, "parameters of the base model", {"model": EMBEDDED}),
        ({"batch": 64, "max_length": 4096}, "tokens per batch", {"batch": DEFAULTS["batch"]}),
    ],
)
def test_train_opens_from_explore_within_the_limits_and_says_which_stood_in_the_way(tmp_path, asked, limit, changed):
    api, values = Api(home=tmp_path, shared=True), {**DEFAULTS, **asked}

    with acting_as(ANN):
        form, replaced = before.trainable(api, values)
        api.runs.expected(request_of(form))

    assert changed.items() <= form.items()
    assert limit in text_of(replaced)


def test_an_uploaded_config_is_said_to_have_no_weights_and_is_never_queued(tmp_path, monkeypatch):
    api, config = Api(home=tmp_path / "home", shared=True), tmp_path / "config.json"
    config.write_text("{}")
    monkeypatch.setattr(api.workspace.references, "_own_upload", lambda *_: True)
    values = {**DEFAULTS, "model": str(config)}

    with acting_as(ANN):
        shown, (form, replaced) = before.before_start(api, **values), before.trainable(api, values)
        with pytest.raises(InvalidSettingError, match="no weights to train"):
            api.runs.start(request_of(values))

    assert "A config.json has no weights to train. Give the base as a Hub id" in text_of(shown.notice)
    assert not shown.start.interactive
    assert EMBEDDED == form["model"]
    assert "no weights to train" in text_of(replaced)
    assert [] == api.workspace.store.records()


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    return Api(home=tmp_path_factory.mktemp("home"))


def test_that_a_run_may_be_ended_before_it_is_done_stands_beside_the_time_and_what_must_be_is_refused(tmp_path):
    api = Api(home=tmp_path, shared=True)
    may, must = ({**FORM, "steps": 200, "accumulation": number} for number in (4, 65_536))

    with acting_as(ANN):
        said, refused = (before_start(api, **form) for form in (may, must))
        form, replaced = trainable(api, must)

    assert " and this server ends it after 20 minutes. Memory: " in text_of(said.expected).replace("\n", " ")
    assert said.start.interactive
    assert text_of(refused.notice).startswith("This server allows at most 20 minutes per run, and one of these takes")
    assert not refused.start.interactive
    assert 1 == form["accumulation"]  # a link that asks for it
    assert "The form has the embedded model SmolLM2-135M-Instruct instead" in text_of(replaced)


@pytest.mark.parametrize(
    ("error", "may_start", "asks_again"),
    [(BusyError("Busy."), True, True), (StorageError("Full."), True, False), (LimitError("Too large."), False, False)],
)
def test_what_may_pass_by_itself_leaves_the_button_on_and_a_busy_server_is_asked_again(
    api, monkeypatch, error, may_start, asks_again
):
    def fails(*arguments):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(api.data, "measure", fails)
        shown = before_start(api, **FORM)

    assert str(error) in text_of(shown.notice)
    assert (may_start, asks_again) == (shown.start.interactive, shown.again.active)
    assert not before_start(api, **FORM).again.active
