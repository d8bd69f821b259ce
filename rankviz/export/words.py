"""Writes the comments above an export: its title, the versions behind its counts, and settings the tool lacks."""

from collections.abc import Sequence
from textwrap import wrap

from rankviz import __version__
from rankviz.core.lora.config import PEFT_VERSION, UNSLOTH_VERSION
from rankviz.export.recipe import Recipe

WIDTH = 100
DATA = 'train.jsonl has one JSON object per line: {"prompt": "…", "completion": "…"}'


def title(recipe: Recipe) -> str:
    """ "LoRA r = 16, alpha = 16 on Qwen/Qwen3-4B" """
    kind = "DoRA" if recipe.lora.use_dora else "LoRA"
    return f"{kind} r = {recipe.lora.r}, alpha = {recipe.lora_alpha:g} on {recipe.model_id}"


def sources(recipe: Recipe) -> str:
    """The number of trained parameters, and whose rules it was counted by."""
    rules = f"PEFT {PEFT_VERSION}" + (
        f" and Unsloth {UNSLOTH_VERSION}" if recipe.training.framework == "unsloth" else ""
    )
    return (
        f"RankViz {__version__} counts {recipe.adapter_parameters:,} trainable parameters, from the model's own layers "
        f"by the rules of {rules}."
    )


def other_program(tool: str) -> str:
    """A tool that RankViz has no estimate for."""
    return f"RankViz's estimates of memory and time are of Unsloth, TRL and plain PEFT, not of {tool}."


def commented(sentences: Sequence[str]) -> str:
    """Each sentence as comment lines, for Python and YAML alike."""
    return "".join(f"# {line}\n" for sentence in sentences for line in wrap(sentence, WIDTH - 2))
