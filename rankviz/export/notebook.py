"""Writes the script as a Jupyter notebook, for any machine or for Colab: the same code with one cell per part."""

import json
from collections.abc import Sequence
from typing import Any

from rankviz import __version__
from rankviz.export.recipe import Recipe
from rankviz.export.script import Part, header, parts, requirements
from rankviz.export.words import title

OPEN_IN_COLAB = (
    "In Colab, choose File > Upload notebook, then Runtime > Change runtime type > T4 GPU, then Runtime > Run all."
)


COLAB = """\
from importlib.metadata import version

torch_version = version("torch").split("+")[0]  # Colab's own stays: it matches the driver
torch_2_11 = tuple(map(int, torch_version.split(".")[:2])) >= (2, 11)
torchao_version = "0.18.0" if torch_2_11 else "0.16.0"  # PEFT needs 0.16, and newer ones need torch 2.11
%pip install --quiet torch=={{torch_version}} torchao=={{torchao_version}} {requirements}"""


def notebook(recipe: Recipe) -> str:
    """For Jupyter."""
    installing = f"%pip install --quiet {' '.join(requirements(recipe.training.framework))}"
    return _notebook(recipe, installing, parts(recipe), {"accelerator": "GPU"})


def colab(recipe: Recipe) -> str:
    """For Google Colab on a free T4: it keeps Colab's torch, and asks for the file with the data."""
    installing = COLAB.format(requirements=" ".join(requirements(recipe.training.framework)))
    metadata = {"accelerator": "GPU", "colab": {"gpuType": "T4", "provenance": []}}
    return _notebook(recipe, installing, parts(recipe, colab=True), metadata, first=(OPEN_IN_COLAB,))


def _notebook(
    recipe: Recipe, installing: str, steps: Sequence[Part], metadata: dict[str, Any], *, first: Sequence[str] = ()
) -> str:
    """nbformat 4.5, with ids that are the same every time. installing: the first cell. first: under the title."""
    name, *rest = header(recipe)
    cells = [
        _markdown("title", "\n\n".join([f"# {title(recipe)}", *first, *rest])),
        _code("install", installing),
    ]
    for number, part in enumerate(steps, 1):
        about, step = (f"about-{number}", f"step-{number}")
        if part.heading == "Download":
            about, step = "about-download", "download"
        cells += [_markdown(about, f"## {part.heading}"), _code(step, part.code.rstrip("\n"))]
    notebook = {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            **metadata,
            "rankviz": {"version": __version__, "recipe": name},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def _markdown(cell_id: str, text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": cell_id, "metadata": {}, "source": text.splitlines(keepends=True)}


def _code(cell_id: str, text: str) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "id": cell_id,
        "metadata": {},
        "execution_count": None,
        "outputs": [],
        "source": text.splitlines(keepends=True),
    }
