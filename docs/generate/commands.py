"""The reference in docs/command_line.md: every command with its arguments and options, from the commands themselves."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from docs.generate.markdown import table
from rankviz.cli.commands import app

COMMON = 3
"""Options that this many commands have alike are described once."""
FEW = 5
"""A command with at most so many options of its own is a row of one table."""
Row = tuple[str, str, str]


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
    """A table of what commands share, one of small commands, and a section for each large one."""
    rows = {name: (command, _rows(command)) for name, command in commands()}
    counts = Counter(row for _, each in rows.values() for row in each)
    common = [row for row, count in counts.items() if count >= COMMON]
    small, large = [], []
    for name, (command, options) in rows.items():
        own, shared = [row for row in options if row not in common], [row[0] for row in options if row in common]
        if len(shared) > len(common) / 2:
            lacking = [row[0] for row in common if row[0] not in shared]
            shared = [f"all common ones but {', '.join(lacking)}"]
        about = " ".join(command.help.split())
        if len(own) <= FEW:
            cells = [
                f"{spelled}: {meaning}" + (f" ({default})" if default else "") for spelled, meaning, default in own
            ]
            small.append([f"`rankviz {name}`", about, " ".join([*cells, ", ".join(shared)])])
        else:
            also = f"\n\nOf the common options: {', '.join(shared)}." if shared else ""
            heading = ["Argument or option", "Meaning", "Default"]
            large.append(f"### rankviz {name}\n\n{about}{also}\n\n{table(heading, own)}")
    return "\n\n".join(
        [
            "### Common options\n\n" + table(["Argument or option", "Meaning", "Default"], common),
            "### Small commands\n\n" + table(["Command", "What it does", "Arguments and options"], small),
            *large,
        ]
    )


def _rows(command: Any) -> list[Row]:
    """Spelling, meaning and default of each argument and option."""
    return [
        (_spelled(parameter), parameter.help or "", _default(parameter))
        for parameter in command.params
        if "--help" not in parameter.opts and not getattr(parameter, "hidden", False)
    ]


def _spelled(parameter: Any) -> str:
    if parameter.param_type_name == "option":
        return ", ".join(f"`{name}`" for name in parameter.opts)
    name = parameter.name.upper()
    return f"`{name if parameter.required else f'[{name}]'}{'...' * (parameter.nargs == -1)}`"


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if parameter.default in (None, "", False) or not parameter.show_default:
        return ""
    return f"`{parameter.default}`"
