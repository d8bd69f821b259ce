"""What stands before the Train button: the data, time and memory here, and what stands in the way."""

import pytest

from rankviz.api import Api
from rankviz.errors import BusyError, LimitError, StorageError, WorkerError
from rankviz.ui.train.form import before_start, preview, trainable
from rankviz.visitor import acting_as
from tests.support.runs.finished_runs import text_of
from tests.support.web.train_form import FORM
from tests.support.web.visitors import ANN

HUGE = "meta-llama/Llama-3.1-405B"


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    return Api(home=tmp_path_factory.mktemp("home"))


def test_the_preview_shows_three_rows_and_counts(api):
    shown = text_of(preview(api, data="phonemes", file=None, kept="").preview)

    assert "4,000 examples" in shown
    assert 3 == shown.count("Pronounce ")


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
    [
        (BusyError("Busy."), True, True),
        (WorkerError("Killed."), True, False),
        (StorageError("Full."), True, False),
        (LimitError("Too large."), False, False),
    ],
)
@pytest.mark.parametrize(("part", "name"), [("models", "get"), ("data", "measure")])
def test_what_may_pass_by_itself_leaves_the_button_on_and_a_busy_server_is_asked_again(
    api, monkeypatch, part, name, error, may_start, asks_again
):
    def fails(*arguments):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(getattr(api, part), name, fails)
        shown = before_start(api, **FORM)

    assert str(error) in text_of(shown.notice)
    assert (may_start, asks_again) == (shown.start.interactive, shown.again.active)
    assert not before_start(api, **FORM).again.active


def test_a_base_that_cannot_be_trained_here_is_replaced_at_once_with_the_reason(api, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    values = {**FORM, "model": HUGE}

    form, replaced = trainable(api, values)

    assert ("embedded", values["data"], values["steps"]) == (form["model"], form["data"], form["steps"])
    assert "Llama-3.1-405B cannot be trained here now" in replaced
    assert "The form has the embedded model SmolLM2-135M-Instruct instead" in replaced


def test_a_form_that_can_be_trained_here_stays_as_it_is(api):
    assert (FORM, "") == trainable(api, FORM)
