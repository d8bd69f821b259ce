"""A data file in numbers."""

import json

import pytest


def chat(question, answer):
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_examples_mean_and_longest_are_measured_from_characters(api, tmp_path):
    # "abcd" is 4 · 0.25 = 1 token; the template writes 5 around each of the two messages, and 4 once, at most 100.
    rows = [chat("abcd", "abcd"), chat("abcd", "abcd" * 5)]

    held = api.data.measure(written(tmp_path / "chats.jsonl", rows))

    assert ("chats.jsonl", "messages", 2) == (held.title, held.format, held.examples)
    assert ("user: abcd", "abcd" * 5) == held.first[1]
    assert ((14 + 30) / 2, 30) == (held.mean_characters, held.longest_characters)
    assert pytest.approx(4 + 10 + (2 + 6) / 2) == held.mean_tokens.expected
    assert pytest.approx(4 + 10 + 6) == held.longest_tokens.expected
    assert pytest.approx(100 + 2 * 8 + 1.6 * 6) == held.longest_tokens.high
    assert held.in_words == (
        "chats.jsonl: 2 examples (messages), about 18 tokens (9 to 122) each, the longest about 20 tokens (11 to "
        "126). "
        "Tokens are estimated from characters. The longest example counts as its upper estimate."
    )


def test_an_estimate_takes_the_expected_mean_and_the_upper_end_of_the_longest(api, tmp_path):
    rows = [chat("abcd", "abcd"), chat("abcd", "abcd" * 5)]

    data = api.data.measure(written(tmp_path / "chats.jsonl", rows)).training_data(epochs=3)

    assert (2, 18, 126, 3) == (data.examples, data.mean_tokens, data.longest_tokens, data.epochs)
