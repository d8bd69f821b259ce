"""Writes the script as a Jupyter notebook, for any machine or for Colab: the same code with one cell per part."""

import json
from typing import Any

from rankviz import __version__
from rankviz.export import script, templates
from rankviz.export.recipe import Recipe
from rankviz.export.script import header, parts
from rankviz.export.words import title

OPEN_IN_COLAB = (
    "In Colab, choose File > Upload notebook, then Runtime > Change runtime type > T4 GPU, then Runtime > Run all."
)


def notebook(recipe: Recipe) -> str:
    """For Jupyter."""
    return _notebook(recipe, script.notebook_cell(recipe.training.framework), {"accelerator": "GPU"})


def colab(recipe: Recipe) -> str:
    """For Google Colab on a free T4: it keeps Colab's torch, and asks for the file with the data."""
    return _notebook(
        recipe,
        script.colab_cell(recipe.training.framework),
        {"accelerator": "GPU", "colab": {"gpuType": "T4", "provenance": []}},
        first=OPEN_IN_COLAB,
        settings=templates.UPLOAD,
        last=templates.DOWNLOAD,
    )


def _notebook(
    recipe: Recipe, installing: str, metadata: dict[str, Any], *, first: str = "", settings: str = "", last: str = ""
) -> str:
    """nbformat 4.5, with ids that are the same every time.

    installing: the first cell. first: a sentence under the title. settings: code after the settings. last: the code of
    one more cell.
    """
    name, *rest = header(recipe)
    cells = [
        _markdown("title", "\n\n".join([f"# {title(recipe)}", *([first] if first else []), *rest])),
        _code("install", installing),
    ]
    for number, part in enumerate(parts(recipe), 1):
        more = settings if part.heading == "Settings" else ""
        cells += [
            _markdown(f"about-{number}", f"## {part.heading}"),
            _code(f"step-{number}", (part.code + more).rstrip("\n")),
        ]
    if last:
        cells += [_markdown("about-download", "## Download"), _code("download", last.rstrip("\n"))]
    return (
        json.dumps(
            {
                "cells": cells,
                "metadata": {
                    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                    "language_info": {"name": "python"},
                    **metadata,
                    "rankviz": {"version": __version__, "recipe": name},
                },
                "nbformat": 4,
                "nbformat_minor": 5,
            },
            indent=1,
            ensure_ascii=False,
        )
        + "\n"
    )


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
