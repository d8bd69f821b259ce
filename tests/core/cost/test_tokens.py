"""Tokens from characters, worked out by hand with the weights of assumptions.json."""

import pytest

from rankviz.core.cost.setup import characters, token_range
from tests.support.runs.toy import ASSUMPTIONS


def tokens(text, messages=0):
    return token_range(characters(text), messages, ASSUMPTIONS)


def test_every_character_has_one_kind_and_white_space_none():
    counts = characters("Abc 12, 学習 é\n")

    assert {"letter": 2, "capital": 1, "digit": 2, "symbol": 1, "east-asian": 2, "other": 1, "all": 13} == counts


def test_tokens_are_weighted_characters_within_the_measured_range():
    # 2 · 0.25 + 1 · 0.42 + 2 · 1.3 + 1 · 0.66 = 4.18
    english = tokens("Abc 12,")
    assert pytest.approx(4.18) == english.expected
    assert pytest.approx((0.8 * 4.18, 1.6 * 4.18)) == (english.low, english.high)


def test_other_scripts_have_the_wider_range():
    # 2 · 0.88 = 1.76, and 1.1 true tokens for an estimated one
    chinese = tokens("学習")
    assert pytest.approx((0.7 * 1.76, 1.1 * 1.76, 2.8 * 1.76)) == (chinese.low, chinese.expected, chinese.high)


def test_a_chat_template_adds_tokens_to_each_message_and_once_to_the_chat():
    """gpt-oss writes a system message of some 74 tokens before each chat."""
    plain, chat = tokens("abcd"), tokens("abcd", messages=2)

    assert pytest.approx(4 + 2 * 5) == chat.expected - plain.expected
    assert chat.high - plain.high > 74 + 2 * 6


PROSE = (
    "Your order left our warehouse this morning and should arrive within three working days. If the parcel is damaged, "
    "please send us a photo of it before you open it, and we will replace it at no cost."
)
CODE = """def mean(values):
    if not values:
        raise ValueError("mean needs at least one value")
    total = 0.0
    for value in values:
        total += value
    return total / len(values)
"""
ROW = '{"id": 4711, "name": "Toy card", "price": 12.5, "tags": ["new", "sale"], "sold": true}'
GERMAN = "Ihre Bestellung hat unser Lager heute Morgen verlassen und sollte innerhalb von drei Werktagen ankommen."


@pytest.mark.parametrize(
    ("text", "counted"), [(PROSE, (42, 43, 42)), (CODE, (46, 53, 47)), (ROW, (39, 42, 40)), (GERMAN, (25, 31, 36))]
)
def test_counted_texts_are_inside_the_range(text, counted):
    """Counted with the tokenizers of Qwen, Mistral v1 and SmolLM2: vocabularies of 152k, 32k and 49k."""
    estimate = tokens(text)

    assert [] == [true for true in counted if not estimate.holds(true)]
