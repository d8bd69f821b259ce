"""Writes the script as a Jupyter notebook: the same code with one cell per part."""

import json
from typing import Any

from rankviz import __version__
from rankviz.core.lora.config import PEFT_VERSION, UNSLOTH_VERSION
from rankviz.export.recipe import Recipe
from rankviz.export.script import header, parts
from rankviz.export.words import title

PINNED = {
    "unsloth": UNSLOTH_VERSION,
    "unsloth_zoo": "2026.10.9",
    "trl": "1.15.0",
    "peft": PEFT_VERSION,
    "transformers": "5.17.0",
    "datasets": "4.8.5",
    "bitsandbytes": "0.50.2",
}
"""With these versions the scripts are run in tests/export/test_scripts_train.py. The number of trained parameters
depends on them: unsloth_zoo, which unsloth asks for without an upper limit, has the pattern that finds the layers."""
LEFT_OUT = {"unsloth": (), "trl": ("unsloth", "unsloth_zoo"), "peft": ("unsloth", "unsloth_zoo", "trl")}
"""What a framework's script does not use."""
INSTALL = {
    framework: "%pip install --quiet "
    + " ".join(f"{name}=={version}" for name, version in PINNED.items() if name not in left_out)
    for framework, left_out in LEFT_OUT.items()
}


def notebook(recipe: Recipe) -> str:
    """nbformat 4.5, with ids that are the same every time."""
    first, *rest = header(recipe)
    cells = [
        _markdown("title", f"# {title(recipe)}\n\n" + "\n\n".join(rest)),
        _code("install", INSTALL[recipe.training.framework]),
    ]
    for number, part in enumerate(parts(recipe), 1):
        about = "\n\nPut `train.jsonl` beside this notebook." if part.heading == "The data" else ""
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
