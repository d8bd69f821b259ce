"""Lists the export formats: each with its tool, its file name and the function that writes it."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from rankviz.core.cost.notes import truncation
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import card
from rankviz.core.lora.config import Framework
from rankviz.core.lora.resolve import resolve
from rankviz.core.model.spec import ModelSpec
from rankviz.errors import InvalidSettingError
from rankviz.exports.axolotl import axolotl
from rankviz.exports.llamafactory import composite, dataset_info, llamafactory, reached, trains_with_unsloth
from rankviz.exports.recipe import LEARNING_RATE, Reach, Recipe, recipe
from rankviz.exports.script import colab, notebook, script


def adapter_config(recipe: Recipe) -> str:
    """JSON that peft.LoraConfig.from_pretrained reads. JSON has no comments: what is to be said is in recipe.notes."""
    lora = recipe.lora
    modules = recipe.target_modules
    return (
        json.dumps(
            {
                "peft_type": "LORA",
                "task_type": "CAUSAL_LM",
                "base_model_name_or_path": recipe.model_id,
                "r": lora.r,
                "lora_alpha": recipe.lora_alpha,
                "lora_dropout": 0.0,
                "bias": "none",
                "target_modules": modules if isinstance(modules, str) else list(modules),
                "target_parameters": list(recipe.target_parameters) or None,
                **recipe.patterns,
                "modules_to_save": list(recipe.modules_to_save) or None,
                "use_rslora": lora.use_rslora,
                "use_dora": lora.use_dora,
                "inference_mode": False,
            },
            indent=2,
            ensure_ascii=False,
        )
        + "\n"
    )


class Format(NamedTuple):
    """One way to take a recipe away."""

    label: str
    file_name: str
    write: Callable[[Recipe], str]
    framework: Callable[[ModelSpec, Question], Framework]
    """By which the tool trains: it decides which names reach which modules."""
    tool: str = ""
    """Its name, where it isn't the framework's."""
    names_experts: bool = True
    """Whether it has PEFT's target_parameters and rank_pattern."""
    beside: tuple[tuple[str, Callable[[Recipe], str]], ...] = ()
    """Other files that it needs, by name."""
    trains: bool = True
    """Whether the file says how long to train, not only what the adapter is."""
    reached: Reach | None = None
    """Its own rule from names to modules, if it has one."""


def _of_question(model: ModelSpec, question: Question) -> Framework:
    return question.training.framework


def _always(framework: Framework) -> Callable[[ModelSpec, Question], Framework]:
    return lambda model, question: framework


def _of_llamafactory(model: ModelSpec, question: Question) -> Framework:
    """PEFT's rules, which TRL's are, where Unsloth refuses: the adapter, or for multimodal models what LLaMA-Factory
    makes of the names."""
    training = question.training.without_auto(card(None))
    if composite(model) is not None or not trains_with_unsloth(training.framework, training.precision):
        return "trl"
    try:
        resolve(model, question.lora, "unsloth", precision=training.precision)
    except InvalidSettingError:
        return "trl"
    return "unsloth"


FORMATS = {
    "colab": Format("Notebook for Colab", "rankviz_colab.ipynb", colab, _always("unsloth")),
    "script": Format("Script for the chosen framework", "train.py", script, _of_question),
    "notebook": Format("Notebook for the chosen framework", "train.ipynb", notebook, _of_question),
    "unsloth": Format("Unsloth script", "train_unsloth.py", script, _always("unsloth")),
    "trl": Format("TRL script", "train_trl.py", script, _always("trl")),
    "peft": Format("PEFT script", "train_peft.py", script, _always("peft")),
    "adapter-config": Format(
        "PEFT adapter_config.json", "adapter_config.json", adapter_config, _always("peft"), trains=False
    ),
    "axolotl": Format("Axolotl YAML", "axolotl.yaml", axolotl, _always("trl"), "Axolotl"),
    "llamafactory": Format(
        "LLaMA-Factory YAML",
        "llamafactory.yaml",
        llamafactory,
        _of_llamafactory,
        "LLaMA-Factory",
        names_experts=False,
        beside=(("dataset_info.json", dataset_info),),
        reached=reached,
    ),
}


class Written(NamedTuple):
    """A recipe as a file."""

    text: str
    file_name: str
    notes: tuple[str, ...]
    """What the tool does otherwise than requested, and what the estimate notes; in the text too, where its format has
    comments."""
    beside: tuple[tuple[str, str], ...] = ()
    """Other files that the tool needs in the same folder: name and text."""


def write(
    model: ModelSpec,
    question: Question,
    r: int,
    format_name: str,
    learning_rate: float = LEARNING_RATE,
    notes: tuple[str, ...] = (),
) -> Written:
    """The question's adapter at one rank, in a format of FORMATS. notes: to stand before those of the recipe."""
    if format_name not in FORMATS:
        raise InvalidSettingError(f"No format {format_name!r}: choose one of {', '.join(FORMATS)}.")
    chosen = FORMATS[format_name]
    made = recipe(
        model,
        question,
        r,
        framework=chosen.framework(model, question),
        learning_rate=learning_rate,
        names_experts=chosen.names_experts,
        tool=chosen.tool,
        reached=chosen.reached,
    )
    about_data = (truncation(made.training), made.held_out_note) if chosen.trains else ()
    made = replace(made, notes=(*notes, *filter(None, about_data), *made.notes))
    beside = tuple((name, each(made)) for name, each in chosen.beside)
    return Written(chosen.write(made), chosen.file_name, made.notes, beside)
