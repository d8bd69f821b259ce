"""How the shipped samples are made, on a dictionary of a few lines."""

from rankviz.worker.assets.samples import parse, syllables

DICTIONARY = """'bout B AW1 T
ab AE1 B
read R EH1 D # past tense
read(2) R IY1 D
syllable S IH1 L AH0 B AH0 L
x-ray EH1 K S R EY2
"""


def test_only_plain_words_in_their_first_pronunciation_are_taken():
    assert {"read": ["R", "EH1", "D"], "syllable": ["S", "IH1", "L", "AH0", "B", "AH0", "L"]} == parse(DICTIONARY)


def test_syllables_are_vowels():
    assert [1, 3] == [syllables(phonemes) for phonemes in parse(DICTIONARY).values()]
