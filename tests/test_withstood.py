"""The tables of docs/security.md are made from what the commands counted."""

import re

from tests import withstood

COUNTS = [
    {"reader": "tests/fuzz/test_a.py::test_a_zip", "result": 3, "refused": 7},
    {"reader": "tests/fuzz/test_a.py::test_an_endpoint[fit]", "result": 1000},
    {"reader": "tests/fuzz/test_a.py::test_an_endpoint[run]", "result": 200, "refused": 30},
]
TRIED = [
    {"attack": "test_a_bomb[a]", "slowest_seconds": 0.25, "grown_mb": -3.0, "child_mb": 90.4},
    {"attack": "test_a_bomb[b]", "slowest_seconds": 0.5, "grown_mb": -1.0, "child_mb": 0.0},
]


def test_a_reader_has_one_row_with_its_counts_and_all_have_a_sum():
    lines = withstood.fuzz(COUNTS).splitlines()[2:]

    assert [
        "| A zip | 10 | 3 | 7 |",
        "| An endpoint | 1,230 | 1,200 | 30 |",
        "| 2 readers | 1,240 | 1,203 | 37 |",
    ] == lines


def test_an_attack_has_one_row_with_the_worst_of_its_variants():
    assert "| A bomb | 2 | 0.50 s | 0 MB | 90 MB |" == withstood.attacks(TRIED).splitlines()[2]


def test_the_page_has_both_tables():
    page = withstood.PAGE.read_text(encoding="utf-8")

    for kind in ("fuzz", "attacks"):
        assert re.search(rf"<!-- generated: {kind} -->\n\n\| .+\n<!-- end: {kind} -->", page, re.S)
