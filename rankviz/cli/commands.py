"""All commands, as Typer reads, runs and documents them."""

import sys
from typing import Annotated

import typer

from rankviz.cli.estimates import estimate, models
from rankviz.cli.fit import export, fit
from rankviz.cli.forecast import forecast
from rankviz.cli.machine import doctor, probe
from rankviz.cli.runs.runs import runs
from rankviz.cli.runs.sweep import sweep
from rankviz.cli.shared import fail
from rankviz.cli.studies import advise, evidence
from rankviz.cli.trained import resize, spectrum
from rankviz.cli.typer_options import Commands
from rankviz.cli.validate import validate, verdict
from rankviz.visitor import NOBODY, acting_as

app = Commands(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="What a LoRA rank costs, and what it buys.",
)
for command in (
    models,
    estimate,
    fit,
    advise,
    forecast,
    validate,
    probe,
    export,
    sweep,
    verdict,
    spectrum,
    resize,
    doctor,
):
    app.command()(command)
app.add_typer(runs, name="runs")
app.add_typer(evidence, name="evidence")


@app.command()
def serve(
    host: Annotated[str, typer.Option(envvar="GRADIO_SERVER_NAME", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, envvar="GRADIO_SERVER_PORT", help="Port to listen on.")] = 7860,
) -> None:
    """Start the web page."""
    import os
    from importlib import import_module

    os.environ["GRADIO_SERVER_NAME"] = host
    os.environ["GRADIO_SERVER_PORT"] = str(port)
    with acting_as(NOBODY):  # each request says who asks
        import_module("rankviz.ui.serve").serve()


def run() -> None:
    """The command of this process's command line."""
    try:
        app(standalone_mode=False)
    except typer.exceptions.TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # Typer's, and private there; its message is the help
            print(error.format_message(), file=sys.stderr)
            sys.exit(error.exit_code)
        from rankviz.settings.reasons import why_refused

        error.message = why_refused(error.__cause__) or error.message
        fail(error.format_message(), error.exit_code)
    except typer.Abort:
        fail("Stopped.", 130)
