"""Writes into docs/security.md what `make fuzz`, `make attacks` and `make load` counted, such as `python -m
tests.withstood fuzz COUNTS`."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.load import ALONE, BESIDE, OPEN_PAGES, REACH
from docs.generate.markdown import replace_block, table
from tests.support.measured import when_and_where

PAGE = Path(__file__).parents[1] / "docs" / "security.md"
Rows = Sequence[Mapping[str, Any]]


def fuzz(rows: Rows) -> str:
    """A row a reader, with cases, results and refusals; and their sums."""
    counted = [
        [name, *(sum(row.get(kind, 0) for row in group) for kind in ("result", "refused"))]
        for name, group in by_test(rows, "reader").items()
    ]
    results, refused = (sum(column) for column in zip(*(each[1:] for each in counted), strict=True))
    lines = [[name, f"{done + no:,}", f"{done:,}", f"{no:,}"] for name, done, no in counted]
    total = [f"{len(counted)} readers", f"{results + refused:,}", f"{results:,}", f"{refused:,}"]
    return table(["Reader", "Cases", "Results", "Refused"], [*lines, total])


def attacks(rows: Rows) -> str:
    """A row an attack: its variants, and the worst figure of each kind over them."""
    lines = []
    for name, group in by_test(rows, "attack").items():
        slowest, grown, child = (
            max(row[field] for row in group) for field in ("slowest_seconds", "grown_mb", "child_mb")
        )
        lines.append([name, str(len(group)), f"{slowest:.2f} s", f"{max(0, grown):.0f} MB", f"{child:.0f} MB"])
    header = ["Attack", "Variants", "Slowest estimate of another visitor", "The app grew by", "Largest child process"]
    return table(header, lines)


FIGURES = {
    "Requests": ("requests", "{:,}"),
    "Different questions": ("questions", "{:,}"),
    "Failed requests": ("errors", "{:,}"),
    "Numbers, p95": ("numbers_ms", "{:,.0f} ms"),
    "Pictures, p95": ("pictures_ms", "{:,.0f} ms"),
    "What a page loads, p95": ("arrival_ms", "{:,.0f} ms"),
    "Memory over the start": ("memory_mb", "{:,.0f} MB"),
    "Growth over the second half": ("growth_mb", "{:,.0f} MB"),
    "A page that is left open": ("page_mb", "{:.2f} MB"),
    "Steps of the training": ("steps", "{:,}"),
}


def load(rows: Rows) -> str:
    """A row a figure, beside the most that is to be reached on two idle cores."""
    by_load = {row["load"]: row for row in rows}
    alone = by_load[ALONE] | {"page_mb": by_load[OPEN_PAGES]["page_mb"]}
    alone["errors"] += by_load[OPEN_PAGES]["errors"]
    columns = ((alone, REACH[OPEN_PAGES] | REACH[ALONE]), (by_load[BESIDE], REACH[BESIDE]))
    header = ["", "Alone", "To reach", "Beside a training", "To reach"]
    return table(
        header,
        [
            [title, *(form.format(of[name]) if name in of else "" for column in columns for of in column)]
            for title, (name, form) in FIGURES.items()
        ],
    )


def by_test(rows: Rows, field: str) -> dict[str, list[Mapping[str, Any]]]:
    """The rows of each test, its variants together, by the words of its name."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        name = row[field].rpartition("::")[2].partition("[")[0].removeprefix("test_").replace("_", " ")
        groups.setdefault(name[:1].upper() + name[1:], []).append(row)
    return groups


def main(kind: str, file: str) -> None:
    rows = [json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines()]
    counted = {"fuzz": fuzz, "attacks": attacks, "load": load}[kind](rows)
    body = f"{when_and_where(rows)}\n\n{counted}"
    PAGE.write_text(replace_block(PAGE.read_text(encoding="utf-8"), kind, f"\n{body}\n"), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
