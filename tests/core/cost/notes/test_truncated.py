"""How many examples, and which share of the tokens, a maximum length cuts: a range that holds the truth."""

import random

import pytest

from rankviz.core.cost.notes import truncation
from rankviz.core.cost.setup import LENGTH_SHARES, TrainingData, TrainingSetup


def lengths_of(kind, n=400):
    draw = random.Random(kind)
    make = {"long tail": lambda: round(draw.lognormvariate(5, 1.2)) + 1, "even": lambda: draw.randint(1, 4000)}[kind]
    return sorted(make() for _ in range(n))


def measured(lengths, *, with_lengths):
    kept = tuple(lengths[round(share * (len(lengths) - 1))] for share in LENGTH_SHARES) if with_lengths else ()
    mean = round(sum(lengths) / len(lengths))
    return TrainingData(examples=len(lengths), mean_tokens=mean, longest_tokens=lengths[-1], lengths=kept)


@pytest.mark.parametrize("with_lengths", [True, False])
@pytest.mark.parametrize("limit", [64, 256, 1024, 2048])
@pytest.mark.parametrize("kind", ["long tail", "even"])
def test_the_ranges_hold_what_is_cut(kind, limit, with_lengths):
    lengths = lengths_of(kind)
    data = measured(lengths, with_lengths=with_lengths)
    examples = sum(length > limit for length in lengths) / len(lengths)
    tokens = sum(max(0, length - limit) for length in lengths) / sum(lengths)

    of_examples, of_tokens = data.truncated_examples(limit), data.truncated_tokens(limit)

    step = 1 / len(lengths)
    assert of_examples.low - step <= examples <= of_examples.high + step
    assert of_tokens.low - 0.01 <= tokens <= of_tokens.high + 0.01
    if with_lengths:
        assert of_examples.high - of_examples.low < 0.051


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (TrainingData(longest_tokens=8000), "truncated: the longest has 8,000."),
        (
            TrainingData(examples=100, mean_tokens=400, longest_tokens=8000),
            "truncated: up to 40 % of the 100 examples and up to 88 % of all tokens; the longest has 8,000.",
        ),
        (TrainingData(mean_tokens=4000), "truncated: 75 to 100 % of all tokens; the mean is 4,000."),
        (
            TrainingData(mean_tokens=4000, longest_tokens=5000),
            "truncated: 75 to 100 % of the examples and 75 to 80 % of all tokens; the longest has 5,000.",
        ),
    ],
)
def test_it_says_what_is_known(data, words):
    assert words in truncation(TrainingSetup(max_length=1000, data=data))


def test_nothing_is_said_where_nothing_is_cut():
    assert truncation(TrainingSetup(max_length=1000, data=TrainingData(mean_tokens=400, longest_tokens=1000))) is None
