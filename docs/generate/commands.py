"""The reference in docs/command_line.md: every command with its arguments and options, from the commands themselves."""

from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from docs.generate.markdown import table
from rankviz.cli.commands import app

SHARED = "estimate"
"""The command whose options others have too: they refer to it instead of repeating them."""
OWN = ("`--json`", "`--plot`")
"""Not every command has them, so each lists them itself."""


def commands() -> Iterator[tuple[str, Any]]:
    """Every command that does something, by its name: ("runs list", command)."""
    yield from _walk(get_command(app()), "")


def _walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", None)
    if not children:
        yield name, command
        return
    for key, child in children.items():
        yield from _walk(child, f"{name} {key}".strip())


def reference() -> str:
    """A section per command."""
    known = dict(commands())
    shared = _options(known[SHARED])
    return "\n\n".join(_section(name, command, shared) for name, command in known.items())


def _section(name: str, command: Any, shared: list[list[str]]) -> str:
    arguments, options = _arguments(command), _options(command)
    parts = [f"### rankviz {name}", command.help.replace("\n", " ")]
    common = [row for row in shared if row[0] not in OWN]
    if name != SHARED and all(row in options for row in common):
        parts.append(f"It has the options of [`rankviz {SHARED}`](#rankviz-{SHARED}), and:")
        options = [row for row in options if row not in common]
    if rows := arguments + options:
        parts.append(table(["Argument or option", "Meaning", "Default"], rows))
    return "\n\n".join(parts)


def _arguments(command: Any) -> list[list[str]]:
    return [
        [f"`{_spelled(parameter)}`", parameter.help or "", "required" if parameter.required else ""]
        for parameter in command.params
        if parameter.param_type_name == "argument"
    ]


def _options(command: Any) -> list[list[str]]:
    return [
        [", ".join(f"`{name}`" for name in parameter.opts), parameter.help or "", _default(parameter)]
        for parameter in command.params
        if parameter.param_type_name == "option" and "--help" not in parameter.opts
    ]


def _spelled(parameter: Any) -> str:
    name = parameter.name.upper()
    several = parameter.nargs == -1
    return (name if parameter.required else f"[{name}]") + ("..." if several else "")


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if parameter.default in (None, "", False) or not parameter.show_default:
        return ""
    return f"`{parameter.default}`"
