"""How the shipped samples are made, on a dictionary of a few lines."""

import json

from rankviz.core.runs.request import SweepRequest
from rankviz.dataset import read
from rankviz.paths import ASSETS
from rankviz.worker.finetune.data import split
from tools.samples import pair_rows, parse

DICTIONARY = """'bout B AW1 T
ab AE1 B
read R EH1 D # past tense
read(2) R IY1 D
syllable S IH1 L AH0 B AH0 L
x-ray EH1 K S R EY2
"""


def test_only_plain_words_in_their_first_pronunciation_are_taken():
    assert {"read": ["R", "EH1", "D"], "syllable": ["S", "IH1", "L", "AH0", "B", "AH0", "L"]} == parse(DICTIONARY)


def test_the_shipped_pairs_are_those_that_are_made():
    shipped = [json.loads(line) for line in (ASSETS / "data" / "pairs.jsonl").read_text().splitlines()]

    assert pair_rows() == shipped


def test_a_held_out_row_asks_for_a_trained_pair_in_a_wording_that_was_not_trained():
    examples = read("pairs").examples

    training, held_out = split(examples, SweepRequest().held_out_examples)

    trained = [examples[i] for i in training]
    for row in (examples[i] for i in held_out):
        word = row.prompt.split()[-1]
        assert any(word == other.prompt.split()[-1] and row.completion == other.completion for other in trained)
        assert row.prompt not in {other.prompt for other in trained}
