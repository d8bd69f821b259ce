"""The reference in docs/http_and_mcp.md: every named endpoint with its parameters, from the page as it is built."""

from inspect import signature
from typing import Any

import gradio as gr
from gradio.utils import get_function_description

from docs.generate.markdown import table


def endpoints(page: gr.Blocks) -> dict[str, Any]:
    """The functions behind the named endpoints, by name."""
    return {fn.api_name: fn.fn for fn in page.fns.values() if fn.api_visibility == "public" and fn.api_name}


def reference(page: gr.Blocks) -> str:
    """A section per endpoint."""
    return "\n\n".join(_section(name, function) for name, function in endpoints(page).items())


def _section(name: str, function: Any) -> str:
    description, meanings, _ = get_function_description(function)
    rows = [
        [f"`{parameter.name}`", meanings.get(parameter.name, ""), _default(parameter)]
        for parameter in signature(function).parameters.values()
    ]
    parts = [f"### `/{name}`", description.strip()]
    return "\n\n".join([*parts, table(["Parameter", "Meaning", "Default"], rows)] if rows else parts)


def _default(parameter: Any) -> str:
    if parameter.default is parameter.empty or parameter.default == "":  # empty is refused with a sentence
        return "required"
    return f"`{parameter.default!r}`" if parameter.default is not None else ""
