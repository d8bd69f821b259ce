"""Writes the Python script for Unsloth, TRL or plain PEFT, and the same code as a notebook for Jupyter or Colab."""

import inspect
import json
import re
from collections.abc import Sequence
from typing import Any, get_args

from rankviz import __version__
from rankviz.core.cost.notes import in_fp32
from rankviz.core.cost.setup import Form
from rankviz.core.cost.stack import overflows_in_fp16
from rankviz.core.lora.config import PEFT_VERSION, UNSLOTH_VERSION, Framework
from rankviz.core.runs.request import WARMUP_STEPS_SHARE
from rankviz.dataset import rows
from rankviz.exports.chat import data
from rankviz.exports.recipe import FRAMEWORKS, Recipe
from rankviz.exports.words import FILE_NAME, commented, sources, templates, title

PINNED = {
    "unsloth": UNSLOTH_VERSION,
    "unsloth_zoo": "2026.10.9",
    "trl": "1.15.0",
    "peft": PEFT_VERSION,
    "transformers": "5.17.0",
    "datasets": "4.8.5",
    "bitsandbytes": "0.50.2",
}
"""Versions with which tests/exports/code/test_scripts_train.py runs the scripts. unsloth_zoo, which unsloth requires
without an upper limit, contains the pattern that finds layers."""
LEFT_OUT = {"unsloth": (), "trl": ("unsloth", "unsloth_zoo"), "peft": ("unsloth", "unsloth_zoo", "trl")}
"""Packages that a framework's script does not use."""
PYTHON = ">=3.11"
"""Python versions that TRL 1.15 supports."""


def requirements(framework: Framework) -> tuple[str, ...]:
    """Return requirements such as "unsloth==2026.10.9" for the packages that the framework's script imports."""
    return tuple(f"{name}=={version}" for name, version in PINNED.items() if name not in LEFT_OUT[framework])


FORM_UNKNOWN = (
    'None  # taken from the columns; or "messages", "conversations", "prompt-completion", "instruction" or "text"'
)
TOKENS = "OTHER =" + inspect.getsource(rows).partition("OTHER =")[2]
"""Source code of the functions with which RankViz's own runs tokenize; the script contains it unchanged."""


def script(recipe: Recipe) -> str:
    """Write a script that trains, evaluates on held-out examples, saves adapter and tokenizer, and shows answers from
    before and after training. Above it stand the pip command, and the PEP 723 header from which `uv run` installs."""
    needed = requirements(recipe.training.framework)
    listed = "".join(f'#     "{requirement}",\n' for requirement in needed)
    return (
        "# Install this first, or start this file with `uv run`, which installs it:\n"
        f"# pip install {' '.join(needed)}\n"
        f'#\n# /// script\n# requires-python = "{PYTHON}"\n# dependencies = [\n{listed}# ]\n# ///\n#\n'
        f"{commented(header(recipe))}\n" + "\n".join(code for _, code in parts(recipe))
    )


def header(recipe: Recipe) -> tuple[str, ...]:
    """Return the sentences above the code: title, origin of the counts, differences from the request."""
    return (f"{title(recipe)}.", sources(recipe), *recipe.notes, *_differences(recipe))


HEADING = re.compile(r"^#%% (.*)\n", re.MULTILINE)
"""Heading line in the template, with which a step begins."""


def parts(recipe: Recipe, *, colab: bool = False) -> list[tuple[str, str]]:
    """Return heading and code of each step, one per notebook cell. colab: with cells that upload and download files."""
    text = templates().get_template("train.py.jinja").render(**_values(recipe), colab=colab)
    _, *steps = HEADING.split(text)
    return list(zip(steps[::2], steps[1::2], strict=True))


def _differences(recipe: Recipe) -> list[str]:
    """Return notes on settings that the program cannot express, and on the effect of fp16 on this model."""
    setup, framework, precision, notes = recipe.training, recipe.training.framework, recipe.training.precision, []
    if overflows_in_fp16(recipe.model_type) and framework == "unsloth":
        notes.append(in_fp32("In fp16" if precision == "fp16" else "On a card without bf16, such as a T4,"))
    elif overflows_in_fp16(recipe.model_type) and precision == "fp16":
        notes.append(
            f"fp16 overflows in this model, and {FRAMEWORKS[framework]} does not prevent it: the loss can become NaN. "
            "Choose bf16 or fp32, or Unsloth, which computes it in fp32."
        )
    usual = "full" if framework == "peft" else "fused"
    unset = [f"loss path {setup.loss_path!r}"] * (setup.loss_path != usual)
    if framework == "unsloth":
        unset += [f"attention {setup.attn_implementation!r}"] * (setup.attn_implementation != "sdpa")
        unset += ["nf4 without double quantization"] * (precision == "nf4")
    elif setup.gradient_checkpointing == "unsloth":
        notes.append("Unsloth's checkpoints in host memory become plain gradient checkpointing here.")
    if recipe.loads_whole_for_text and framework != "unsloth":
        notes.append(
            "transformers loads this model with its other towers. The pattern in target_modules keeps to the text "
            "tower."
        )
    if unset:
        notes.append(f"{FRAMEWORKS[framework]} has its own way here, so not set: {', '.join(unset)}.")
    return notes


def _values(recipe: Recipe) -> dict[str, object]:
    lora, setup, plan, named = recipe.lora, recipe.training, recipe.plan, data()["settings"]["script"]
    experts = any(adapted.layer.kind == "experts" for adapted in plan.adapted)
    counted = " or, on a card without bf16, ".join(f"{size:,}" for size in recipe.adapter_bytes)
    return {
        "recipe": recipe,
        "setup": setup,
        "lora": lora,
        "plan": plan,
        "forms": (recipe.data.form,) if recipe.data.form else get_args(Form),
        "file": json.dumps(recipe.data.file_name or FILE_NAME, ensure_ascii=False),
        "form": f'"{recipe.data.form}"' if recipe.data.form else FORM_UNKNOWN,
        "text_only": lora.text_only and plan.model.tower == "text tower",
        "loads_with_peft": experts and plan.model.peft_remap and plan.scheme == "unsloth",
        "peft": PEFT_VERSION,
        "auto_class": "AutoModelForImageTextToText" if plan.model.is_whole else "AutoModelForCausalLM",
        "model": "model" if setup.framework == "peft" else "trainer.model",
        "quantizer": f", {recipe.dequantize}" if recipe.dequantize else ", BitsAndBytesConfig" * setup.quantized,
        "exact": named["dtype"].get(setup.precision),
        "overflows": overflows_in_fp16(recipe.model_type),
        "attention": named["attn_implementation"].get(setup.attn_implementation),
        "checkpointed": setup.gradient_checkpointing != "none",
        "use_gradient_checkpointing": named["gradient_checkpointing"][setup.gradient_checkpointing],
        "raised": _raised(recipe),
        "max_length": setup.max_length,
        "target_modules": json.dumps(recipe.target_modules),
        "target_parameters": recipe.target_parameters and json.dumps(recipe.target_parameters),
        "modules_to_save": list(recipe.plan.modules_to_save) or None,
        "epochs": recipe.epochs and f"{recipe.epochs:g}",
        # transformers takes a number below 1 as a share
        "warmup_steps": WARMUP_STEPS_SHARE if recipe.epochs else recipe.warmup_steps,
        "warmup_share": WARMUP_STEPS_SHARE,
        "optimizer": named["optim"][setup.optim],
        "shown_rows": 4,
        "new_tokens": 128,
        "tokens": TOKENS,
        "counted": counted and f" RankViz counts {counted}.",
    }


def _raised(recipe: Recipe) -> str:
    """Return why trained weights could be in 16 bit on a card without bf16 and are raised to fp32; else empty."""
    setup, framework = recipe.training, recipe.training.framework
    if framework == "trl" and setup.quantized:
        return "TRL casts the adapter of a quantized base to bf16"
    copies = recipe.plan.modules_to_save and not setup.quantized and setup.precision != "fp32"
    return "Copies of modules have the base's dtype" if copies and framework != "unsloth" else ""


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
    """Write the recipe as a Jupyter notebook."""
    installing = f"%pip install --quiet {' '.join(requirements(recipe.training.framework))}"
    return _notebook(recipe, installing, parts(recipe), {"accelerator": "GPU"})


def colab(recipe: Recipe) -> str:
    """Write the recipe for Google Colab on a free T4: the notebook keeps Colab's torch and asks for the data file."""
    installing = COLAB.format(requirements=" ".join(requirements(recipe.training.framework)))
    metadata = {"accelerator": "GPU", "colab": {"gpuType": "T4", "provenance": []}}
    return _notebook(recipe, installing, parts(recipe, colab=True), metadata, OPEN_IN_COLAB)


def _notebook(
    recipe: Recipe, installing: str, steps: Sequence[tuple[str, str]], metadata: dict[str, Any], *under_title: str
) -> str:
    """Return a notebook of nbformat 4.5 with stable cell ids. installing: code of the first cell."""
    name, *rest = header(recipe)
    cells = [
        _cell("markdown", "title", "\n\n".join([f"# {title(recipe)}", *under_title, *rest])),
        _cell("code", "install", installing),
    ]
    for number, (heading, code) in enumerate(steps, 1):
        about, step = f"about-{number}", f"step-{number}"
        if heading == "Download":
            about, step = "about-download", "download"
        cells += [_cell("markdown", about, f"## {heading}"), _cell("code", step, code.rstrip("\n"))]
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


def _cell(kind: str, cell_id: str, text: str) -> dict[str, Any]:
    run = {"execution_count": None, "outputs": []} if kind == "code" else {}
    return {"cell_type": kind, "id": cell_id, "metadata": {}, **run, "source": text.splitlines(keepends=True)}
