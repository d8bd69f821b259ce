"""The reference in docs/http_and_mcp.md: the named endpoints with their parameters and results, from the built page."""

from inspect import signature
from typing import Any

import gradio as gr
from gradio.utils import get_function_description

from docs.generate import results
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
    parameters = table(["Parameter", "Meaning", "Default"], rows) if rows else "No parameters."
    result = f"Returns: {results.returned(signature(function).return_annotation)}."
    return "\n\n".join([f"### `/{name}`", description.strip(), parameters, result])


def answers(page: gr.Blocks) -> str:
    """A section per kind of object in the results."""
    return results.objects(signature(function).return_annotation for function in endpoints(page).values())


def _default(parameter: Any) -> str:
    if parameter.default is parameter.empty or parameter.default == "":  # empty is refused with a sentence
        return "required"
    return f"`{parameter.default!r}`" if parameter.default is not None else ""
