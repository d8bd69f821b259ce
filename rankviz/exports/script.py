"""Writes the Python script for Unsloth, TRL or plain PEFT, and the same code as a notebook for Jupyter or Colab."""

import inspect
import json
import re
import shlex
from collections.abc import Sequence
from functools import cache
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from rankviz import __version__
from rankviz.catalog.hardware import load_serving
from rankviz.core.cost.notes import in_fp32
from rankviz.core.cost.setup import DELIMITERS, ENCODINGS, TrainingData
from rankviz.core.cost.stack import overflows_in_fp16
from rankviz.core.lora.config import PEFT_VERSION, UNSLOTH_VERSION, Framework
from rankviz.core.lora.vllm import loading
from rankviz.core.runs.request import WARMUP_STEPS_SHARE
from rankviz.core.serving import command, gguf
from rankviz.dataset import rows
from rankviz.exports.recipe import FRAMEWORKS, Recipe, data, published
from rankviz.paths import ASSETS

if TYPE_CHECKING:
    from jinja2 import Environment

WIDTH = 100
"""Maximum characters of a comment line."""


def commented(sentences: Sequence[str]) -> str:
    """Return each sentence as comment lines, for Python and YAML."""
    return "".join(f"# {line}\n" for each in sentences for line in wrap(each, WIDTH - 2))


def _yaml(value: Any) -> str:
    """Return a mapping as lines of YAML settings, or a single value as YAML."""
    import yaml

    if isinstance(value, dict):
        return yaml.safe_dump(value, sort_keys=False, allow_unicode=True).rstrip("\n")
    return yaml.safe_dump([value], allow_unicode=True)[2:].rstrip("\n")


@cache
def templates() -> "Environment":
    """Return the environment of assets/templates with its filters (repr, shell, json, commas, yaml, comment), and
    the constants of all exports."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(ASSETS / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    constants = data()["constants"]
    held_out = f"{100 * constants['held_out_share']:g} % of the rows are held out; their loss shows when to stop."
    made.globals |= {**constants, "row_of": data()["rows"], "held_out": held_out}
    made.filters |= {"repr": repr, "shell": shlex.quote, "json": json.dumps, "commas": "{:,}".format, "yaml": _yaml}
    made.filters["comment"] = lambda sentences: commented(sentences).rstrip("\n")
    return made


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
PROMPTS = f"PROMPTS = {rows.PROMPTS}\n\n\n" + "\n\n".join(
    map(inspect.getsource, (rows.text_in, rows.chat_in, rows.as_prompt))
)
"""Source code of the functions that read a row of prompts; the script for GRPO contains it unchanged."""
TOKENS = "OTHER =" + inspect.getsource(rows).partition("OTHER =")[2]
"""Source code of the functions with which RankViz's own runs tokenize; the script contains it unchanged."""


def script(recipe: Recipe) -> str:
    """Write a script that trains, evaluates on held-out examples, saves adapter and tokenizer, and shows answers from
    before and after training. Above it stand the pip command, and the PEP 723 header from which `uv run` installs."""
    needed = requirements(recipe.training.framework)
    needed += ("deepspeed",) if recipe.training.strategy.startswith("zero") else ()
    listed = "".join(f'#     "{requirement}",\n' for requirement in needed)
    first = "# Install this first, or start this file with `uv run`, which installs it:\n"
    metadata = f'#\n# /// script\n# requires-python = "{PYTHON}"\n# dependencies = [\n{listed}# ]\n# ///\n#\n'
    if recipe.training.gpus > 1:  # `uv run` would start one process
        first, metadata = "# Install this first:\n", "#\n"
    grpo = recipe.training.grpo
    if grpo and grpo.vllm_mode != "none":  # vLLM decides on torch's version, so `uv run` cannot install both
        first, metadata = "# In an environment of its own install vLLM first (docs.vllm.ai), then this:\n", "#\n"
    return f"{first}# pip install {' '.join(needed)}\n{metadata}{commented(header(recipe))}\n" + "\n".join(
        code for _, code in parts(recipe)
    )


def merging(recipe: Recipe, *, gguf: bool = False) -> str:
    """Write a script that merges a trained adapter into its base. gguf: True to write the result as GGUF too."""
    unsloth, exact = recipe.training.framework == "unsloth", data()["settings"]["script"]["dtype"]
    names = ("unsloth", "unsloth_zoo") if unsloth else ("peft", "transformers")
    needed = [f"{name}=={PINNED[name]}" for name in names]
    head = f"# Install this first:\n# pip install {' '.join(needed)}\n{commented([f'{recipe.title}.'])}\n"
    values = {"recipe": recipe, "unsloth": unsloth, "gguf": gguf, "exact": exact.get(recipe.training.precision)}
    return head + templates().get_template("merge.py.jinja").render(**values)


HEADING = re.compile(r"^#%% (.*)\n", re.MULTILINE)
"""Heading line in the template, with which a step begins."""


def header(recipe: Recipe) -> list[str]:
    """Return the sentences above the code: title, origin of the counts, differences from the request, settings that
    the program cannot express, and the effect of fp16 on this model."""
    setup, framework, precision = recipe.training, recipe.training.framework, recipe.training.precision
    notes = [f"{recipe.title}.", recipe.sources, *recipe.notes]
    if overflows_in_fp16(recipe.model_type) and framework == "unsloth":
        notes.append(in_fp32("In fp16" if precision == "fp16" else "On a card without bf16, such as a T4,"))
    elif overflows_in_fp16(recipe.model_type) and precision == "fp16":
        notes.append("fp16 overflows in this model: the loss can become NaN. Choose bf16, fp32 or Unsloth.")
    usual = "full" if framework == "peft" else "fused"
    unset = [f"loss path {setup.loss_path!r}"] * (setup.loss_path != usual)
    if framework == "unsloth":
        unset += [f"attention {setup.attn_implementation!r}"] * (setup.attn_implementation != "sdpa")
        unset += ["nf4 without double quantization"] * (precision == "nf4")
    elif setup.gradient_checkpointing == "unsloth":
        notes.append("Unsloth's checkpoints in host memory become plain gradient checkpointing here.")
    if recipe.plan.model.tower == "whole for text" and framework != "unsloth":
        notes.append("transformers loads the other towers too; target_modules keeps to the text tower.")
    if unset:
        notes.append(f"{FRAMEWORKS[framework]} has its own way here, so not set: {', '.join(unset)}.")
    return notes


def as_read(data: TrainingData) -> dict[str, Any]:
    """Return how the file of examples is read: its columns, encoding and delimiter, and if it has system messages."""
    return {
        "columns": rows.columns_of(data.columns),
        "encoding": next((trait for trait in data.traits if trait in ENCODINGS), ""),
        "delimiter": next((DELIMITERS[trait] for trait in data.traits if trait in DELIMITERS), ""),
        "has_system": "system" in data.traits,
    }


def parts(recipe: Recipe, *, colab: bool = False) -> list[tuple[str, str]]:
    """Return heading and code of each step, one per notebook cell. colab: with cells that upload and download files."""
    lora, setup, plan, named = recipe.lora, recipe.training, recipe.plan, data()["settings"]["script"]
    experts = any(adapted.layer.kind == "experts" for adapted in plan.adapted)
    raised = ""  # why trained weights could be in 16 bit on a card without bf16, where they are raised to fp32
    if setup.framework == "trl" and setup.quantized:
        raised = "TRL casts the adapter of a quantized base to bf16"
    elif plan.modules_to_save and setup.framework != "unsloth" and not setup.quantized and setup.precision != "fp32":
        raised = "Copies of modules have the base's dtype"
    facts = load_serving(ASSETS)
    slot_rank, refused = loading(plan, lora.r, facts)
    _, gguf_alpha, stops = gguf(plan, lora)
    serving = []
    if stops:
        serving.append(f"llama.cpp has no adapter file for this one ({', '.join(each['feature'] for each in stops)}).")
    elif gguf_alpha != lora.lora_alpha:
        serving.append(f"For llama.cpp, first set lora_alpha to {gguf_alpha:.6g}: it does not know rsLoRA.")
    reasons = "; ".join(f"{each['feature']}: {each['why']}" for each in refused)
    about = f"refuses this adapter ({reasons}). The merged model:" if refused else "serves the adapter:"
    serving.append(f"vLLM {facts['vllm']['version']} {about}")
    counted = " or, on a card without bf16, ".join(f"{size:,}" for size in recipe.adapter_bytes)
    values = {
        "colab": colab,
        "recipe": recipe,
        "setup": setup,
        "grpo": setup.grpo,
        "lora": lora,
        "plan": plan,
        "forms": (recipe.data.form,) if recipe.data.form else tuple(rows.REQUIRED),
        "file": json.dumps(recipe.file_name, ensure_ascii=False),
        "form": f'"{recipe.data.form}"' if recipe.data.form else FORM_UNKNOWN,
        **as_read(recipe.data),
        "loads_with_peft": experts and plan.model.peft_remap and plan.scheme == "unsloth",
        "peft": PEFT_VERSION,
        "auto_class": "AutoModelForImageTextToText" if plan.model.is_whole else "AutoModelForCausalLM",
        "model": "model" if setup.framework == "peft" else "trainer.model",
        "quantizer": f", {recipe.dequantize}" if recipe.dequantize else ", BitsAndBytesConfig" * setup.quantized,
        "exact": named["dtype"].get(setup.precision),
        "overflows": overflows_in_fp16(recipe.model_type),
        "attention": named["attn_implementation"].get(setup.attn_implementation),
        "use_gradient_checkpointing": named["gradient_checkpointing"][setup.gradient_checkpointing],
        "raised": raised,
        "epochs": recipe.epochs and f"{recipe.epochs:g}",
        # transformers takes a number below 1 as a share
        "warmup_steps": WARMUP_STEPS_SHARE if recipe.epochs else recipe.warmup_steps,
        "warmup_share": WARMUP_STEPS_SHARE,
        "optimizer": named["optim"][setup.optim],
        "tokens": TOKENS,
        "reading": PROMPTS,
        "serving": serving,
        "serve_command": command(recipe.model_id, plan, slot_rank, refused, stored=published(recipe.model_id)),
        "counted": counted and f" RankViz counts {counted}.",
    }
    template = templates().get_template("grpo.py.jinja" if setup.grpo else "train.py.jinja")
    _, *steps = HEADING.split(template.render(**values))
    return list(zip(steps[::2], steps[1::2], strict=True))


OPEN_IN_COLAB = "In Colab: File > Upload notebook, Runtime > Change runtime type > T4 GPU, then Runtime > Run all."


def notebook(recipe: Recipe, *, colab: bool = False) -> str:
    """Write the recipe as a notebook of nbformat 4.5 with stable cell ids. colab: for a free T4 of Google Colab; it
    keeps Colab's torch and asks for the data file."""
    needed = " ".join(requirements(recipe.training.framework))
    name, *rest = header(recipe)
    opening = [OPEN_IN_COLAB] if colab else []
    cells: list[dict[str, Any]] = []

    def add(kind: str, cell_id: str, text: str) -> None:
        run = {"execution_count": None, "outputs": []} if kind == "code" else {}
        source = text.splitlines(keepends=True)
        cells.append({"cell_type": kind, "id": cell_id, "metadata": {}, **run, "source": source})

    add("markdown", "title", "\n\n".join([f"# {recipe.title}", *opening, *rest]))
    install = templates().get_template("colab.py.jinja").render(requirements=needed).rstrip("\n")
    add("code", "install", install if colab else f"%pip install --quiet {needed}")
    for number, (heading, code) in enumerate(parts(recipe, colab=colab), 1):
        about, step = ("about-download", "download") if heading == "Download" else (f"about-{number}", f"step-{number}")
        add("markdown", about, f"## {heading}")
        add("code", step, code.rstrip("\n"))
    document = {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            "accelerator": "GPU",
            **({"colab": {"gpuType": "T4", "provenance": []}} if colab else {}),
            "rankviz": {"version": __version__, "recipe": name},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"
