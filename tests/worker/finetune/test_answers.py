"""Held-out prompts answered greedily: as transformers' own generate answers them, and which answers count as exact."""

import pytest

from rankviz.core.runs.sweep_time import SHOWN_TOKENS
from rankviz.worker.finetune.data import HeldOutQuestion
from tests.support.models.tiny_llama import generated

pytestmark = pytest.mark.torch


def up_to_end(tokens):
    return tokens[: tokens.index(2) + 1] if 2 in tokens else tokens


PROMPTS = [[10 + 7 * i % 300 + j for j in range(length)] for i, length in enumerate((1, 4, 9, 2, 17, 5, 30, 3, 6, 8))]


@pytest.mark.parametrize("cached", [True, False])
def test_greedy_answers_are_those_of_transformers_generate_whatever_is_padded(answering, cached):
    from rankviz.worker.finetune.measure import greedy, inference

    expected = [generated(answering, prompt, 20) for prompt in PROMPTS]

    with inference(answering, None):
        rows = greedy(answering, PROMPTS, 20, {2}, 3, cached=cached)

    assert expected == [up_to_end(row) for row in rows]
    assert 2 <= sum(2 in row for row in expected) < len(PROMPTS)
    assert len({tuple(row) for row in expected}) > 5


@pytest.mark.parametrize("cached", [True, False])
def test_an_answer_is_exact_where_its_text_is_the_references(answering, tokenizer, cached):
    from rankviz.worker.finetune.measure import exact_matches

    own = {place: generated(answering, prompt, 60) for place, prompt in enumerate(PROMPTS)}
    ending = {place: answer for place, answer in own.items() if answer[-1] == 2 and len(answer) > 1}
    right = {place: HeldOutQuestion(PROMPTS[place], answer) for place, answer in ending.items()}
    wrong = {place + 20: HeldOutQuestion(PROMPTS[place], [100, *answer]) for place, answer in ending.items()}

    matches = exact_matches(answering, tokenizer, right | wrong, examples=30, cached=cached)

    assert len(ending) > 2
    assert [1 if i in right else 0 if i in wrong else None for i in range(30)] == list(matches)
    assert answering.training is False


# What is asked


# Shown as text


def shown(count, reference):
    return {place: HeldOutQuestion([10 + 7 * place, 11], [40] * reference) for place in range(count)}


@pytest.mark.parametrize("cached", [True, False])
def test_an_answer_is_the_text_of_the_greedy_tokens_and_says_whether_the_model_ended_it(answering, tokenizer, cached):
    from rankviz.worker.finetune.measure import answers

    questions = shown(6, reference=52)
    expected = {place: generated(answering, each.prompt, 60) for place, each in questions.items()}

    written = answers(answering, tokenizer, questions, cached=cached)

    decoded = {i: tokenizer.decode(expected[i], skip_special_tokens=True).strip() for i in range(6)}
    assert {i: (decoded[i], 2 in expected[i]) for i in range(6)} == written
    assert 0 < sum(ended for _, ended in written.values()) < 6


@pytest.mark.parametrize(("reference", "limit"), [(4, 12), (1000, SHOWN_TOKENS)])
def test_an_answer_ends_a_little_after_the_longest_reference_and_at_its_limit(answering, tokenizer, reference, limit):
    from rankviz.worker.finetune.measure import answers

    progress = []
    options = {"most": SHOWN_TOKENS, "progress": lambda *so_far: progress.append(so_far)}
    answers(answering, tokenizer, shown(1, reference), **options)

    assert {(limit, "tokens")} == {(total, unit) for _, total, unit in progress}
    assert [done for done, _, _ in progress] == list(range(1, len(progress) + 1))


# In a run


def test_every_adapter_of_a_sweep_answers_the_same_prompts_and_the_base_answers_once(swept):
    _, sweep = swept

    evaluated = [each for run in sweep.runs for each in (run.loss_before, run.loss_after, *run.cuts)]
    assert [8] * 9 == [each.answered for each in evaluated]
    assert 1 == len({tuple(match is None for match in each.example_exact_matches) for each in evaluated})
    assert [True, False, False] == [run.loss_before.exact_match_seconds is not None for run in sweep.runs]
    assert all(0 < each.exact_match_seconds for run in sweep.runs for each in (run.loss_after, *run.cuts))
