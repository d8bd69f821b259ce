"""Export of the chosen settings as a script, notebook or configuration file, and of tables as CSV and Parquet."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from rankviz.core.cost.grpo import grpo_cautions
from rankviz.core.cost.notes import above_limit, truncation
from rankviz.core.cost.question import Question
from rankviz.core.lora.config import Framework
from rankviz.core.model.spec import ModelSpec
from rankviz.errors import InvalidSettingError
from rankviz.exports.configs import (
    accelerate_config,
    adapter_config,
    axolotl,
    dataset_info,
    llamafactory,
    llamafactory_framework,
    mlx,
)
from rankviz.exports.recipe import LEARNING_RATE, NAMES_NO_EXPERTS, Recipe, recipe
from rankviz.exports.script import merging, notebook, script

__all__ = ["FORMATS", "LEARNING_RATE", "Format", "Recipe", "Written", "recipe", "script", "write"]


class Format(NamedTuple):
    """One file format for an export. tool: empty where its name is the framework's."""

    label: str
    file_name: str
    write: Callable[[Recipe], str]
    trained_by: Framework | Callable[[ModelSpec, Question], Framework] | None = None
    """Framework whose rules match names to modules, or a function that returns it; None for the chosen one."""
    tool: str = ""
    extra_files: tuple[tuple[str, Callable[[Recipe], str]], ...] = ()
    """Name and writer of each other file that the tool needs."""
    trains: bool = True
    """True where the file says how long to train, False where it only describes the adapter."""

    def framework(self, model: ModelSpec, question: Question) -> Framework:
        """Return the framework that trains with the file."""
        found = self.trained_by or question.training.framework
        return found(model, question) if callable(found) else found


FORMATS = {
    "colab": Format("Notebook for Colab", "rankviz_colab.ipynb", partial(notebook, colab=True), "unsloth"),
    "script": Format("Script for the chosen framework", "train.py", script),
    "notebook": Format("Notebook for the chosen framework", "train.ipynb", notebook),
    "unsloth": Format("Unsloth script", "train_unsloth.py", script, "unsloth"),
    "trl": Format("TRL script", "train_trl.py", script, "trl"),
    "peft": Format("PEFT script", "train_peft.py", script, "peft"),
    "adapter-config": Format("PEFT adapter_config.json", "adapter_config.json", adapter_config, "peft", trains=False),
    "axolotl": Format("Axolotl YAML", "axolotl.yaml", axolotl, "trl", "Axolotl"),
    "llamafactory": Format(
        "LLaMA-Factory YAML",
        "llamafactory.yaml",
        llamafactory,
        llamafactory_framework,
        NAMES_NO_EXPERTS,
        extra_files=(("dataset_info.json", dataset_info),),
    ),
    "mlx": Format("MLX LM YAML (for a Mac)", "mlx_lora.yaml", mlx, "mlx"),
    "merge": Format("Script that merges: PEFT", "merge.py", merging, "peft", trains=False),
    "merge-unsloth": Format("Script that merges: Unsloth", "merge_unsloth.py", merging, "unsloth", trains=False),
    "gguf": Format("Script that writes GGUF", "write_gguf.py", partial(merging, gguf=True), "peft", trains=False),
}
MERGES = ("merge", "merge-unsloth", "gguf")
"""Formats that write a trained adapter and its base as one model."""
NO_LORAPLUS = {
    "adapter-config": "PEFT's configuration has no rates: LoRA+ needs peft.optimizers.create_loraplus_optimizer.",
    "mlx": "MLX LM has one learning rate for lora_a and lora_b: LoRA+ is left out.",
    **dict.fromkeys(MERGES, "Merging has no learning rates."),
}
"""Sentence on LoRA+ for each format that cannot express it."""


GRPO_FORMATS = ("script", "notebook", "unsloth", "trl")
"""Formats that have a script for GRPO."""


class Written(NamedTuple):
    """Content of an exported file."""

    text: str
    file_name: str
    notes: tuple[str, ...]
    """Differences between the tool's training and the request, and notes of the estimate, which are also comments in
    the text, where the format has comments; and the length of a training for which none was given."""
    extra_files: tuple[tuple[str, str], ...] = ()
    """Name and text of each other file that the tool needs in the same folder."""


LAUNCH_FILE = "accelerate.yaml"


def write(
    model: ModelSpec,
    question: Question,
    r: int,
    format_name: str,
    learning_rate: float = LEARNING_RATE,
    notes: tuple[str, ...] = (),
    loraplus_lr_ratio: float | None = None,
) -> Written:
    """Return the export of the question's adapter at rank r in a format of FORMATS. notes: come before the recipe's."""
    if format_name not in FORMATS:
        raise InvalidSettingError(f"No format {format_name!r}: choose one of {', '.join(FORMATS)}.")
    if format_name in MERGES:  # whatever trained it
        question = replace(question, training=replace(question.training, grpo=None))
    chosen = FORMATS[format_name]
    framework = chosen.framework(model, question)
    if question.training.grpo:
        if format_name not in GRPO_FORMATS:
            raise InvalidSettingError(f"GRPO has no {chosen.label}. Choose the format {', '.join(GRPO_FORMATS)}.")
        replace(question.training, framework=framework).validate()
    if loraplus_lr_ratio is not None and (question.training.grpo or question.training.gpus > 1):
        raise InvalidSettingError("LoRA+ is in scripts for examples and one GPU. Leave out loraplus_lr_ratio.")
    without = "" if loraplus_lr_ratio is None else NO_LORAPLUS.get(format_name, "")
    rates = {"learning_rate": learning_rate, "loraplus_lr_ratio": None if without else loraplus_lr_ratio}
    made = recipe(model, question, r, framework=framework, **rates, tool=chosen.tool)
    about_data = (above_limit(model, made.training), truncation(made.training)) if chosen.trains else ()
    others = chosen.extra_files
    if made.training.grpo:
        notes = (*notes, *grpo_cautions(made.plan, made.training))
    if made.training.gpus > 1 and chosen.trains:
        if chosen.write is not script:
            raise InvalidSettingError(
                f"The format {format_name} is for one GPU: choose script, unsloth or trl, with a file for accelerate."
            )
        setup = made.training
        setup.validate()  # the format may have another framework
        needed = " It needs the package deepspeed." if setup.strategy.startswith("zero") else ""
        launch = (
            f"accelerate launch --config_file {LAUNCH_FILE} {chosen.file_name} starts it on {setup.gpus} GPUs of one "
            f"machine.{needed} RankViz has not run it on several GPUs."
        )
        notes, others = (*notes, launch), ((LAUNCH_FILE, accelerate_config),)
    made = replace(made, notes=(*notes, *filter(None, [*about_data, without]), *made.notes))
    extra_files = tuple((name, each(made)) for name, each in others)
    trial = chosen.trains and not made.training.has_length
    length = f"The file trains {made.max_steps} steps, a trial: no epochs, steps or tokens were given."
    return Written(chosen.write(made), chosen.file_name, (*made.notes, *([length] if trial else [])), extra_files)
