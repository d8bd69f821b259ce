"""Writes into docs/security.md what `make fuzz`, `make attacks` and `make load` counted, such as `python -m
docs.generate.withstood fuzz COUNTS`."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.load import ALONE, BESIDE, OPEN_PAGES, REACH
from docs.generate.markdown import replace_block, table
from tests.support.measured import when_and_where

PAGE = Path(__file__).parents[1] / "security.md"
Rows = Sequence[Mapping[str, Any]]


def fuzz(rows: Rows) -> str:
    """The sums over all readers of cases, results and refusals."""
    readers = by_test(rows, "reader")
    results, refused = (sum(row.get(kind, 0) for row in rows) for kind in ("result", "refused"))
    total = [f"{len(readers)} readers", f"{results + refused:,}", f"{results:,}", f"{refused:,}"]
    return table(["", "Cases", "Results", "Refused"], [total])


FIELDS = {"slowest_seconds": ("{:.2f} s", 0.4), "grown_mb": ("{:.0f} MB", 40.0), "child_mb": ("{:.0f} MB", 100.0)}
"""Figures of an attack, and above what they have a row of their own."""


def attacks(rows: Rows) -> str:
    """A row an attack with a figure that is worth one, the worst of its variants; and the worst of all."""
    groups = {**by_test(rows, "attack"), "": rows}
    lines = []
    for name, group in groups.items():
        worst = {field: max(0, *(row[field] for row in group)) for field in FIELDS}
        if not name or any(worst[field] >= least for field, (_, least) in FIELDS.items()):
            title = name or f"The worst of all {len(groups) - 1} attacks"
            lines.append([title, str(len(group)), *(form.format(worst[field]) for field, (form, _) in FIELDS.items())])
    header = ["Attack", "Variants", "Slowest estimate of another visitor", "The app grew by", "Largest child process"]
    return table(header, lines)


FIGURES = {
    "Requests": ("requests", "{:,}"),
    "Different questions": ("questions", "{:,}"),
    "Failed requests": ("errors", "{:,}"),
    "Processor time a request": ("cpu_ms", "{:,.0f} ms"),
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
