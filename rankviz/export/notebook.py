"""Writes the script as a Jupyter notebook: the same code with one cell per part."""

import json
from typing import Any

from rankviz import __version__
from rankviz.core.lora.config import PEFT_VERSION, UNSLOTH_VERSION
from rankviz.export.recipe import Recipe
from rankviz.export.script import header, parts
from rankviz.export.words import title

TRL_VERSION = "1.15.0"
TRANSFORMERS_VERSION = "5.17.0"
"""With these versions the scripts are run in tests/export/test_scripts_train.py."""
_COMMON = f"peft=={PEFT_VERSION} transformers=={TRANSFORMERS_VERSION}"
INSTALL = {
    "unsloth": f"%pip install --quiet unsloth=={UNSLOTH_VERSION} trl=={TRL_VERSION} {_COMMON}",
    "trl": f"%pip install --quiet trl=={TRL_VERSION} {_COMMON} bitsandbytes",
    "peft": f"%pip install --quiet {_COMMON} datasets bitsandbytes",
}
"""Pinned, since the number of trained parameters depends on them."""


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
