"""What takes a while is worked out beside whoever asks."""

from functools import partial
from threading import Event

import pytest

from rankviz.beside import Beside
from rankviz.errors import LimitError
from rankviz.visitor import acting_as, current
from tests.support.web.visitors import ANN


def test_a_question_that_takes_long_is_answered_later_and_the_newest_of_those_that_wait_counts():
    beside, go, worked = Beside(soon_seconds=0.05), Event(), []

    def work(name):
        worked.append(name)
        go.wait(120)
        return name

    assert [None] * 4 == [
        beside.ask("line", name, partial(work, name)) for name in ("first", "first", "second", "third")
    ]
    beside.soon_seconds = 120
    assert "other" == beside.ask("another line", "other", lambda: "other").get()
    go.set()

    assert "third" == beside.ask("line", "third", partial(work, "third")).get()
    assert ["first", "third"] == worked


def test_an_error_is_an_answer_and_the_question_is_asked_as_its_visitor():
    def refuse():
        raise LimitError(current().id)

    with acting_as(ANN):
        answer = Beside(soon_seconds=120).ask("line", "question", refuse)

    with pytest.raises(LimitError, match=ANN.id):
        answer.get()
