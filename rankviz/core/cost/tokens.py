"""Estimates how many tokens a text has, from its characters: for pages and commands that have no tokenizer.

    tokens = letters · a + capitals · b + digits · c + symbols · d + East Asian characters · e + other characters · f

The six weights and how far off they were are rows of assumptions.json, measured with five tokenizers on seven kinds of
ASCII text and eleven languages. A chat template adds some tokens to each message, and some write a
system message of their own before them. Hand-worked in
tests/core/cost/test_tokens.py.
"""

import re
from collections.abc import Mapping

from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.quantity import Range

KINDS = {
    "letter": re.compile(r"[a-z]+"),
    "capital": re.compile(r"[A-Z]+"),
    "digit": re.compile(r"[0-9]+"),
    "symbol": re.compile(r"[!-/:-@\[-`{-~]+"),
    "east-asian": re.compile(r"[\u3000-\u303f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uff00-\uffef]+"),
    "other": re.compile(r"[^\x00-\x7f\u3000-\u303f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uff00-\uffef]+"),
}
"""Kinds of character, white space aside."""
ASCII_SHARE = 0.95
"""Text with at least this share of ASCII characters is taken for English, code or numbers."""


def characters(text: str) -> dict[str, int]:
    """How many characters of each kind a text has, and under "all" how many there are."""
    counts = {name: sum(map(len, pattern.findall(text))) for name, pattern in KINDS.items()}
    return {**counts, "all": len(text)}


def token_range(counts: Mapping[str, int], messages: float, assume: Assumptions) -> Range:
    """Tokens of a text with these counts of `characters`, and of the template around so many messages."""
    expected = sum(counts[kind] * assume.value(f"tokens-per-{kind}") for kind in KINDS)
    foreign = counts["east-asian"] + counts["other"]
    script = "ascii" if foreign <= (1 - ASCII_SHARE) * counts["all"] else "other-scripts"
    text = assume.range(f"tokens-from-characters-{script}").times(expected)
    chat = assume.range("tokens-per-chat").times(min(1.0, messages))
    return text.plus(chat).plus(assume.range("tokens-per-message").times(messages))
