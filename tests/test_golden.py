"""What the command line answers to a fixed set of questions has not moved (`make golden` writes the answers anew)."""

import gzip
import json
import math
from collections.abc import Iterable, Mapping
from itertools import islice, pairwise, zip_longest
from pathlib import Path
from typing import Any

import pytest

from tests.golden.answers import answers
from tests.golden.drawn import COUNT, OTHERWISE, SELDOM_OFTEN, drawn

GOLDEN = Path(__file__).parent / "golden"
RELATIVE = 1e-9
"""Sums may be added up in another order."""
ENOUGH = 20
"""Differences after which no more are looked for."""
UPDATES_RELATIVE = 1e-4
"""Of adapters in fp16 and fp32, factored in whatever way."""


def differences(golden: Any, now: Any, at: str, relative: float = RELATIVE) -> list[str]:
    """Where two answers differ. Keys may be added."""
    if isinstance(golden, dict) and isinstance(now, dict):
        if missing := golden.keys() - now.keys():
            return [f"{at}: no {sorted(missing)}"]
        wide = UPDATES_RELATIVE if "update" in golden else relative
        return [d for key in golden for d in differences(golden[key], now[key], f"{at}.{key}", max(wide, relative))]
    if isinstance(golden, list) and isinstance(now, list):
        if golden and now and all(each == "…" for each in (*golden, *now)):
            return []  # sentences, of which there may be more or fewer
        if len(golden) != len(now):
            return [f"{at}: {len(golden)} entries, now {len(now)}"]
        pairs = enumerate(zip(golden, now, strict=True))
        return [d for place, (a, b) in pairs for d in differences(a, b, f"{at}[{place}]", relative)]
    if isinstance(golden, float) and isinstance(now, float):
        return [] if math.isclose(golden, now, rel_tol=relative, abs_tol=1e-6) else [f"{at}: {golden}, now {now}"]
    return [] if golden == now else [f"{at}: {golden!r}, now {now!r}"]


def moved(file: str, current: Iterable[Mapping[str, Any]], *places: int) -> tuple[list[str], int]:
    """Where a golden file and the current answers differ, and the number of questions. places: first and end."""
    found, count = [], 0
    with gzip.open(GOLDEN / file, "rt", encoding="utf-8") as lines:
        for line, now in zip_longest(islice(lines, *places or (None,)), current):
            golden, count = json.loads(line), count + 1
            assert golden["question"] == now["question"]
            found += differences(golden["answer"], now["answer"], golden["question"])
            if len(found) >= ENOUGH:
                break
    return found, count


def test_no_number_of_the_golden_file_has_moved():
    found, count = moved("answers.jsonl.gz", answers())

    assert [] == found
    assert 2000 < count


# In parts, of which a mutant (benchmarks.mutants) has the time for some.
@pytest.mark.parametrize(("first", "end"), [*pairwise((0, 90, 300, SELDOM_OFTEN, OTHERWISE, COUNT))])
def test_no_number_of_the_drawn_questions_has_moved(first, end):
    assert ([], end - first) == moved("drawn.jsonl.gz", drawn(first, end), first, end)


def test_a_moved_number_is_seen():
    golden = {"ranks": [{"r": 16, "memory": [1.0, 2.0]}], "fit": "fits"}

    assert ["q.ranks[0].memory[1]: 2.0, now 2.1"] == differences(
        golden, {"ranks": [{"r": 16, "memory": [1.0, 2.1]}], "fit": "fits", "new": 1}, "q"
    )
    assert ["q.fit: 'fits', now 'tight'"] == differences({"fit": "fits"}, {"fit": "tight"}, "q")
    assert ["q: no ['fit']"] == differences({"fit": "fits"}, {}, "q")
