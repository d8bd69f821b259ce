"""`rankviz export`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from rankviz.api import Api
from rankviz.cli.asking import asking
from rankviz.core.cost.question import Question
from rankviz.errors import InvalidSettingError


@asking
def export(
    question: Question,
    format_name: Annotated[
        str,
        typer.Option(
            "--format",
            help="script or notebook (for the framework), unsloth, trl, peft, adapter-config, axolotl or llamafactory.",
        ),
    ] = "script",
    lr: Annotated[float | None, typer.Option(help="Learning rate; 2e-4 by default.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write to this file.")] = None,
) -> None:
    """Write a script, a notebook or a configuration file with these settings, to train elsewhere."""
    if len(question.ranks) != 1:
        raise InvalidSettingError("export takes one rank: give -r once.")
    written = Api().exports.write(question, question.ranks[0], format_name, lr)
    if output is None:
        print(written.text, end="")
    else:
        try:
            output.write_text(written.text, encoding="utf-8")
        except OSError as error:
            raise InvalidSettingError(f"Cannot write {output}: {error.strerror}. Choose another file.") from error
        print(output)
    for note in written.notes:
        print(f"Note: {note}", file=sys.stderr)
