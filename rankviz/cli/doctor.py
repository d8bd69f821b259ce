"""`rankviz doctor`."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from rankviz.api import Api
from rankviz.cli.shared import Json, print_json

if TYPE_CHECKING:
    from rankviz.api.preflight import Diagnosis


def doctor(
    quick: Annotated[
        bool, typer.Option("--quick", help="Skip the trial, in which a worker process imports and uses the libraries.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what this machine trains on, and what would keep a training from running (then the exit code is 1)."""
    from rankviz.core.preflight.checks import as_json as checks_json
    from rankviz.core.preflight.checks import problems

    diagnosis = Api().preflight.diagnose(trial=not quick)
    if as_json:
        print_json(checks_json(*diagnosis))
    else:
        _print(diagnosis, tried=not quick)
    if problems(diagnosis.checks):
        sys.exit(1)


def _print(diagnosis: "Diagnosis", *, tried: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from rankviz.core.preflight.checks import problems, uses_gpu

    table = Table.grid(padding=(0, 2))
    for check in diagnosis.checks:
        table.add_row(check.state, check.name, check.sentence)
    console = Console(highlight=False, markup=False)
    console.print(table)
    console.print()
    if found := problems(diagnosis.checks):
        console.print(f"Not ready: {len(found)} problem{'s' if len(found) > 1 else ''} to solve first.")
        return
    where = f"the GPU {diagnosis.facts.card.name}" if uses_gpu(diagnosis.facts) else "the CPU"
    how = "" if tried else " The libraries were not tried: leave out --quick for that."
    console.print(f"Ready to train on {where}.{how}")
