"""The tables of docs/security.md are made from what the commands counted."""

import contextlib
import json
import re

import pytest

from benchmarks import load
from tests import withstood
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


def test_a_reader_has_one_row_with_its_counts_and_all_have_a_sum():
    lines = withstood.fuzz(COUNTS).splitlines()[2:]

    assert [
        "| A zip | 10 | 3 | 7 |",
        "| An endpoint | 1,230 | 1,200 | 30 |",
        "| 2 readers | 1,240 | 1,203 | 37 |",
    ] == lines


def test_an_attack_has_one_row_with_the_worst_of_its_variants():
    assert "| A bomb | 2 | 0.50 s | 0 MB | 90 MB |" == withstood.attacks(TRIED).splitlines()[2]


LOADED = {"requests": 5907, "questions": 2200, "errors": 0, "numbers_ms": 90.2, "pictures_ms": 82.0, "arrival_ms": 23.0}
LOADED |= {"memory_mb": 56.4, "growth_mb": 2.1}
PAGES = {"load": load.OPEN_PAGES, "errors": 0, "page_mb": 0.012}


def test_the_load_is_a_row_a_figure_beside_what_is_to_be_reached():
    beside = {"load": load.BESIDE, **LOADED, "numbers_ms": 1011.0, "steps": 6514}

    lines = withstood.load([{"load": load.ALONE, **LOADED}, PAGES, beside]).splitlines()[2:]

    assert "| Numbers, p95 | 90 ms | 400 ms | 1,011 ms | 1,000 ms |" in lines
    assert "| Growth over the second half | 2 MB | 15 MB | 2 MB | 15 MB |" in lines
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
        ({"memory_mb": 149.9, "growth_mb": 74.9}, "alone: growth_mb is 74.9, to reach: 15."),
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


@pytest.mark.parametrize("rows", [COUNTS, TRIED])
def test_a_table_says_when_and_on_how_many_processors_it_was_measured(monkeypatch, tmp_path, rows):
    kind = "fuzz" if rows is COUNTS else "attacks"
    page, report = tmp_path / "security.md", tmp_path / "report.jsonl"
    page.write_text(f"<!-- generated: {kind} --><!-- end: {kind} -->")
    counted = [row | {"day": f"2026-11-2{8 + (not number)}", "processors": 2} for number, row in enumerate(rows)]
    report.write_text("".join(json.dumps(row) + "\n" for row in counted))
    monkeypatch.setattr(withstood, "PAGE", page)

    withstood.main(kind, report)

    assert "\n\nOn 2026-11-28 and 2026-11-29, with 2 processors.\n\n| " in page.read_text()


def test_the_page_has_all_tables():
    page = withstood.PAGE.read_text(encoding="utf-8")

    for kind in ("fuzz", "attacks", "load"):
        assert re.search(
            rf"<!-- generated: {kind} -->\n\nOn \d{{4}}-[^\n]+ processors\.\n\n\| .+\n<!-- end: {kind} -->", page, re.S
        )
