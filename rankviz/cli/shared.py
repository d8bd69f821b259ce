"""What all commands share: how they print, how they fail, and the arguments that come up again."""

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from rankviz.cli.options import Argument, Option
from rankviz.errors import InvalidSettingError, NotRentedError

Json = Annotated[bool, Option("--json", help="Print JSON instead of a table.")]
Model = Annotated[str, Argument(help="A catalogue id, a Hub id, a folder or a config.json.")]
Targets = Annotated[str, Option(help="all-linear, attention, mlp, qv, unsloth, or module names: NAME,NAME.")]
UseRslora = Annotated[bool, Option("--rslora", help="Scale by alpha / sqrt(r).")]
UseDora = Annotated[bool, Option("--dora", help="Add DoRA's magnitude vectors.")]
ExpertRank = Annotated[
    str, Option(help="Rank of each expert: r, r/active (r / experts per token), r/all (r / all experts) or a number.")
]
UnslothClass = Annotated[str, Option(help="Under Unsloth: FastLanguageModel or FastModel.")]
TextOnly = Annotated[
    bool, Option("--text-only", help="Under Unsloth: load the text model of a multimodal checkpoint alone.")
]
VisionFlag = Annotated[bool | None, Option(help="Unsloth's flag for whole multimodal models.")]
Flag = Annotated[bool | None, Option(help="Unsloth's flag.")]
Batch = Annotated[int, Option(help="Batch size per micro-step.")]
Accum = Annotated[int, Option(help="Micro-steps per optimizer step.")]

Force = Annotated[bool, Option("--force", help="Replace files that are there.")]

MOST_STYLED = 500
"""Rows of a table."""


def fail(message: str, code: int) -> None:
    print(" ".join(message.split()), file=sys.stderr)
    sys.exit(code)


def require_new(path: Path, *, force: bool, text: str | None = None) -> None:
    """InvalidSettingError where no file can be written, or another file is there. text: what is to be written, which
    may be there already."""
    if path.is_dir():
        raise InvalidSettingError(f"{path} is a folder: give the name of a file in it.")
    if not path.parent.is_dir():
        raise InvalidSettingError(f"The folder {path.parent} does not exist. Create it first.")
    if path.exists() and not force and (text is None or path.read_text(encoding="utf-8", errors="replace") != text):
        raise InvalidSettingError(
            f"{path} is there already{'' if text is None else ', with another content'}. Choose another name or "
            "folder, or add --force to replace it."
        )


@contextmanager
def options_as_typed() -> Iterator[None]:
    """Names options in errors as they are typed, not as operations call them."""
    try:
        yield
    except NotRentedError as error:
        raise NotRentedError("--flavor and --spend need --engine hf-jobs.") from error


def print_notes(notes: Iterable[str]) -> None:
    """On stderr, before something starts."""
    for note in notes:
        print(note, file=sys.stderr)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=1))


def table(title: str, columns: list[str], rows: list[list[str]], *, notes: list[str] | None = None) -> None:
    """A table on stdout, the first column on the left. One of many rows is neither styled nor made to fit a terminal,
    which would take seconds."""
    if len(rows) > MOST_STYLED:
        print(plain_table(title, columns, rows), *(f"- {note}\n" for note in notes or []), sep="", end="")
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    # A pipe or a file has no width of its own: leave room for every column.
    console = Console() if sys.stdout.isatty() else Console(width=200)
    console.print(table)
    for note in notes or []:
        console.print(f"- {note}", markup=False, highlight=False)


def plain_table(title: str, columns: list[str], rows: list[list[str]]) -> str:
    """As a styled one looks in a file, where it has the room."""
    from rich.cells import cell_len

    def padded(cell: str, width: int, *, left: bool) -> str:
        pad = " " * (width - (len(cell) if cell.isascii() else cell_len(cell)))
        return cell + pad if left else pad + cell

    lines = [[_printable(cell) for cell in row] for row in (columns, *rows)]
    widths = [
        max(len(each) if each.isascii() else cell_len(each) for each in column) for column in zip(*lines, strict=True)
    ]
    width = sum(widths) + 3 * (len(columns) - 1) + 4
    head, *body = (
        f"  {'   '.join(padded(cell, widths[i], left=i == 0) for i, cell in enumerate(line))}  \n" for line in lines
    )
    blank = " " * width + "\n"
    return "".join([title.ljust(width), "\n", blank, head, f" {'─' * (width - 2)} \n", *body, blank])


def _printable(cell: str) -> str:
    return cell if cell.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in cell)
