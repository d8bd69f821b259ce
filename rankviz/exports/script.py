"""Writes the Python script for Unsloth, TRL or plain PEFT, and the same code as a notebook for Jupyter or Colab."""

import inspect
import json
import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from rankviz import __version__
from rankviz.core.cost.notes import in_fp32
from rankviz.core.cost.stack import overflows_in_fp16
from rankviz.core.lora.config import PEFT_VERSION, UNSLOTH_VERSION, Framework
from rankviz.core.runs.request import WARMUP_STEPS_SHARE
from rankviz.dataset import rows
from rankviz.exports.recipe import (
    EVAL_STEPS,
    FRAMEWORKS,
    HELD_OUT_SHARE,
    LOGGING_STEPS,
    SCHEDULER,
    SEED,
    WEIGHT_DECAY,
    Recipe,
)
from rankviz.exports.words import FILE_NAME, commented, data_of_scripts, sources, title
from rankviz.paths import ASSETS

if TYPE_CHECKING:
    from jinja2 import Environment

PINNED = {
    "unsloth": UNSLOTH_VERSION,
    "unsloth_zoo": "2026.10.9",
    "trl": "1.15.0",
    "peft": PEFT_VERSION,
    "transformers": "5.17.0",
    "datasets": "4.8.5",
    "bitsandbytes": "0.50.2",
}
"""With these versions the scripts are run in tests/exports/code/test_scripts_train.py. unsloth_zoo, which unsloth asks
for without an upper limit, has the pattern that finds the layers."""
LEFT_OUT = {"unsloth": (), "trl": ("unsloth", "unsloth_zoo"), "peft": ("unsloth", "unsloth_zoo", "trl")}
"""What a framework's script does not use."""
PYTHON = ">=3.11"
"""What TRL 1.15 needs."""


def requirements(framework: Framework) -> tuple[str, ...]:
    """ "unsloth==2026.10.9" and what else the framework's script imports."""
    return tuple(f"{name}=={version}" for name, version in PINNED.items() if name not in LEFT_OUT[framework])


def above_script(framework: Framework) -> str:
    """Comment lines: the pip command, and the header by which `uv run` installs the same (PEP 723)."""
    listed = "".join(f'#     "{requirement}",\n' for requirement in requirements(framework))
    return (
        "# Install this first, or start this file with `uv run`, which installs it:\n"
        f"# pip install {' '.join(requirements(framework))}\n"
        f'#\n# /// script\n# requires-python = "{PYTHON}"\n# dependencies = [\n{listed}# ]\n# ///\n#\n'
    )


EXACT = {"fp16": "torch.float16", "fp32": "torch.float32"}
"""Precisions that any card can do."""


def fp16_notes(recipe: Recipe) -> tuple[str, ...]:
    """What fp16 does to this model; nothing where it is fine."""
    if not overflows_in_fp16(recipe.model_type):
        return ()
    framework, precision = recipe.training.framework, recipe.training.precision
    if framework == "unsloth":
        return (in_fp32("In fp16" if precision == "fp16" else "On a card without bf16, such as a T4,"),)
    if precision == "fp16":
        return (
            f"fp16 overflows in this model, and {FRAMEWORKS[framework]} does not prevent it: the loss can become NaN. "
            "Choose bf16 or fp32, or Unsloth, which computes it in fp32.",
        )
    return ()


class ScriptStep(NamedTuple):
    """One step of a script."""

    heading: str
    code: str


ATTENTION = {"flash": "flash_attention_2", "eager": "eager"}
CHECKPOINTING = {"unsloth": '"unsloth"', "hf": "True", "none": "False"}
OPTIMIZERS = {
    "adamw_8bit": "AdamW8bit",
    "paged_adamw_8bit": "PagedAdamW8bit",
    "adamw_torch": "torch.optim.AdamW",
    "sgd": "torch.optim.SGD",
}
"""TrainingArguments' name of an optimizer to its class: the first two are bitsandbytes' own."""
FORM_UNKNOWN = (
    'None  # taken from the columns; or "messages", "conversations", "prompt-completion", "instruction" or "text"'
)
SHOWN_ROWS = 4
NEW_TOKENS = 128
TOKENS = "OTHER =" + inspect.getsource(rows).partition("OTHER =")[2]
"""The functions by which RankViz's own runs tokenize, as they stand."""


def script(recipe: Recipe) -> str:
    """It says how to install what it needs, trains, evaluates on held-out rows, saves adapter and tokenizer, and shows
    answers from before and after."""
    above = above_script(recipe.training.framework) + commented(header(recipe))
    return above + "\n" + "\n".join(part.code for part in parts(recipe))


def header(recipe: Recipe) -> tuple[str, ...]:
    """What stands above it: what it is, by whose count, and what the program does otherwise than asked."""
    return (f"{title(recipe)}.", sources(recipe), *recipe.notes, *_otherwise(recipe))


def parts(recipe: Recipe, *, colab: bool = False) -> tuple[ScriptStep, ...]:
    """The steps, each of which a notebook has as a cell. colab: with cells for the upload and the download of files."""
    text = templates().get_template("train.py.jinja").render(**_values(recipe), colab=colab)
    _, *steps = HEADING.split(text)
    return tuple(map(ScriptStep, steps[::2], steps[1::2]))


HEADING = re.compile(r"^#%% (.*)\n", re.MULTILINE)
"""The line of a template at which a step begins."""


@cache
def templates() -> "Environment":
    """The templates of scripts, in assets/templates."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(ASSETS / "templates")
    made = Environment(
        loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    made.filters |= {"repr": repr, "json": json.dumps, "commas": "{:,}".format}
    return made


def _otherwise(recipe: Recipe) -> list[str]:
    """Settings that the program has no word for."""
    setup, notes = recipe.training, [*fp16_notes(recipe)]
    if recipe.loads_whole_for_text and recipe.training.framework != "unsloth":
        notes.append(
            "transformers loads this model with its other towers. The pattern in target_modules keeps to the text "
            "tower."
        )
    if recipe.training.framework == "unsloth":
        if setup.precision == "nf4":
            notes.append("Unsloth always quantizes the constants of a 4-bit base too, as nf4-dq does.")
        if setup.attn_implementation != "sdpa":
            notes.append(f"Unsloth chooses the attention itself: {setup.attn_implementation!r} is not set.")
        if setup.loss_path != "fused":
            notes.append(f"Unsloth chooses the loss itself: loss path {setup.loss_path!r} is not set.")
        return notes
    if setup.gradient_checkpointing == "unsloth":
        notes.append("Unsloth's checkpoints in host memory become plain gradient checkpointing here.")
    if recipe.training.framework == "trl" and setup.loss_path != "fused":
        notes.append(f"TRL computes the loss in chunks by itself: loss path {setup.loss_path!r} is not set.")
    if recipe.training.framework == "peft" and setup.loss_path != "full":
        notes.append(f"The loop's loss holds all logits: loss path {setup.loss_path!r} is not set.")
    return notes


def _values(recipe: Recipe) -> dict[str, object]:
    """What the templates show of a recipe."""
    lora, setup, plan = recipe.lora, recipe.training, recipe.plan
    experts = any(adapted.layer.kind == "experts" for adapted in plan.adapted)
    counted = " or, on a card without bf16, ".join(f"{size:,}" for size in recipe.adapter_bytes)
    return {
        "about": commented(data_of_scripts(recipe)),
        "file": json.dumps(recipe.file_name or FILE_NAME, ensure_ascii=False),
        "form": f'"{recipe.form}"' if recipe.form else FORM_UNKNOWN,
        "framework": setup.framework,
        "loader": plan.unsloth_class,
        "unsloth_flags": plan.unsloth_flags,
        "text_only": lora.text_only and plan.model.tower == "text tower",
        "loads_with_peft": experts and plan.model.peft_remap and plan.scheme == "unsloth",
        "peft": PEFT_VERSION,
        "model_id": recipe.model_id,
        "auto_class": "AutoModelForImageTextToText" if plan.model.is_whole else "AutoModelForCausalLM",
        "model": "model" if setup.framework == "peft" else "trainer.model",
        "precision": setup.precision,
        "quantized": setup.quantized,
        "quantizer": f", {recipe.dequantize}" if recipe.dequantize else ", BitsAndBytesConfig" * setup.quantized,
        "dequantize": recipe.dequantize,
        "exact": EXACT.get(setup.precision),
        "overflows": overflows_in_fp16(recipe.model_type),
        "attention": ATTENTION.get(setup.attn_implementation),
        "checkpointed": setup.gradient_checkpointing != "none",
        "use_gradient_checkpointing": CHECKPOINTING[setup.gradient_checkpointing],
        "raised": _raised(recipe),
        "max_length": recipe.max_length,
        "r": lora.r,
        "lora_alpha": recipe.lora_alpha,
        "target_modules": literal(recipe.target_modules),
        "target_parameters": recipe.target_parameters and literal(recipe.target_parameters),
        "patterns": recipe.patterns,
        "use_rslora": lora.use_rslora,
        "use_dora": lora.use_dora,
        "modules_to_save": list(recipe.modules_to_save) or None,
        "per_device_train_batch_size": setup.per_device_train_batch_size,
        "gradient_accumulation_steps": setup.gradient_accumulation_steps,
        "epochs": recipe.epochs and f"{recipe.epochs:g}",
        "max_steps": recipe.max_steps,
        # transformers takes a number below 1 as a share
        "warmup_steps": WARMUP_STEPS_SHARE if recipe.epochs else recipe.warmup_steps,
        "warmup_share": WARMUP_STEPS_SHARE,
        "learning_rate": recipe.learning_rate,
        "scheduler": SCHEDULER,
        "weight_decay": WEIGHT_DECAY,
        "optim": setup.optim,
        "optimizer": OPTIMIZERS[setup.optim],
        "seed": SEED,
        "held_out_share": HELD_OUT_SHARE,
        "eval_steps": EVAL_STEPS,
        "logging_steps": LOGGING_STEPS,
        "shown_rows": SHOWN_ROWS,
        "new_tokens": NEW_TOKENS,
        "tokens": TOKENS,
        "adapter_parameters": recipe.adapter_parameters,
        "counted": counted and f" RankViz counts {counted}.",
    }


def _raised(recipe: Recipe) -> str:
    """Why what trains may be in 16 bit on a card without bf16, and is raised to fp32; "" where it is not."""
    setup, framework = recipe.training, recipe.training.framework
    if framework == "trl" and setup.quantized:
        return "TRL casts the adapter of a quantized base to bf16"
    copies = recipe.modules_to_save and not setup.quantized and setup.precision != "fp32"
    return "Copies of modules have the base's dtype" if copies and framework != "unsloth" else ""


def literal(names: str | Sequence[str]) -> str:
    """Names as Python has them, in double quotes."""
    if isinstance(names, str):
        return f'"{names}"'
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


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
    """Write the recipe for Google Colab on a free T4: it keeps Colab's torch and asks for the data file."""
    installing = COLAB.format(requirements=" ".join(requirements(recipe.training.framework)))
    metadata = {"accelerator": "GPU", "colab": {"gpuType": "T4", "provenance": []}}
    return _notebook(recipe, installing, parts(recipe, colab=True), metadata, first=(OPEN_IN_COLAB,))


def _notebook(
    recipe: Recipe, installing: str, steps: Sequence[ScriptStep], metadata: dict[str, Any], *, first: Sequence[str] = ()
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
