"""`rankviz export`."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from rankviz.api import Api
from rankviz.cli.asking import asking
from rankviz.cli.shared import Force, require_new
from rankviz.core.advice.use_case import NAMES, Goal
from rankviz.core.cost.question import Question
from rankviz.errors import InvalidSettingError


@asking
def export(
    question: Question,
    format_name: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="colab (a notebook for a free T4), script or notebook (for the framework), unsloth, trl, peft, "
            "adapter-config, axolotl or llamafactory. By default the notebook for a file that ends in .ipynb, else the "
            "script.",
        ),
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Learning rate; a usual one by default, or that of --use-case.")
    ] = None,
    use_case: Annotated[
        str | None,
        typer.Option(help=f"Take the learning rate that is recommended for it: {', '.join(NAMES)}."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write to this file, and what belongs to it beside it.")
    ] = None,
    force: Force = False,
) -> None:
    """Write a script, a notebook or a configuration file with these settings, to train elsewhere."""
    if len(question.ranks) != 1:
        raise InvalidSettingError("export takes one rank: give -r once.")
    if format_name is None:
        format_name = "notebook" if output is not None and output.suffix.lower() == ".ipynb" else "script"
    written = Api().exports.write(
        question, question.ranks[0], format_name, lr, Goal(use_case=use_case) if use_case else None
    )
    if output is None:
        print(written.text, end="")
    else:
        text = written.text.replace(written.file_name, shlex.quote(output.name))  # in commands that it shows
        files = {output: text} | {output.with_name(name): text for name, text in written.beside}
        _require_ending(output, Path(written.file_name).suffix, format_name)
        for path, text in files.items():
            require_new(path, force=force, text=text)
        for path, text in files.items():
            _write(path, text)
    for note in written.notes:
        print(f"Note: {note}", file=sys.stderr)


def _require_ending(path: Path, ending: str, format_name: str) -> None:
    """InvalidSettingError where a file's name says that it is of another kind."""
    if path.suffix.lower().replace(".yml", ".yaml") != ending:
        raise InvalidSettingError(
            f"The format {format_name} is a {ending} file: choose a name that ends in {ending} (got {path.name})."
        )


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidSettingError(f"Cannot write {path}: {error.strerror}. Choose another file.") from error
    print(path)
