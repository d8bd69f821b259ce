"""The command line: `rankviz` or `python -m rankviz`.

Each command prints a table, or JSON with --json. A mistake that the user can correct gives one line on stderr and exit
code 2; other errors give 1. Slow imports are inside the command that needs them.
"""

from rankviz.cli.shared import fail
from rankviz.errors import RankVizError, RunNotFoundError, UserError
from rankviz.visitor import HOST, acting_as


def main() -> None:
    """Run the command that this process's arguments name."""
    from rankviz import logs

    logs.keep_tokens_out()  # before Typer is imported, which goes on with what it finds
    from rankviz.cli.commands import run

    try:
        with acting_as(HOST):  # whoever has a shell on the machine has its runs folder
            run()
    except KeyboardInterrupt:
        fail("Stopped.", 130)
    except RunNotFoundError as error:
        fail(f"{error} `rankviz runs list` shows all runs.", 2)
    except UserError as error:
        fail(str(error), 2)
    except RankVizError as error:
        fail(str(error), 1)
