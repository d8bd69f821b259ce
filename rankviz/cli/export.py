"""`rankviz export`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from rankviz.api import Api
from rankviz.cli.asking import asking
from rankviz.core.advice.use_case import NAMES, Goal
from rankviz.core.cost.question import Question
from rankviz.errors import InvalidSettingError


@asking
def export(
    question: Question,
    format_name: Annotated[
        str,
        typer.Option(
            "--format",
            help="colab (a notebook for a free T4), script or notebook (for the framework), unsloth, trl, peft, "
            "adapter-config, axolotl or llamafactory.",
        ),
    ] = "script",
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
) -> None:
    """Write a script, a notebook or a configuration file with these settings, to train elsewhere."""
    if len(question.ranks) != 1:
        raise InvalidSettingError("export takes one rank: give -r once.")
    written = Api().exports.write(
        question, question.ranks[0], format_name, lr, Goal(use_case=use_case) if use_case else None
    )
    if output is None:
        print(written.text, end="")
    else:
        _write(output, written.text)
        for name, text in written.beside:
            _write_beside(output.with_name(name), text)
    for note in written.notes:
        print(f"Note: {note}", file=sys.stderr)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidSettingError(f"Cannot write {path}: {error.strerror}. Choose another file.") from error
    print(path)


def _write_beside(path: Path, text: str) -> None:
    """A file that was not asked for by name does not replace one that is there."""
    if not path.exists():
        _write(path, text)
    elif path.read_text(encoding="utf-8", errors="replace") != text:
        print(f"Note: {path} was there before and is unchanged. Add these entries to it:\n{text}", file=sys.stderr)
