"""The tables of docs/security.md are made from what the commands counted."""

import contextlib
import json
import re

import pytest

from benchmarks import load
from rankviz import children, errors
from rankviz.api.adapters import MANY_MODULES
from rankviz.api.verdicts import MANY_NUMBERS
from rankviz.settings import SHARED_LIMITS
from rankviz.shared import gate
from rankviz.trained import files
from rankviz.ui import blocks
from tests import withstood
from tests.attacks import test_adapters, test_imports, test_questions, test_requests
from tests.test_load import a_space

COUNTS = [
    {"reader": "tests/fuzz/test_a.py::test_a_zip", "result": 3, "refused": 7},
    {"reader": "tests/fuzz/test_a.py::test_an_endpoint[fit]", "result": 1000},
    {"reader": "tests/fuzz/test_a.py::test_an_endpoint[run]", "result": 200, "refused": 30},
]
TRIED = [
    {"attack": "test_a_bomb[a]", "slowest_seconds": 0.25, "grown_mb": -3.0, "child_mb": 90.4},
    {"attack": "test_a_bomb[b]", "slowest_seconds": 0.5, "grown_mb": -1.0, "child_mb": 0.0},
]


def test_the_readers_have_a_sum():
    assert ["| 2 readers | 1,240 | 1,203 | 37 |"] == withstood.fuzz(COUNTS).splitlines()[2:]


def test_an_attack_has_one_row_with_the_worst_of_its_variants_where_it_is_worth_one():
    small = {"attack": "test_small", "slowest_seconds": 0.1, "grown_mb": 1.0, "child_mb": 99.0}

    assert [
        "| A bomb | 2 | 0.50 s | 0 MB | 90 MB |",
        "| The worst of all 2 attacks | 3 | 0.50 s | 1 MB | 99 MB |",
    ] == withstood.attacks([*TRIED, small]).splitlines()[2:]


LOADED = {"requests": 5907, "questions": 2200, "errors": 0, "numbers_ms": 90.2, "pictures_ms": 82.0, "arrival_ms": 23.0}
LOADED |= {"memory_mb": 56.4, "growth_mb": 2.1}
PAGES = {"load": load.OPEN_PAGES, "errors": 0, "page_mb": 0.012}


def test_the_load_is_a_row_a_figure_beside_what_is_to_be_reached():
    beside = {"load": load.BESIDE, **LOADED, "numbers_ms": 1011.0, "steps": 6514}

    lines = withstood.load([{"load": load.ALONE, **LOADED}, PAGES, beside]).splitlines()[2:]

    assert "| Numbers, p95 | 90 ms | 400 ms | 1,011 ms | 1,000 ms |" in lines
    assert "| Growth over the second half | 2 MB | 10 MB | 2 MB | 10 MB |" in lines
    assert [
        "| A page that is left open | 0.01 MB | 0.20 MB |  |  |",
        "| Steps of the training |  |  | 6,514 |  |",
    ] == lines[-2:]


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({"errors": 1}, "alone: errors is 1, to reach: 0."),
        ({"numbers_ms": 400.5}, "alone: numbers_ms is 400.5, to reach: 400."),
        ({"pictures_ms": None}, "alone: pictures_ms was not measured."),
        ({"memory_mb": 149.9, "growth_mb": 74.9}, "alone: growth_mb is 74.9, to reach: 10."),
    ],
)
def test_the_load_fails_where_something_is_not_reached_and_its_report_is_kept(monkeypatch, tmp_path, figures, said):
    async def crowd(*_):
        return LOADED | figures

    monkeypatch.setattr(load, "Space", lambda *_, **__: contextlib.nullcontext(a_space(iter([200]))))
    monkeypatch.setattr(load, "crowd", crowd)
    report = tmp_path / "load.jsonl"
    monkeypatch.setattr("sys.argv", ["load", "--only", "alone", "--report", str(report)])

    with pytest.raises(SystemExit, match=re.escape(said)):
        load.main()

    assert {"load": load.ALONE, **LOADED, **figures}.items() <= json.loads(report.read_text()).items()


SAID = [
    f"({len(test_adapters.PATTERNS)} patterns in {len(test_adapters.FIELDS)} fields)",
    f"have at most {files.MAX_NAME} characters, and no message has more than {errors.LONGEST:,} ",
    f"An adapter of {test_adapters.MODULES:,} modules, redrawn {test_adapters.REDRAWS} times at once",
    f"at most {MANY_MODULES:,} modules are drawn",
    f", {len(test_adapters.BOMBS['many files']):,} files, ",
    f"({len(test_questions.PATHS)} spellings, at every door)",
    f"({len(test_adapters.LEAVING)} spellings, of the adapter and of a truncated one)",
    f"and verdicts on them, {test_imports.VERDICTS} at once",
    f"Those on more than {MANY_NUMBERS:,} numbers stand in the line",
    f"On a shared page {SHARED_LIMITS.example_numbers:,} are compared",
    f"the events of one zip have at most {SHARED_LIMITS.values_per_import:,} values",
    f"numbers of 10^{min(test_questions.POWERS)} to 10^{max(test_questions.POWERS)}, "
    f"in {len(test_questions.NUMBERS)} fields",
    f"not tried again for {children.FAILED_SECONDS / 60:.0f} minutes".replace("10", "ten"),
    f"{test_questions.MANY_PAGES} pages opened and left | Below {test_questions.SESSION_MB} MB each",
    f"(slow; {test_questions.FEW_PAGES} pages in `make test`)",
    f"{test_questions.ASKED_AT_ONCE} pages and scripts asked for at once",
    f"Bodies of {test_requests.BODY_MB} MB in pieces, at every address | At most {gate.MAX_BODY_BYTES:,} bytes are "
    f"read of any request, and {gate.MAX_EVENT_BYTES / 1e3:.0f} kB of an event",
    f"At most {blocks.MAX_BYTES / 1e6:.0f} MB and {blocks.MAX_ANSWERS:,} of all visitors",
    f"Of a session, {blocks.MAX_MESSAGES} messages are kept",
    f"and {gate.MAX_PATH_BYTES:,} bytes of a path",
]
"""Counts that are written by hand beside what an attack does and what holds."""


@pytest.mark.parametrize("said", SAID)
def test_the_page_counts_as_the_attacks_and_the_limits_do(said):
    assert said in withstood.PAGE.read_text(encoding="utf-8")


def test_every_row_names_tests_that_there_are_and_make_attacks_replays_those_of_its_folder():
    """A row of another folder names it whole."""
    page = withstood.PAGE.read_text(encoding="utf-8")
    rows = page.partition("| Attack | What holds |")[2].partition("\n\n")[0].splitlines()[2:]
    root = withstood.PAGE.parents[1]

    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row.rpartition(" | ")[2])]

    assert len(rows) <= len(named) - named.count("make test")
    for name in set(named) - {"make test"}:
        assert (root / ("" if "/" in name else "tests/attacks") / name).exists()


def test_the_page_has_all_tables():
    page = withstood.PAGE.read_text(encoding="utf-8")

    for kind in ("fuzz", "attacks", "load"):
        assert re.search(
            rf"<!-- generated: {kind} -->\n\nOn \d{{4}}-[^\n]+ processors\.\n\n\| .+\n<!-- end: {kind} -->", page, re.S
        )
