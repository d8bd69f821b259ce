"""How rows become tokens, what is held out, what "auto" comes to, and how loss and memory are measured."""

import random
from types import SimpleNamespace

import pytest

from rankviz.dataset import Example
from rankviz.worker.device import settle
from rankviz.worker.finetune.data import IGNORED, SweepData, Tokens, split, tokenize
from rankviz.worker.finetune.training import build_trainer
from tests.support.runs import questions

pytestmark = pytest.mark.torch


def learned(tokens: Tokens, tokenizer) -> str:
    return tokenizer.decode([label for label in tokens.labels if label != IGNORED])


def test_of_a_chat_the_assistants_turns_are_learned_as_the_template_writes_them(tokenizer):
    chat = (("system", "S"), ("user", "u1"), ("assistant", "a1"), ("user", "u2"), ("assistant", "a2"))

    tokens = tokenize(Example(messages=chat), tokenizer, 256)

    assert "a1<|im_end|>a2<|im_end|>" == learned(tokens, tokenizer)
    assert tokenizer.decode(tokens.input_ids).startswith("<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nu1")


def rows(count: int) -> list[Example]:
    return [Example(prompt=f"{i}:", completion=f" {i}") for i in range(count)]


def test_the_split_is_the_same_every_time_and_has_no_row_on_both_sides():
    training, held_out = split(rows(100), 30)

    assert (training, held_out) == split(rows(100), 30)
    assert 30 == len(held_out)
    assert list(range(100)) == sorted(training + held_out)


def shuffled_rows(data, seed, count):
    """The definition of the order, all at once."""
    chance, order = random.Random(seed), []
    while len(order) < count:
        epoch = list(data.training)
        chance.shuffle(epoch)
        order += epoch
    return [tokenize(data.dataset.examples[i], data.tokenizer, data.max_length) for i in order[:count]]


@pytest.mark.parametrize(("seed", "count", "skip"), [(1, 8, 0), (7, 11, 19)])
def test_rows_are_in_an_order_that_each_epoch_is_shuffled_into(tokenizer, seed, count, skip):
    data = SweepData(SimpleNamespace(examples=rows(12)), tokenizer, 64, 4)

    assert shuffled_rows(data, seed, skip + count)[skip:] == data.in_order(seed, count, skip=skip)


@pytest.mark.parametrize("length", [3, 30])
def test_the_trainer_meets_each_row_once_in_its_order(tokenizer, tiny, tmp_path, length):
    from transformers import AutoModelForCausalLM

    data = SweepData(SimpleNamespace(examples=rows(12)), tokenizer, 64, 4)
    asked = request(per_device_train_batch_size=1, gradient_accumulation_steps=1, max_steps=length)
    drawn = data.in_order(1, length)

    trainer = build_trainer(
        AutoModelForCausalLM.from_pretrained(tiny),
        tokenizer,
        drawn,
        asked,
        settle(asked.training, cuda=False),
        str(tmp_path),
        [],
        plain=True,
    )
    batches = list(trainer.get_train_dataloader())

    expected = shuffled_rows(data, 1, length)
    for name in ("input_ids", "labels"):
        assert [[getattr(row, name)] for row in expected] == [batch[name].tolist() for batch in batches]


def request(**settings):
    return questions.sweep(ranks=(8,), **settings).runs(sweep_id="s", created_at=0.0)[0]


def test_the_held_out_loss_is_transformers_own(tiny, tokenizer):
    import torch
    from transformers import AutoModelForCausalLM

    from rankviz.worker.finetune.measure import evaluate

    model = AutoModelForCausalLM.from_pretrained(tiny)
    examples = [tokenize(Example(prompt="p" * n, completion="c" * (2 * n)), tokenizer, 64) for n in (3, 1, 9)]
    alone = [
        model(input_ids=torch.tensor([t.input_ids]), labels=torch.tensor([t.labels])).loss.item() for t in examples
    ]

    result = evaluate(model, examples, when="before", pad_token_id=3)

    assert pytest.approx(alone, abs=1e-5) == list(result.example_losses)
    assert 7 + 3 + 19 == result.tokens
    assert pytest.approx((7 * alone[0] + 3 * alone[1] + 19 * alone[2]) / 29, abs=1e-5) == result.loss
    assert model.training is False


def test_a_token_is_correct_where_transformers_gives_it_the_highest_logit(tiny, tokenizer):
    import torch
    from transformers import AutoModelForCausalLM

    from rankviz.worker.finetune.measure import evaluate

    model = AutoModelForCausalLM.from_pretrained(tiny)
    prompts = [tokenizer.encode(text) for text in ("abc", "x", "hello there")]
    rows = []
    for prompt in prompts:
        # Two tokens that the model itself would choose, one that it would not.
        first = model(torch.tensor([prompt])).logits[0, -1].argmax().item()
        second = model(torch.tensor([[*prompt, first]])).logits[0, -1].argmax().item()
        third = model(torch.tensor([[*prompt, first, second]])).logits[0, -1].argmin().item()
        rows.append(Tokens([*prompt, first, second, third], [IGNORED] * len(prompt) + [first, second, third]))
    rows.append(Tokens(rows[0].input_ids[:4], rows[0].labels[:4]))

    result = evaluate(model, rows, when="after", pad_token_id=3)

    assert (3, 3, 3, 1) == result.example_tokens
    assert (2, 2, 2, 1) == result.example_correct_tokens
    assert 7 == result.correct_tokens
    assert 0.7 == result.token_accuracy
