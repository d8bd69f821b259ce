"""Held-out prompts answered greedily: as transformers' own generate answers each alone, and which count as exact."""

import pytest

from rankviz.worker.finetune.data import HeldOutQuestion
from tests.support.models.tiny_llama import generated

pytestmark = pytest.mark.torch

PROMPTS = [[10 + 7 * i % 300 + j for j in range(length)] for i, length in enumerate((1, 4, 9, 2, 17, 5, 30, 3, 6, 8))]


@pytest.mark.parametrize("reference", [4, 52])
def test_an_answer_is_the_greedy_text_whatever_is_padded_and_says_whether_the_model_ended_it(
    answering, tokenizer, monkeypatch, reference
):
    """It ends a few tokens after its reference at the latest, and no setting of the checkpoint changes it."""
    from rankviz.worker.finetune.measure import answers

    expected = [generated(answering, prompt, reference + 8) for prompt in PROMPTS]
    questions = {i: HeldOutQuestion(prompt, [40] * reference) for i, prompt in enumerate(PROMPTS)}
    monkeypatch.setattr(answering.generation_config, "repetition_penalty", 1.5)

    written = answers(answering, tokenizer, questions)

    texts = [tokenizer.decode(tokens, skip_special_tokens=True).strip() for tokens in expected]
    assert {i: (text, 2 in expected[i]) for i, text in enumerate(texts)} == written
    assert len(set(texts)) > 5
    assert sum(2 in tokens for tokens in expected) < len(PROMPTS)
    at_once = answers(answering, tokenizer, questions, seconds=0.0)
    assert [tokenizer.decode(tokens[:1], skip_special_tokens=True).strip() for tokens in expected] == [
        at_once[i][0] for i in questions
    ]


def test_an_answer_is_exact_where_its_text_is_the_references(answering, tokenizer):
    from rankviz.worker.finetune.measure import exact_matches

    own = {place: generated(answering, prompt, 60) for place, prompt in enumerate(PROMPTS)}
    ending = {place: answer for place, answer in own.items() if answer[-1] == 2 and len(answer) > 1}
    right = {place: HeldOutQuestion(PROMPTS[place], answer) for place, answer in ending.items()}
    wrong = {place + 20: HeldOutQuestion(PROMPTS[place], [100, *answer]) for place, answer in ending.items()}

    matches = exact_matches(answering, tokenizer, right | wrong, examples=30)

    assert len(ending) > 2
    assert [1 if i in right else 0 if i in wrong else None for i in range(30)] == list(matches)
    assert answering.training is False


def test_every_adapter_of_a_sweep_answers_the_same_prompts_and_the_base_answers_once(swept):
    _, sweep = swept

    evaluated = [each for run in sweep.runs for each in (run.loss_before, run.loss_after, *run.cuts)]
    assert [8] * 9 == [each.answered for each in evaluated]
    assert 1 == len({tuple(match is None for match in each.example_exact_matches) for each in evaluated})
    assert [False, True, True] == [run.loss_before.reused for run in sweep.runs]
    assert [True, False, False] == [run.loss_before.exact_match_seconds is not None for run in sweep.runs]
