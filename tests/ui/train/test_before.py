"""What stands before the Train button: the data, time and memory here, and what stands in the way."""

import pytest

from rankviz.api import Api
from rankviz.errors import BusyError, LimitError, StorageError
from rankviz.ui.train.form import before_start, trainable
from rankviz.visitor import acting_as
from tests.support.runs.finished_runs import text_of
from tests.support.web.train_form import FORM
from tests.support.web.visitors import ANN


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
    [
        (BusyError("Busy."), True, True),
        (StorageError("Full."), True, False),
        (LimitError("Too large."), False, False),
    ],
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
