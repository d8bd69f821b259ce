"""A few held-out answers as text: which prompts are answered, how long answers may be, and what they say."""

import pytest

from rankviz.core.runs.sweep_time import SHOWN_TOKENS
from rankviz.dataset import Example
from rankviz.worker.finetune.data import Question, ShownQuestion, SweepData
from tests.support.models.tiny_llama import generated

pytestmark = pytest.mark.torch


def shown(count, reference):
    questions = {place: Question([10 + 7 * place, 11], [40] * reference) for place in range(count)}
    return {place: ShownQuestion(question, f"prompt {place}", "((") for place, question in questions.items()}


@pytest.mark.parametrize("cached", [True, False])
def test_an_answer_is_the_text_of_the_greedy_tokens_and_says_whether_the_model_ended_it(answering, tokenizer, cached):
    from rankviz.worker.finetune.measure import shown_answers

    questions = shown(6, reference=52)
    expected = {place: generated(answering, each.question.prompt, 60) for place, each in questions.items()}

    answers = shown_answers(answering, tokenizer, questions, cached=cached, seconds=3600)

    assert list(range(6)) == [each.place for each in answers]
    assert [tokenizer.decode(expected[i], skip_special_tokens=True).strip() for i in range(6)] == [
        a.text for a in answers
    ]
    assert [2 in expected[i] for i in range(6)] == [each.ended for each in answers]
    assert 0 < sum(each.ended for each in answers) < 6
    assert ("prompt 1", "((") == (answers[1].prompt, answers[1].reference)


@pytest.mark.parametrize(("reference", "most"), [(4, 12), (1000, SHOWN_TOKENS)])
def test_an_answer_ends_a_little_after_the_longest_reference_and_at_its_limit(answering, tokenizer, reference, most):
    from rankviz.worker.finetune.measure import shown_answers

    progress = []
    shown_answers(
        answering, tokenizer, shown(1, reference), seconds=3600, progress=lambda *so_far: progress.append(so_far)
    )

    assert {(most, "tokens")} == {(total, unit) for _, total, unit in progress}
    assert [done for done, _, _ in progress] == list(range(1, len(progress) + 1))


@pytest.mark.parametrize("cached", [True, False])
def test_where_time_is_up_each_answer_still_has_its_first_token(answering, tokenizer, cached):
    from rankviz.worker.finetune.measure import shown_answers

    questions = shown(6, reference=52)

    answers = shown_answers(answering, tokenizer, questions, cached=cached, seconds=0.0)

    first = [tokenizer.decode(generated(answering, questions[i].question.prompt, 1)).strip() for i in range(6)]
    assert first == [each.text for each in answers]
    assert not any(each.ended for each in answers)


class Table:
    """What SweepData needs of a data file."""

    def __init__(self, examples):
        self.examples = examples


def test_the_first_held_out_rows_whose_prompt_fits_are_shown_with_their_own_text(tokenizer):
    chat = (("user", "hello"), ("assistant", "good day"))
    rows = [Example(prompt=f"{i}: ", completion="long " * 40) for i in range(10)]
    rows += [Example(prompt="long " * 40, completion=f"{i}") for i in range(10)]
    rows += [Example(completion=f"text {i}") for i in range(10)] + [Example(messages=chat)]
    data = SweepData(Table(rows), tokenizer, 64, 15)

    found = data.shown_questions(15)

    held_out = [tokenizer.decode(tokens.input_ids) for tokens in data.held_out]
    assert [i for i, text in enumerate(held_out) if ": long" in text or "user" in text] == list(found)
    assert {"long " * 40, "good day"} >= {each.reference for each in found.values()}
    assert list(found)[:2] == list(data.shown_questions(2))
    assert {} == data.shown_questions(0)


def test_data_without_prompts_has_nothing_to_show(tokenizer):
    assert {} == SweepData(Table([Example(completion=f"c{i}") for i in range(8)]), tokenizer, 64, 4).shown_questions(4)
