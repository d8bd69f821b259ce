"""What commands share: options, how they print, fail and plot, and the question that options make."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument
from typer import Option as Flag

from rankviz.core.cost.question import Question
from rankviz.core.lora.config import FLAGS
from rankviz.errors import InvalidSettingError
from rankviz.options import OPTIONS, Option, data_of, question_of, takes

if TYPE_CHECKING:
    from rankviz.core.cost.estimate import Estimate
    from rankviz.core.forecast.decision import Decision
    from rankviz.core.runs.record import Sweep
    from rankviz.core.spectrum import Spectrum
    from rankviz.verdict import Verdict

Json = Annotated[bool, Flag("--json", help="Print JSON instead of a table.")]
Force = Annotated[bool, Flag("--force", help="Replace files that are there.")]
Plot = Annotated[Path | None, Flag("--plot", metavar="FILE", help="Also write a figure: FILE.html, .png or .svg.")]
Parameters = Annotated[float | None, Flag(help="Parameters of a model that has no name here, such as 125e6.")]
Ids = Annotated[str, Argument(help="A run or a sweep.")]
MODEL_HELP = "A catalogue id, a Hub id, a folder or a config.json."
_DATA_HELP = "A JSONL, JSON, CSV or Parquet file: measures examples and tokens, which then need no option."

ADAPTER = ("targets", "rslora", "dora", "expert_rank", "unsloth_class", "text_only", *FLAGS)
QUESTION = (
    *("model", "ranks", "alpha", *ADAPTER, "modules_to_save", "moe", "precision", "framework", "batch"),
    *("accumulation", "max_length", "optim", "checkpointing", "loss_path", "gpu", "tokens", "steps"),
    *("examples", "example_tokens", "longest_tokens", "epochs", "data", "usd_per_hour"),
)
_CHANGED = (
    replace(OPTIONS["model"], help=MODEL_HELP),
    replace(OPTIONS["gpu"], default=None),
    replace(OPTIONS["checkpointing"], default="auto", help="unsloth, hf, none, or auto: the framework's own."),
    Option("data", Path | None, None, _DATA_HELP),
)
_TABLE = OPTIONS | {each.name: each for each in _CHANGED}


def as_flag(option: Option) -> Parameter:
    """Return an option of the table as a parameter that Typer reads; `model` is an argument."""
    if option.name == "model":
        kind, default = Annotated[str, Argument(help=option.description)], Parameter.empty
    else:
        flags = option.flags or (("--" + option.name.replace("_", "-"),) if option.kind is bool else ())
        kind = str if option.kind == str | float else option.kind
        kind, default = Annotated[kind, Flag(*flags, help=option.description)], option.default
    return Parameter(option.name, Parameter.KEYWORD_ONLY, default=default, annotation=kind)


asks = takes(*QUESTION, table=_TABLE, make=as_flag)
"""Decorator that gives a command the options of a question, in **options; `question_in` makes it."""


def question_in(options: Mapping[str, Any], command: str = "") -> Question:
    """Return the question of a command's options. command: one that takes one rank."""
    if command and len(options["ranks"]) != 1:
        raise InvalidSettingError(f"{command} takes one rank: give -r once.")
    measured = None
    if options["data"] is not None:
        from rankviz.api import Api

        file = Api().data.measure(str(options["data"]))
        print_notes([file.in_words])
        measured = file.training_data()
    return question_of(options, data_of(options, measured))


def fail(message: str, code: int) -> None:
    """End the command with one line on stderr."""
    print(" ".join(message.split()), file=sys.stderr)
    sys.exit(code)


def require_new(path: Path, *, force: bool, text: str | None = None) -> None:
    """InvalidSettingError where no file can be written, or another file exists. text: its new content, which may be
    there already."""
    if path.is_dir():
        raise InvalidSettingError(f"{path} is a folder: give the name of a file in it.")
    if not path.parent.is_dir():
        raise InvalidSettingError(f"The folder {path.parent} does not exist. Create it first.")
    if path.exists() and not force and (text is None or path.read_text(encoding="utf-8", errors="replace") != text):
        raise InvalidSettingError(
            f"{path} is there already{'' if text is None else ', with another content'}. Choose another name or "
            "folder, or add --force to replace it."
        )


def print_notes(notes: Iterable[str]) -> None:
    """Print notes on stderr."""
    for note in notes:
        print(note, file=sys.stderr)


def print_json(value: Any) -> None:
    """Print JSON."""
    print(json.dumps(value, indent=1))


def one_line(text: str) -> str:
    """Return the text with its line breaks spelled, and without commands to a terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    notes: Iterable[str] = (),
    texts: int = 1,
    drop: Sequence[str] = (),
) -> None:
    """Print a table with notes below it.

    texts: this many columns stand at the left, the others, numbers, at the right. drop: names of columns that are left
    out, in this order, where a terminal has no room for all; a line names them. Cells are then never broken.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    cells = [[one_line(cell) for cell in row] for row in rows]
    empty = {name for at, name in enumerate(columns) if name in drop and not any(row[at] for row in cells)}
    console, left_out = _console(Console), []
    unbounded = console.options.update(width=20_000)
    while True:
        shown = Table(box=box.SIMPLE_HEAD, header_style="")
        indexes = [at for at, name in enumerate(columns) if name not in empty and name not in left_out]
        for at in indexes:
            shown.add_column(columns[at], justify="left" if at < texts else "right", no_wrap=bool(drop))
        for row in cells:
            shown.add_row(*(row[at] for at in indexes))
        more = [name for name in drop if name not in empty and name not in left_out]
        if not more or console.measure(shown, options=unbounded).maximum <= console.width:
            break
        left_out.append(more[0])
    named = [name for name in columns if name in left_out]
    room = [f"No room here for: {', '.join(named)}. A wider terminal and --json have all."] * bool(named)
    _print(console, one_line(title), shown, *room, *(f"- {note}" for note in notes))


def grid(rows: Iterable[Sequence[str]]) -> None:
    """Print rows whose last column takes several lines on a terminal."""
    from rich.console import Console
    from rich.table import Table

    shown = Table.grid(padding=(0, 2))
    for row in rows:
        shown.add_row(*(one_line(" ".join(cell.split())) for cell in row))
    _print(_console(Console), shown)


def _console(kind: Any) -> Any:
    """A pipe or a file has no width of its own: every column and every value stays whole."""
    return kind(width=None if sys.stdout.isatty() else 20_000, markup=False, highlight=False, no_color=True)


def _print(console: Any, *parts: Any) -> None:
    with console.capture() as captured:
        console.print(*parts, sep="\n", soft_wrap=False)
    print(*(line.rstrip() for line in captured.get().splitlines()), sep="\n")


def check_plot(plot: Path | None, *, force: bool) -> None:
    """Refuse a file that cannot be written or is there already, before the command does its work."""
    if plot:
        from rankviz.figures import plot_file

        require_new(plot_file(plot), force=force)


def plot_estimate(plot: Path, estimate: "Estimate", basis: str) -> None:
    """Write memory by component over rank. basis: what the estimate rests on, in a sentence."""
    from rankviz.figures import memory_figure, memory_info

    info = memory_info(estimate)
    title = f"Memory by component and rank: {estimate.model.id}"
    _write_figure(memory_figure(info), plot, title, f"{info.source} {basis}")


def plot_sweep(plot: Path, sweep: "Sweep", verdict: "Verdict | None", decision: "Decision | None" = None) -> None:
    """Write quality against adapter size; of a fast curve or a quick look the loss by rank, with its forecast."""
    from rankviz import figures
    from rankviz.core.runs.words import sweep_title

    if any(run.cuts for run in sweep.runs):
        info = figures.rank_curve_info(sweep, verdict, forecast=decision.forecast if decision else None)
        figure, source = figures.rank_curve_figure(info), info.source
    else:
        info = figures.tradeoff_info([sweep])
        figure, source = figures.tradeoff_figure(info), " ".join(info.notes)
    _write_figure(figure, plot, sweep_title(sweep), source)


def plot_spectrum(plot: Path, spectrum: "Spectrum") -> None:
    """Write the singular values of the module that needs the highest rank, and of that module in other blocks."""
    from rankviz.figures import spectrum_figure, spectrum_info

    info = spectrum_info(spectrum)
    _write_figure(spectrum_figure(info), plot, f"Singular values: {spectrum.name}", info.source)


def _write_figure(figure: Any, plot: Path, title: str, source: str) -> None:
    from rankviz.figures import write_figure

    print(f"Plot: {write_figure(figure, plot, title=title, source=source)}", file=sys.stderr)
