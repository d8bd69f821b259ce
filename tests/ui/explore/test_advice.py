"""The recommendation in the card: what stands before the details."""

import re

import pytest

from rankviz.api import EMBEDDED, Api
from rankviz.core.advice.use_case import NAMES
from rankviz.ui.explore.answer import words
from rankviz.ui.parts.question import DEFAULTS
from tests.support.runs.finished_runs import text_of


@pytest.fixture
def api(tmp_path):
    return Api(home=tmp_path)


def card(api, **values):
    """What is in view, and what is folded."""
    markup = words(api, {**DEFAULTS, **values})["slots"]["advice"]
    shown, details = markup.split("<details", 1)
    return text_of(shown), text_of(f"<details{details}")


def test_a_warning_is_in_view_in_one_sentence_and_whole_in_the_details(api):
    shown, details = card(api, model="google/gemma-3-4b-it", gpu="t4")

    assert re.search(r"Warning: On T4, which has no bf16, [^.]*fp32\.$", shown)
    assert details.startswith("Details Warnings On T4, which has no bf16")


LONG = {"gpu": "t4", "examples": 5000, "example_tokens": 400, "longest_tokens": 6683}
"""A chat file with an example that is truncated, on a card that some models warn of."""


@pytest.mark.parametrize("use_case", NAMES)
@pytest.mark.parametrize("data", [{}, LONG], ids=["no data", "long examples"])
def test_at_most_three_sentences_stand_before_the_details(api, use_case, data):
    for model in (EMBEDDED, "Qwen/Qwen3-8B", "Qwen/Qwen3-4B", "google/gemma-3-4b-it", "openai/gpt-oss-20b"):
        shown = card(api, model=model, use_case=use_case, **data)[0].split(" all linear layers ")[1]
        assert len(re.findall(r"\.(?= [A-Za-z]|$)", shown)) <= 3, shown
