"""The reference in docs/http_and_mcp.md: the named endpoints with their parameters and results, from the built page."""

from collections import Counter
from inspect import signature
from typing import Any

import gradio as gr
from gradio.utils import get_function_description

from docs.generate import results
from docs.generate.markdown import table
from rankviz.endpoints import TOOLS

COMMON = 3
"""Parameters that this many endpoints have alike are described once."""
FEW = 4
"""An endpoint with at most so many parameters of its own is a row of one table."""
HEADING = ["Parameter", "Meaning", "Default"]


def endpoints(page: gr.Blocks) -> dict[str, Any]:
    """The functions behind the named endpoints, by name."""
    return {fn.api_name: fn.fn for fn in page.fns.values() if fn.api_visibility == "public" and fn.api_name}


def reference(page: gr.Blocks) -> str:
    """A table of what endpoints share, one of small endpoints, and a section for each large one."""
    parameters = {name: _parameters(name, function) for name, function in endpoints(page).items()}
    counts = Counter(row for rows in parameters.values() for row in rows)
    common = [row for row, count in counts.items() if count >= COMMON]
    parts, small = ["### Common parameters\n\n" + table(HEADING, common)], []
    for name, function in endpoints(page).items():
        own = [row for row in parameters[name] if row not in common]
        shared = ", ".join(row[0] for row in parameters[name] if row in common)
        result = results.returned(signature(function).return_annotation)
        about = f"{get_function_description(function)[0].strip()} Returns: {result}."
        if len(own) <= FEW:
            cells = [f"{row[0]}: {row[1]} {f'({row[2]})' if row[2] else ''}".strip() for row in own]
            small.append([f"`/{name}`", about, " ".join(filter(None, [*cells, shared]))])
        else:
            also = f" Common parameters: {shared}." if shared else ""
            parts.append(f"### `/{name}`\n\n{about}{also}\n\n{table(HEADING, own)}")
    parts.insert(1, "### Small endpoints\n\n" + table(["Endpoint", "What it does", "Parameters (default)"], small))
    return "\n\n".join(parts)


def _parameters(name: str, function: Any) -> list[tuple[str, str, str]]:
    meanings = get_function_description(function)[1]
    return [
        (f"`{each.name}`", meanings.get(each.name, ""), _default(each, each.name == TOOLS[name][0]))
        for each in signature(function).parameters.values()
    ]


def answers(page: gr.Blocks) -> str:
    """A row per kind of object in the results."""
    return results.objects(signature(function).return_annotation for function in endpoints(page).values())


def _default(parameter: Any, needed: bool) -> str:
    if needed:  # by default empty, which is refused with a sentence
        return "required"
    return f"`{parameter.default!r}`" if parameter.default not in (None, "") else ""
