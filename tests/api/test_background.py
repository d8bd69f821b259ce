"""What takes a while is worked out in the background for whoever asks."""

from functools import partial
from threading import Event

import pytest

from rankviz.background import Background
from rankviz.errors import LimitError
from rankviz.visitor import acting_as, current
from tests.support.processes.workers import wait_for
from tests.support.web.visitors import ANN


def test_a_question_that_takes_long_is_answered_later_and_the_next_of_its_line_after_it():
    background, go, worked = Background(soon_seconds=0.05), Event(), []

    def work(name):
        worked.append(name)
        go.wait(600)
        return name

    def ask(name):
        return background.ask("line", name, partial(work, name))

    assert ask("first") is None
    wait_for(lambda: worked)
    assert [None] * 2 == [ask(name) for name in ("first", "second")]
    background.soon_seconds = 60
    assert "other" == background.ask("another line", "other", lambda: "other").result()
    go.set()

    assert "second" == ask("second").result()
    assert ["first", "second"] == worked


def test_an_error_is_an_answer_and_the_question_is_asked_as_its_visitor():
    def refuse():
        raise LimitError(current().id)

    with acting_as(ANN):
        answer = Background(soon_seconds=120).ask("line", "question", refuse)

    with pytest.raises(LimitError, match=ANN.id):
        answer.result()
