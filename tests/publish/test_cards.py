"""What others wrote is text on a card: no link, no picture, no HTML, no heading."""

from dataclasses import replace

import pytest
from markdown_it import MarkdownIt

from rankviz.core.runs.events import Environment
from rankviz.publish.files import SweepFacts, dataset_card, model_card
from tests.support.runs.finished_runs import plain_sweep

MARKS = (
    "![x](https://evil.example/p.png)",
    "[x](https://evil.example)",
    "<img src=https://evil.example/p>",
    "<https://evil.example>",
    "https://evil.example",
    "www.evil.example",
    "*x* **x** _x_ ~~x~~ `x` | x &lt;b&gt;",
    "x\n\n# x\n\n- x\n\n    x",
)
TABLES = {"runs": "runs.parquet"}


def sweep_of(words):
    """One whose every text is these words, as far as a text may be."""
    everywhere = {name: words for name in Environment.__annotations__} | {"versions": {"torch": words}}
    plain = plain_sweep({4: 2.0, 16: 1.5})
    runs = [replace(run, environment=everywhere, request=replace(run.request, data=words)) for run in plain.runs]
    return SweepFacts(sweep_id="s1", base_model="owner/base", runs=runs, verdict=[words], all_runs=runs)


def cards_of(sweep, targets="q_proj"):
    adapters = [model_card(run, sweep, file_bytes=1, targets=targets) for run in sweep.runs]
    return [dataset_card(sweep, TABLES), *adapters]


def parsed(card):
    """Of its Markdown, below the metadata: its parts, and all its text."""
    blocks = MarkdownIt("gfm-like", {"linkify": False}).parse(card.split("---\n", 2)[2])
    tokens = [each for block in blocks for each in (block, *(block.children or ()))]
    return [each.type for each in tokens if each.type != "text"], "".join(t.content for t in tokens if t.type == "text")


@pytest.mark.parametrize("words", MARKS)
def test_what_others_wrote_is_text_on_a_card_wherever_it_stands(words):
    ordinary = cards_of(sweep_of("x"), targets=["x"])

    for card, like in zip(cards_of(sweep_of(words), targets=[words]), ordinary, strict=True):
        parts, text = parsed(card)
        assert parsed(like)[0] == parts
        assert "".join(words.split()) in "".join(text.split())
        assert "https://" not in text and "www." not in text  # some readers make links of these
