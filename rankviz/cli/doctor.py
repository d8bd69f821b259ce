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
    """A line a check; on a terminal wrapped to its width, under the sentence's first word."""
    import shutil
    import textwrap

    from rankviz.core.preflight.checks import problems, uses_gpu

    after_state = 2 + max(len(check.state) for check in diagnosis.checks)
    indent = after_state + 2 + max(len(check.name) for check in diagnosis.checks)
    width = max(40, shutil.get_terminal_size().columns - indent) if sys.stdout.isatty() else 10_000
    for check in diagnosis.checks:
        head = check.state.ljust(after_state) + check.name
        first, *rest = textwrap.wrap(check.sentence, width, break_long_words=False, break_on_hyphens=False)
        print(head.ljust(indent) + first, *(" " * indent + line for line in rest), sep="\n")
    print()
    if found := problems(diagnosis.checks):
        print(f"Not ready: {len(found)} problem{'s' if len(found) > 1 else ''} to solve first.")
        return
    where = f"the GPU {diagnosis.facts.card.name}" if uses_gpu(diagnosis.facts) else "the CPU"
    how = "" if tried else " The libraries were not tried: leave out --quick for that."
    print(f"Ready to train on {where}.{how}")
