"""What all commands share: how they print, how they fail, and the arguments that come up again."""

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from rankviz.cli.options import Argument, Option
from rankviz.errors import NotRentedError

Json = Annotated[bool, Option("--json", help="Print JSON instead of a table.")]
Model = Annotated[str, Argument(help="A catalogue id, a Hub id, a folder or a config.json.")]
Targets = Annotated[str, Option(help="all-linear, attention, mlp, qv, unsloth, or module names: NAME,NAME.")]

UnslothClass = Annotated[str, Option(help="Under Unsloth: FastLanguageModel or FastModel.")]
VisionFlag = Annotated[bool | None, Option(help="Unsloth's flag for whole multimodal models.")]
Flag = Annotated[bool | None, Option(help="Unsloth's flag.")]


def fail(message: str, code: int) -> None:
    print(" ".join(message.split()), file=sys.stderr)
    sys.exit(code)


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
    json.dump(value, sys.stdout, indent=1)
    print()


def table(title: str, columns: list[str], rows: list[list[str]], *, notes: list[str] | None = None) -> None:
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
