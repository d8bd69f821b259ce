"""What the data do to steps, length, time and memory, worked out by hand."""

import itertools
import random
from dataclasses import replace

import pytest

from rankviz.core.cost.estimate import estimate
from rankviz.core.cost.setup import TrainingData, TrainingSetup, pads
from rankviz.core.fit.decide import decide
from rankviz.core.quantity import Range
from rankviz.errors import InvalidSettingError
from tests.support.runs.questions import question
from tests.support.runs.toy import ASSUMPTIONS, TOY, gpu, model

CHATS = TrainingData(examples=5000, mean_tokens=400, longest_tokens=1600, epochs=3)


def setup(data=CHATS, **more):
    return TrainingSetup(data=data, **more)


def answer(data=None, **more):
    return estimate(TOY, question(data=data, target_modules="all-linear", **more), gpu(), ASSUMPTIONS)


def test_steps_are_full_passes_over_the_examples_rounded_up():
    assert 3 * 625 == setup().total_steps  # 2 × 4 examples a step
    assert 2 * 626 == setup(replace(CHATS, examples=5001, epochs=2)).total_steps
    assert 313 == setup(replace(CHATS, epochs=0.5)).total_steps  # 312.5
    assert 1 == setup(replace(CHATS, examples=3, epochs=1)).total_steps


def test_steps_or_tokens_come_before_the_data():
    assert 60 == setup(replace(CHATS, epochs=None), max_steps=60).total_steps
    assert 10 == setup(replace(CHATS, epochs=None), tokens=10 * 8 * 400).total_steps
    assert setup().has_length
    assert not setup(replace(CHATS, epochs=None)).has_length


def test_the_longest_example_sets_the_length_up_to_max_length():
    assert 1600 == setup().fitted_length
    assert 1664 == setup(replace(CHATS, longest_tokens=1601)).fitted_length
    assert 1024 == setup(max_length=1024).fitted_length
    assert 2048 == setup(replace(CHATS, longest_tokens=None)).fitted_length


def test_padding_costs_nothing_without_it_and_at_most_the_bound_with_it():
    assert Range(400, 400, 400) == CHATS.computed_tokens(2, 2048, padded=False)
    # 1,600 · (1 − 0.75²) = 700, and the middle of 400 and 700
    assert Range(400, 550, 700) == CHATS.computed_tokens(2, 2048, padded=True)
    assert Range(400, 400, 400) == CHATS.computed_tokens(1, 2048, padded=True)


def test_one_example_a_batch_is_not_padded_whatever_the_lengths():
    for mean, longest in itertools.product(range(20, 500, 7), range(500, 1500, 37)):
        one = TrainingData(mean_tokens=mean, longest_tokens=longest).computed_tokens(1, 1024, padded=True)
        kept = pytest.approx(mean if longest <= 1024 else mean * 1024 / longest)
        assert (kept, pytest.approx(mean)) == (one.low, one.high)


@pytest.mark.parametrize("batch", [2, 4, 16])
@pytest.mark.parametrize("shape", ["two lengths", "even", "many short"])
def test_real_batches_stay_below_the_bound_of_padding(batch, shape):
    chance = random.Random(1)
    lengths = {
        "two lengths": [1] * 90 + [1000] * 10,
        "even": list(range(1, 1001)),
        "many short": [min(1000, 1 + round(chance.expovariate(1 / 150))) for _ in range(5000)],
    }[shape]
    padded = sum(max(chance.choices(lengths, k=batch)) for _ in range(20_000)) / 20_000
    mean = sum(lengths) / len(lengths)

    bound = TrainingData(mean_tokens=round(mean), longest_tokens=max(lengths)).computed_tokens(batch, 4096, padded=True)

    assert mean - 1 <= padded <= 1.02 * bound.high


def test_truncation_keeps_at_least_the_share_of_the_longest_example():
    # min(x, 1,024) ≥ x · 1,024 / 1,600 for every x up to 1,600
    assert Range(256, 400, 400) == CHATS.computed_tokens(2, 1024, padded=False)
    assert Range(300, 300, 300) == TrainingData(mean_tokens=400).computed_tokens(2, 300, padded=False)


def test_an_unknown_mean_counts_the_longest_example():
    assert Range(1600, 1600, 1600) == replace(CHATS, mean_tokens=None).computed_tokens(2, 2048, padded=True)
    assert Range(2048, 2048, 2048) == TrainingData(examples=9).computed_tokens(2, 2048, padded=False)


def test_unsloth_pads_only_what_it_must():
    assert not pads("unsloth", TOY)
    assert pads("trl", TOY) and pads("peft", TOY)
    for other in (
        {"model_type": "gpt_oss"},
        {"tower": "whole model"},
        {"layer_types": ("linear_attention", "full_attention")},
    ):
        assert pads("unsloth", model(**other))


def test_time_follows_the_mean_and_memory_the_longest_example():
    data = replace(CHATS, mean_tokens=512, longest_tokens=1024, epochs=1)
    of_data = answer(data).ranks[0]

    at_the_mean = answer(max_length=512, max_steps=625).ranks[0]
    at_the_longest = answer(max_length=1024, max_steps=625).ranks[0]
    assert at_the_mean.duration == of_data.duration
    assert at_the_longest.memory == of_data.memory


def test_a_padded_step_takes_from_the_mean_to_the_bound():
    steps = {"framework": "trl", "gradient_checkpointing": "hf", "max_steps": 625}
    lengths = {n: answer(max_length=n, **steps).ranks[0].duration.step for n in (400, 550, 700)}

    step = answer(replace(CHATS, epochs=None), **steps).ranks[0].duration.step

    assert (lengths[400].low, lengths[550].expected, lengths[700].high) == (
        pytest.approx(step.low),
        pytest.approx(step.expected),
        pytest.approx(step.high),
    )


def test_a_question_without_data_answers_as_before_them():
    assert answer(max_steps=5).ranks == answer(TrainingData(), max_steps=5).ranks


def test_the_assumed_length_is_an_epoch_where_the_examples_are_known():
    assumed, sentence = question(data=replace(CHATS, epochs=None)).with_assumed_length()

    assert 625 == assumed.training.total_steps
    assert "Time and cost assume 1 epoch: no epochs, steps or tokens were given." == sentence
    assert 1000 == question(data=TrainingData(mean_tokens=400)).with_assumed_length()[0].training.total_steps


def test_notes_say_what_the_data_set():
    notes = answer(CHATS).notes

    assert "Time is for 400 tokens per example: Unsloth trains without padding." in notes
    assert "Memory is for batches of the longest example: 1,600 tokens instead of the maximum length of 2,048." in notes
    assert (
        "Examples above the maximum length of 1,024 tokens are truncated: up to 40 % of the 5,000 examples and up to "
        "36 % of all tokens; the longest has 1,600. To learn them whole, raise the maximum length, which needs more "
        "memory, or split them." in answer(CHATS, max_length=1024).notes
    )
    upper = replace(CHATS, longest_is_upper=True)
    assert any("the longest may have up to 1,600" in note for note in answer(upper, max_length=1024).notes)
    assert any("mean length of the examples is not known" in note for note in answer(TrainingData(examples=9)).notes)


def test_what_fits_is_priced_for_the_same_examples():
    long = replace(CHATS, mean_tokens=1000, epochs=1)

    knobs = {knob.label: knob for knob in decide(TOY, question(data=long), gpu(), [gpu()], ASSUMPTIONS).knobs}

    assert not any(label.startswith("twice the length") for label in knobs)  # no example is that long
    halved = knobs["half the length, 800 tokens per example"]
    assert halved.device_bytes < 0
    # As many steps, of 800 tokens an example instead of 1,000.
    before, after = (estimate(TOY, question(data=long, max_length=n), gpu(), ASSUMPTIONS).ranks[0] for n in (2048, 800))
    assert pytest.approx(625 * (after.duration.step.expected - before.duration.step.expected)) == halved.seconds


def test_the_longest_length_that_fits_is_not_that_of_the_data():
    card = gpu(usable_bytes=4 * 2**30)
    with_data = decide(TOY, question(data=CHATS), card, [card], ASSUMPTIONS).limits[-1]
    without = decide(TOY, question(), card, [card], ASSUMPTIONS).limits[-1]

    assert without.expected < without.ceiling
    assert without == with_data


@pytest.mark.parametrize(
    ("data", "more", "sentence"),
    [
        ({"file_name": "../a.csv"}, {}, "The name of the data's file must be a plain name of at most 200 characters."),
        ({"examples": 0}, {}, "Examples must be a whole number from 1 to 1,000,000,000,000 (got 0)."),
        ({"mean_tokens": 1.5}, {}, "Tokens per example must be a whole number from 1 to 4,194,304 (got 1.5)."),
        ({"longest_tokens": "x"}, {}, "Longest example must be a whole number from 1 to 4,194,304 (got 'x')."),
        ({"examples": 5, "epochs": 0}, {}, "Epochs must be a number above 0 and at most 10,000 (got 0)."),
        ({"epochs": 2}, {}, "Epochs need the number of examples. Give examples, or steps."),
        (
            {"mean_tokens": 500, "longest_tokens": 400},
            {},
            "The longest example has 400 tokens, fewer than the mean of 500. Raise the longest example or lower the "
            "tokens per example.",
        ),
        ({"examples": 5, "epochs": 2}, {"max_steps": 9}, "Steps and epochs are both given. Give only one of them."),
        ({"examples": 5, "epochs": 2}, {"tokens": 9}, "Tokens and epochs are both given. Give only one of them."),
    ],
)
def test_impossible_data_are_refused_with_what_to_change(data, more, sentence):
    with pytest.raises(InvalidSettingError) as error:
        question(data=TrainingData(**data), **more).validate()

    assert sentence == str(error.value)
