"""Settings, data and shapes: what is refused, what "auto" stands for, and sums worked out by hand."""

import itertools
from dataclasses import replace

import pytest

from rankviz.api.data import CHARACTERS, token_range
from rankviz.core.cost.notes import truncation
from rankviz.core.cost.setup import LENGTH_SHARES, Device, TrainingData, TrainingSetup, card
from rankviz.core.quantity import Range
from rankviz.dataset.rows import Example
from rankviz.errors import InvalidSettingError
from tests.support.runs.questions import question
from tests.support.runs.toy import ASSUMPTIONS, gpu

AUTO = {"precision": "auto", "optim": "auto", "gradient_checkpointing": "auto", "loss_path": "auto"}
CHATS = TrainingData(examples=5000, mean_tokens=400, longest_tokens=1600, num_train_epochs=3)


@pytest.mark.parametrize(
    ("framework", "device", "settled"),
    [
        ("unsloth", Device(cuda=True), ("nf4-dq", "adamw_8bit", "unsloth", "fused")),
        ("trl", Device(cuda=True), ("nf4-dq", "adamw_8bit", "hf", "fused")),
        ("unsloth", Device(), ("fp32", "adamw_torch", "none", "fused")),
        ("peft", Device(), ("fp32", "adamw_torch", "none", "full")),
    ],
)
def test_auto_is_settled_by_device_and_framework(framework, device, settled):
    setup = TrainingSetup(framework=framework, **AUTO).settle(device)

    assert settled == (setup.precision, setup.optim, setup.gradient_checkpointing, setup.loss_path)


@pytest.mark.parametrize(
    ("changes", "device", "message"),
    [
        ({"precision": "int8"}, Device(), "With unsloth on a CPU, precision must be fp32 or bf16 (got int8)."),
        ({"precision": "bf16"}, card(gpu(name="T4", supports_bf16=False)), "T4 does not support bf16."),
        ({"optim": "paged_adamw_8bit"}, Device(), "With unsloth on a CPU, the optimizer must be adamw_torch or sgd"),
        ({"framework": "trl"}, Device(), "TRL's loss is a Triton kernel, which needs a GPU."),
    ],
)
def test_what_cannot_be_trained_is_refused_with_the_way_out(changes, device, message):
    with pytest.raises(InvalidSettingError) as error:
        TrainingSetup(**{**AUTO, **changes}).settle(device)

    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"ranks": (8, 0)}, "Rank must be a whole number from 1 to 1,024 (got 0)."),
        ({"usd_per_hour": float("nan")}, "The price per hour must be a number from 0 to 1,000,000 (got nan)."),
        (
            {"loss_path": "fused-func", "framework": "trl"},
            "Loss path fused-func exists only in Unsloth. Choose fused or full with framework trl.",
        ),
        (
            {"per_device_train_batch_size": 4096, "max_length": 131_072},
            "Batch 4,096 × length 131,072 is 536,870,912 tokens at once; the limit is 67,108,864. "
            "Lower the batch size or the length.",
        ),
        ({"usd_per_hour": 1_000_001}, "The price per hour must be a number from 0 to 1,000,000 (got 1,000,001)."),
        ({"ranks": ()}, "No rank is given. Give at least one, such as 16."),
        ({"lora_alpha": "2" * 41}, "Alpha must have at most 40 characters (got 41)."),
        ({"data": {"form": "chat"}}, "Form of the data must be one of messages, conversations, prompt-completion,"),
        ({"data": {"traits": ("chat",)}}, "Trait of the data must be one of role, from, user, human, assistant, gpt,"),
        ({"data": {"num_train_epochs": 2}}, "Epochs need the number of examples. Give examples, or steps."),
        ({"data": {"file_name": "../a.csv"}}, "The name of the data's file must be a plain name of at most 200"),
        (
            {"data": {"mean_tokens": 500, "longest_tokens": 400}},
            "The longest example has 400 tokens, fewer than the mean",
        ),
        (
            {"data": {"examples": 5, "num_train_epochs": 2}, "max_steps": 9},
            "Steps and epochs are both given. Give only one",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cant_be_asked_is_said_with_what_to_change(settings, sentence):
    if "data" in settings:
        settings = {**settings, "data": TrainingData(**settings["data"])}

    with pytest.raises(InvalidSettingError) as error:
        question(**settings).validate()

    assert str(error.value).startswith(sentence)


def setup(data=CHATS, **more):
    return TrainingSetup(data=data, **more)


def test_steps_are_full_passes_over_the_examples_rounded_up_unless_steps_or_tokens_are_given():
    endless = replace(CHATS, num_train_epochs=None)

    assert 3 * 625 == setup().total_steps  # 2 × 4 examples a step
    assert 2 * 626 == setup(replace(CHATS, examples=5001, num_train_epochs=2)).total_steps
    assert 313 == setup(replace(CHATS, num_train_epochs=0.5)).total_steps  # 312.5
    assert 1 == setup(replace(CHATS, examples=3, num_train_epochs=1)).total_steps
    assert [60, 10] == [setup(endless, max_steps=60).total_steps, setup(endless, tokens=10 * 8 * 400).total_steps]
    assert setup().has_length and not setup(endless).has_length


def test_padding_costs_nothing_without_it_and_at_most_the_bound_with_it():
    assert Range(400, 400, 400) == CHATS.computed_tokens(2, 2048, padded=False)
    # 1,600 · (1 − 0.75²) = 700, and the middle of 400 and 700
    assert Range(400, 550, 700) == CHATS.computed_tokens(2, 2048, padded=True)
    # truncated: min(x, 1,024) ≥ x · 1,024 / 1,600 for every x up to 1,600
    assert Range(256, 400, 400) == CHATS.computed_tokens(2, 1024, padded=False)
    assert Range(300, 300, 300) == TrainingData(mean_tokens=400).computed_tokens(2, 300, padded=False)
    assert Range(1600, 1600, 1600) == replace(CHATS, mean_tokens=None).computed_tokens(2, 2048, padded=True)
    assert Range(2048, 2048, 2048) == TrainingData(examples=9).computed_tokens(2, 2048, padded=False)
    for mean, longest in itertools.product(range(20, 500, 70), range(500, 1500, 137)):  # one example is not padded
        one = TrainingData(mean_tokens=mean, longest_tokens=longest).computed_tokens(1, 1024, padded=True)
        kept = pytest.approx(mean if longest <= 1024 else mean * 1024 / longest)
        assert (kept, pytest.approx(mean)) == (one.low, one.high)


def test_the_assumed_length_is_an_epoch_where_the_examples_are_known():
    asked = question(data=replace(CHATS, num_train_epochs=None), gpu="L4")
    assumed, sentence = asked.with_assumed_length()

    assert ["", ""] == [replace(asked, gpu=gpu).with_assumed_length()[1] for gpu in (None, "mac-32gb")]
    assert 625 == assumed.training.total_steps
    assert "Time and cost assume 1 epoch: no epochs, steps or tokens were given." == sentence
    assert 1000 == question(data=TrainingData(mean_tokens=400)).with_assumed_length()[0].training.total_steps


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            TrainingData(mean_tokens=400, longest_tokens=8000),
            "truncated, up to 40 % of the examples and 88 % of all tokens; the longest",
        ),
        (
            TrainingData(longest_tokens=2000, lengths=tuple(100 * n for n in range(len(LENGTH_SHARES)))),
            # 100 + 200 + … + 1,000 of 20 steps, of a mean of 1,000
            "truncated, up to 50 % of the examples and 28 % of all tokens; the longest has 2,000.",
        ),
    ],
)
def test_a_note_says_what_is_known_of_truncation(data, words):
    assert words in truncation(TrainingSetup(max_length=1000, data=data))
    assert truncation(TrainingSetup(max_length=8000, data=data)) is None


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("examples", 10**12),
        ("mean_tokens", 4_194_304),
        ("longest_tokens", 4_194_304),
        ("num_train_epochs", 10_000),
        ("gradient_accumulation_steps", 65_536),
        ("per_device_train_batch_size", 4096),
        ("max_length", 4_194_304),
        ("tokens", 10**14),
    ],
)
def test_a_limit_is_taken_and_one_more_is_refused(name, limit):
    def validate(value):
        if name in {"examples", "mean_tokens", "longest_tokens", "num_train_epochs"}:
            TrainingData(**{"examples": 1, name: value}).validate()
        else:
            small = {"per_device_train_batch_size": 1, "max_length": 8, "gradient_accumulation_steps": 1}
            TrainingSetup(**{**small, name: value}).validate()

    validate(limit)
    for wrong in (limit + 1, 0):
        with pytest.raises(InvalidSettingError, match=f"{wrong:,}"):
            validate(wrong)


def test_a_data_file_has_a_plain_name_of_1_to_200_characters():
    for plain in ("a" * 200, "a", "my chats.jsonl"):
        TrainingData(file_name=plain).validate()
    for wrong in ("a" * 201, "", ".", "..", "a/b", "a\\b", "C:a", "a\n"):
        with pytest.raises(InvalidSettingError, match="plain name"):
            TrainingData(file_name=wrong).validate()


def test_shares_of_truncated_examples_and_tokens_are_upper_ends():
    plain = TrainingData(mean_tokens=400, longest_tokens=1600)

    assert (0.5, 0.5) == plain.truncated_shares(800)  # 400 / 800, and (1,600 - 800) / 1,600
    assert (0.2, 0.0) == plain.truncated_shares(2000)
    assert (1.0, 0.75) == plain.truncated_shares(400)
    assert (1.0, 1.0) == TrainingData().truncated_shares(400) == TrainingData(longest_tokens=500).truncated_shares(400)
    measured = replace(plain, lengths=tuple(80 * step for step in range(21)))
    assert (1.0, 1.0) == replace(measured, lengths=(900,) * 21, mean_tokens=90).truncated_shares(800)
    # of 0, 80, ... 1,600 every second is above 800 by 80 to 800: 4,400 / 20 of the mean of 400
    assert (0.5, pytest.approx(220 / 400)) == measured.truncated_shares(800)
    assert (0.5, pytest.approx(220 / 800)) == replace(measured, mean_tokens=None).truncated_shares(800)


def test_lengths_are_mixed_where_examples_differ_and_none_is_truncated():
    batch = {"per_device_train_batch_size": 4, "max_length": 2048}

    assert TrainingSetup(data=CHATS, **batch).mixes_lengths
    assert not TrainingSetup(data=CHATS, **(batch | {"per_device_train_batch_size": 1})).mixes_lengths
    assert not TrainingSetup(data=CHATS, **(batch | {"max_length": 1599})).mixes_lengths
    assert not TrainingSetup(data=replace(CHATS, mean_tokens=1600), **batch).mixes_lengths
    assert TrainingSetup(data=replace(CHATS, longest_tokens=None), **batch).mixes_lengths
    assert [1600, 1536, 64] == [
        TrainingSetup(data=replace(CHATS, longest_tokens=longest)).fitted_length for longest in (1599, 1536, 1)
    ]


def tokens(text, turns=0):
    messages = (("user", text), *[("assistant", "")] * (turns - 1)) if turns else ()
    return token_range([Example(prompt=text, messages=messages)], ASSUMPTIONS)


def test_tokens_are_weighted_characters_within_the_measured_range():
    counts = {name: sum(map(len, kind.findall("Abc 12, 学習 é\n"))) for name, kind in CHARACTERS.items()}
    english, chinese = tokens("Abc 12,"), tokens("学習")

    assert {"letter": 2, "capital": 1, "digit": 2, "symbol": 1, "east-asian": 2, "other": 1} == counts
    # 2 · 0.25 + 1 · 0.42 + 2 · 1.3 + 1 · 0.66 = 4.18
    assert pytest.approx((0.8 * 4.18, 4.18, 1.6 * 4.18)) == (english.low, english.expected, english.high)
    # 2 · 0.88 = 1.76, and 1.1 true tokens for an estimated one
    assert pytest.approx((0.7 * 1.76, 1.1 * 1.76, 2.8 * 1.76)) == (chinese.low, chinese.expected, chinese.high)
    one, two, none = (tokens("Abc 12,", turns).expected for turns in (1, 2, 0))
    assert two - one == pytest.approx(ASSUMPTIONS.value("tokens-per-message"))
    assert one - none == pytest.approx(ASSUMPTIONS.value("tokens-per-message") + ASSUMPTIONS.value("tokens-per-chat"))
