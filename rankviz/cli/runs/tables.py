"""How runs are printed: rows whose ids are never cut, and facts. A pipe or a file gets all, unwrapped."""

import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

GAP = "  "
LEAST_VALUE = 24
"""Characters of a value beside its name, however narrow the terminal is."""


class Column(NamedTuple):
    """Of a table."""

    title: str
    cells: Sequence[str]
    order: int = 0
    """Where there is no room for all, those with the lowest come first; 0 is always there."""
    is_text: bool = False
    """Text stands at the left, numbers at the right."""

    @property
    def width(self) -> int:
        """A title may take several lines, a cell one."""
        return max(map(len, [*self.title.split(), *self.cells]), default=0)


def one_line(text: str) -> str:
    """With its line breaks spelled, and without what a terminal would take for commands."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def terminal_width() -> int | None:
    """In characters; None of a pipe or a file."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def print_rows(
    title: str, columns: Sequence[Column], width: int | None, above: Mapping[int, str] = MappingProxyType({})
) -> None:
    """A table within so many characters; columns that have no room are named below it, empty ones left out. above:
    lines that stand above rows, by the row's place."""
    columns = [
        column._replace(cells=[one_line(cell) for cell in column.cells])
        for column in columns
        if not column.order or any(column.cells)
    ]
    shown = _fitting(columns, width)
    heads = [textwrap.wrap(column.title, column.width or 1) or [""] for column in shown]
    height = max(map(len, heads))
    print(f"{title}\n")
    _print_lines(shown, [[""] * (height - len(head)) + head for head in heads])
    print(GAP + GAP.join("-" * column.width for column in shown))
    _print_lines(
        shown, [column.cells for column in shown], {at: _wrapped(one_line(x), width) for at, x in above.items()}
    )
    if left_out := [column.title for column in columns if column not in shown]:
        print(_wrapped(f"No room here for: {', '.join(left_out)}. A wider terminal and --json have all.", width))
    print()


def print_facts(title: str, facts: Sequence[tuple[str, str]], width: int | None) -> None:
    """A name and a value on each line; in a terminal a long value goes on below its beginning."""
    name_width = max(len(name) for name, _ in facts)
    print(f"{title}\n")
    for name, value in facts:
        before = f"{GAP}{name.ljust(name_width)}{GAP}"
        room = None if width is None else max(LEAST_VALUE, width - len(before))
        print(before + _wrapped(one_line(" ".join(value.split())), room).replace("\n", "\n" + " " * len(before)))
    print()


def _fitting(columns: Sequence[Column], width: int | None) -> Sequence[Column]:
    kept, used = [], 0
    for column in sorted(columns, key=lambda column: column.order):
        takes = len(GAP) + column.width
        if not column.order or width is None or used + takes <= width:
            kept.append(column)
            used += takes
    return [column for column in columns if column in kept]


def _print_lines(
    columns: Sequence[Column], cells: Sequence[Sequence[str]], above: Mapping[int, str] = MappingProxyType({})
) -> None:
    widths = [column.width for column in columns]
    for at, row in enumerate(zip(*cells, strict=True)):
        if at in above:
            print(above[at])
        texts = [
            f"{text:{'<' if column.is_text else '>'}{width}}"
            for column, width, text in zip(columns, widths, row, strict=True)
        ]
        print((GAP + GAP.join(texts)).rstrip())


def _wrapped(text: str, width: int | None) -> str:
    """Breaks at spaces alone: what is copied from a terminal, such as an id, stays whole."""
    if width is None:
        return text
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)
