"""Helpers of all commands: options, the question made of them, printing, errors and plots."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any

from typer import Argument
from typer import Option as Flag

from rankviz.core.cost.question import Question
from rankviz.errors import InvalidSettingError
from rankviz.options import EVERY, MORE, OPTIONS, SETUP, TRAIN_OPTIONS, Option, data_of, question_of, takes

Json = Annotated[bool, Flag("--json", help="Print JSON instead of a table.")]
Force = Annotated[bool, Flag("--force", help="Replace files that are there.")]
Plot = Annotated[Path | None, Flag("--plot", metavar="FILE", help="Also write a figure: FILE.html, .png or .svg.")]
Ids = Annotated[str, Argument(help="A run or a sweep.")]
MODEL_HELP = "A catalogue id, a Hub id, a folder or a config.json."
_DATA_HELP = "A JSONL, JSON, CSV or Parquet file: measures examples and tokens, which then need no option."

_CHANGED = (
    replace(OPTIONS["model"], help=MODEL_HELP),
    Option("data", Path | None, None, _DATA_HELP),
    TRAIN_OPTIONS["columns"],
)
_TABLE = EVERY | {each.name: each for each in _CHANGED}


def offered(option: Option) -> Sequence[str]:
    """Return the values that a shell may complete for an option."""
    if option.name not in ("model", "gpu"):
        return option.choices
    from rankviz.api import Api

    api = Api()
    return [row.id for row in (api.models.all() if option.name == "model" else api.workspace.gpus)]


def as_flag(option: Option) -> Parameter:
    """Return an option of the table as a Typer parameter: `model` and `adapter` as arguments, the others as flags."""
    offers = option.choices or option.name in ("model", "gpu")
    more = {"help": option.description, "autocompletion": (lambda: offered(option)) if offers else None}
    if option.name in ("model", "adapter"):
        kind, default = Annotated[str, Argument(**more)], Parameter.empty
    else:
        flags = option.flags or (("--" + option.name.replace("_", "-"),) if option.kind is bool else ())
        kind = {str | float: str, str | float | None: str | None}.get(option.kind, option.kind)
        kind, default = Annotated[kind, Flag(*flags, **more)], option.default
    return Parameter(option.name, Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def asks(
    *more: str, after: Sequence[str] = ("targets", "alpha", *SETUP, *MORE, "data", "columns")
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that adds the options of a question to a command, as **options. more: names of other
    options. after: those after model and ranks."""
    return takes("model", "ranks", *after, *more, table=_TABLE, make=as_flag)


def question_in(options: Mapping[str, Any], command: str = "") -> Question:
    """Return the question of a command's options. command: name of a command that takes exactly one rank."""
    if command and len(options["ranks"]) != 1:
        raise InvalidSettingError(f"{command} takes one rank: give -r once.")
    measured = None
    if options.get("data") is not None:
        from rankviz.api import Api

        file = Api().data.measure(str(options["data"]), options["columns"], prompts=options.get("method") == "grpo")
        print_notes([file.in_words])
        measured = file.training
    return question_of(options, data_of(options, measured))


def fail(message: str, code: int) -> None:
    """End the command with one line on stderr and this exit code."""
    print(" ".join(message.split()), file=sys.stderr)
    sys.exit(code)


def require_new(path: Path, *, force: bool, text: str | None = None) -> None:
    """Check that a file can be written and that no other file is there, unless `force`; raise InvalidSettingError
    otherwise. text: the new content; a file with the same content may be there already."""
    if path.is_dir():
        raise InvalidSettingError(f"{path} is a folder: give the name of a file in it.")
    if not path.parent.is_dir():
        raise InvalidSettingError(f"The folder {path.parent} does not exist. Create it first.")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InvalidSettingError(f"{path} cannot be written by this user: choose another place.")
    if path.exists() and not force and (text is None or path.read_text(encoding="utf-8", errors="replace") != text):
        other = "" if text is None else ", with another content"
        raise InvalidSettingError(f"{path} is there already{other}. Choose another, or add --force to replace it.")


def print_notes(notes: Iterable[str]) -> None:
    """Print each note as a line on stderr."""
    for note in notes:
        print(note, file=sys.stderr)


def print_json(value: Any) -> None:
    """Print a value as JSON on stdout."""
    print(json.dumps(value, indent=1))


def one_line(text: str) -> str:
    """Return the text on one line: line breaks and control characters are escaped."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def table(title: str, rows: Iterable[Mapping[str, str]], *, notes: Iterable[str] = (), texts: int = 1) -> None:
    """Print rows as a table, with notes below; a column without any value is left out. rows: mappings of heading to
    cell. texts: number of columns at the left that hold text; the other columns hold numbers and are aligned right."""
    from rich import box
    from rich.table import Table

    rows = list(rows)
    shown, names = Table(box=box.SIMPLE_HEAD, header_style=""), dict.fromkeys(name for row in rows for name in row)
    known = [name for name in names if any(row.get(name) for row in rows)]
    for at, name in enumerate(known):
        shown.add_column(name, justify="left" if at < texts else "right", overflow="fold")
    for row in rows:
        shown.add_row(*(one_line(row.get(name, "")) for name in known))
    _print(one_line(title), shown, *(f"- {note}" for note in notes))


def grid(rows: Iterable[Sequence[str]]) -> None:
    """Print rows without headings; on a terminal, the last column wraps."""
    from rich.table import Table

    shown = Table.grid(padding=(0, 2))
    for row in rows:
        shown.add_row(*(one_line(" ".join(cell.split())) for cell in row))
    _print(shown)


def _print(*parts: Any) -> None:
    """Print in the width of the terminal. A pipe or a file has no width, so lines stay whole there."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 20_000
    console = Console(width=width, markup=False, highlight=False, no_color=True)
    with console.capture() as captured:
        console.print(*parts, sep="\n", soft_wrap=False)
    print(*(line.rstrip() for line in captured.get().splitlines()), sep="\n")


def check_plot(plot: Path | None, *, force: bool) -> None:
    """Check that the plot file can be written and does not exist yet; raise InvalidSettingError otherwise."""
    if plot:
        from rankviz.figures import plot_file

        require_new(plot_file(plot), force=force)


def write_plot(plot: Path, drawing: Any, title: str, source: str = "") -> None:
    """Write a figure into the file of --plot. source: origin of the numbers; the drawing's if empty."""
    from rankviz.figures import write_figure

    print(f"Plot: {write_figure(drawing, plot, title=title, source=source)}", file=sys.stderr)
