"""Writes the comments above an export (title, versions behind its counts, data), and reads the templates."""

import json
from collections.abc import Sequence
from functools import cache
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from rankviz import __version__
from rankviz.core.cost.setup import Trait
from rankviz.core.lora.config import PEFT_VERSION, UNSLOTH_VERSION
from rankviz.errors import InvalidSettingError
from rankviz.exports.chat import data
from rankviz.exports.recipe import Recipe
from rankviz.paths import ASSETS

if TYPE_CHECKING:
    from jinja2 import Environment

WIDTH = 100
FILE_NAME = "train.jsonl"
"""Name in an export where the user's file is unknown."""
USUAL: dict[str, set[Trait]] = {
    "messages": {"role", "user", "assistant"},
    "conversations": {"from", "human", "gpt"},
}
"""Key and roles of the messages in chats of these forms."""


def require_readable(recipe: Recipe, tool: str, *more: Trait) -> None:
    """Check that the tool reads every row of the file; raise InvalidSettingError otherwise. more: traits that this tool
    does not read."""
    names = set.union(*USUAL.values()) - USUAL.get(recipe.data.form or "", set())
    if {*recipe.data.traits} & {"numbers", "lists", "json", *more, *names}:
        raise InvalidSettingError(
            f"{tool} cannot train on all rows of {recipe.data.file_name or 'this file'}: some have numbers, lists of "
            "messages or JSON in place of text, or chats whose keys, roles or turns it does not know. Use the Unsloth "
            "or TRL script, which reads them, or change the rows."
        )


def title(recipe: Recipe) -> str:
    """Return a title such as "LoRA r = 16, alpha = 16 on Qwen/Qwen3-4B"."""
    kind = "DoRA" if recipe.lora.use_dora else "LoRA"
    return f"{kind} r = {recipe.lora.r}, alpha = {recipe.lora_alpha:g} on {recipe.model_id}"


def sources(recipe: Recipe) -> str:
    """Return a sentence with the number of trained parameters and the rules by which it was counted."""
    unsloth = f" and Unsloth {UNSLOTH_VERSION}" if recipe.training.framework == "unsloth" else ""
    return (
        f"RankViz {__version__} counts {recipe.adapter_parameters:,} trainable parameters, from the model's own layers "
        f"by the rules of PEFT {PEFT_VERSION}{unsloth}."
    )


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
    """Return the environment of assets/templates with its filters (repr, json, commas, yaml, comment), and
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
    made.filters |= {"repr": repr, "json": json.dumps, "commas": "{:,}".format, "yaml": _yaml}
    made.filters["comment"] = lambda sentences: commented(sentences).rstrip("\n")
    return made
