"""Writes the script as a Jupyter notebook: the same code with one cell per part."""

import json
from typing import Any

from rankviz import __version__
from rankviz.export.recipe import Recipe
from rankviz.export.script import header, parts
from rankviz.export.words import DATA, title

INSTALL = {
    "unsloth": "%pip install --quiet unsloth",
    "trl": "%pip install --quiet trl peft bitsandbytes",
    "peft": "%pip install --quiet peft bitsandbytes",
}


def notebook(recipe: Recipe) -> str:
    """nbformat 4.5, with ids that are the same every time."""
    first, *rest = header(recipe)
    cells = [
        _markdown("title", f"# {title(recipe)}\n\n" + "\n\n".join(rest)),
        _code("install", INSTALL[recipe.training.framework]),
    ]
    for number, part in enumerate(parts(recipe), 1):
        about = f"\n\nPut the data beside this notebook. `{DATA}`" if part.heading == "The training" else ""
        cells += [
            _markdown(f"about-{number}", f"## {part.heading}{about}"),
            _code(f"step-{number}", part.code.rstrip("\n")),
        ]
    return (
        json.dumps(
            {
                "cells": cells,
                "metadata": {
                    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                    "language_info": {"name": "python"},
                    "accelerator": "GPU",
                    "rankviz": {"version": __version__, "recipe": first},
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
