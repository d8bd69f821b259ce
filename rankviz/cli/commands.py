"""The table of all commands, from which the Typer app is made, and `rankviz serve`."""

import os
import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Annotated

import typer

from rankviz import __version__
from rankviz.cli.shared import fail
from rankviz.paths import ASSETS
from rankviz.visitor import NOBODY, acting_as

COMMANDS = {
    **dict.fromkeys(("models", "gpus", "estimate", "fit"), "estimates"),
    **dict.fromkeys(("advise", "forecast"), "studies"),
    **dict.fromkeys(("validate", "probe"), "measured"),
    **dict.fromkeys(("serving", "export"), "estimates"),
    "sweep": "runs",
    **dict.fromkeys(("verdict", "spectrum", "resize", "doctor"), "measured"),
    **dict.fromkeys(("serve", "skill"), "commands"),
    "runs": "runs",
    "evidence": "studies",
}
"""Module of each command or group of commands; the command has the same name in its module."""


def _top(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        print(f"rankviz {__version__}")
        raise typer.Exit


def app(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """Return a Typer app with these commands; only their modules are imported, which keeps `estimate` fast."""
    made = typer.Typer(
        invoke_without_command=True,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    made.callback(help="What a LoRA rank costs, and what it buys.")(_top)
    for name in names:
        command = getattr(import_module(f"rankviz.cli.{COMMANDS[name]}"), name)
        if isinstance(command, typer.Typer):
            made.add_typer(command, name=name)
        else:
            made.command(name)(command)
    return made


def serve(
    host: Annotated[str, typer.Option(envvar="GRADIO_SERVER_NAME", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, envvar="GRADIO_SERVER_PORT", help="Port to listen on.")] = 7860,
) -> None:
    """Start the web page."""
    os.environ["GRADIO_SERVER_NAME"] = host
    os.environ["GRADIO_SERVER_PORT"] = str(port)
    with acting_as(NOBODY):  # each request says who asks
        import_module("rankviz.ui.serve").serve()


def skill() -> None:
    """Print SKILL.md: when an agent should call RankViz, with which command or tool, and how to read the answers."""
    print((ASSETS / "SKILL.md").read_text(encoding="utf-8"), end="")


REASONS = {
    **dict.fromkeys(("int_parsing", "int_from_float", "int_parsing_size"), "it must be a whole number"),
    "float_parsing": "it must be a number",
    "greater_than_equal": "it must be at least {ge:g}",
    "less_than_equal": "it must be at most {le:g}",
}
"""Reason why Typer refuses a value, by pydantic's type of error; other errors have pydantic's own words."""


def run() -> None:
    """Run the command that this process's arguments name."""
    line = os.environ.get("_TYPER_COMPLETE_ARGS") or os.environ.get("COMP_WORDS")  # that a shell is to complete
    first = (line.split() if line else sys.argv)[1:2]
    names = () if first == ["--version"] else [name for name in first if name in COMMANDS] or COMMANDS
    try:
        app(names)(prog_name="rankviz", standalone_mode=False)
    except typer.exceptions.TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # Typer's, and private there; its message is the help
            print(error.format_message(), file=sys.stderr)
            sys.exit(error.exit_code)
        cause = error.__cause__  # pydantic's, with which Typer reads values
        if type(cause).__name__ == "ValidationError":
            first = cause.errors()[0]
            words = REASONS.get(first["type"], first["msg"].removeprefix("Value error, "))
            error.message = words.format(**first.get("ctx", {}))
        fail(error.format_message(), error.exit_code)
    except typer.Abort:
        fail("Stopped.", 130)
