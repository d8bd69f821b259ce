"""The answers before and after training, as a run's record shows them."""

from rankviz.core.runs.events import MAX_ANSWER_CHARACTERS, Answered, GreedyAnswer
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.request import MAX_SHOWN_ANSWERS
from tests.support.runs import questions


def answer(place, text, prompt="p", ended=True):
    return GreedyAnswer(place=place, prompt=prompt, reference="ref", text=text, ended=ended)


def answered(when, *answers):
    return Answered(time=1.0, when=when, answers=answers, seconds=2.0)


def record(*events):
    return RunRecord(request=questions.run()).after_all(events)


def test_answers_before_and_after_stand_side_by_side_by_place():
    run = record(
        answered("before", answer(3, "b3"), answer(1, "b1")), answered("after", answer(1, "a1"), answer(3, "a3"))
    )

    assert [(1, "b1", "a1"), (3, "b3", "a3")] == [
        (each.place, each.before.text, each.after.text) for each in run.answers
    ]
    assert ("p", "ref") == (run.answers[0].prompt, run.answers[0].reference)


def test_what_was_not_answered_is_none():
    assert (None,) == tuple(each.after for each in record(answered("before", answer(0, "b"))).answers)
    assert (None,) == tuple(each.before for each in record(answered("after", answer(0, "a"))).answers)
    assert () == record().answers


def test_answers_from_elsewhere_are_bounded_and_can_be_shown():
    many = tuple(answer(i, "x" * 5000, prompt="half \ud83d of a pair") for i in range(MAX_SHOWN_ANSWERS + 5))

    shown = record(answered("after", *many)).answers

    assert MAX_SHOWN_ANSWERS == len(shown)
    assert MAX_ANSWER_CHARACTERS == len(shown[0].after.text)
    assert "half ? of a pair" == shown[0].prompt
