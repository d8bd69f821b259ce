"""Writes the comments above an export: its title, the versions behind its counts, its data, and settings the tool
lacks."""

from collections.abc import Sequence
from textwrap import wrap

from rankviz import __version__
from rankviz.core.lora.config import PEFT_VERSION, UNSLOTH_VERSION
from rankviz.export.defaults import HELD_OUT_SHARE
from rankviz.export.recipe import Recipe

WIDTH = 100
ROWS = "train.jsonl has one JSON object per line:"
HELD_OUT = f"{100 * HELD_OUT_SHARE:g} % of the rows are held out; their loss shows when to stop."


class Verbatim(str):
    """A comment that stays on one line, since it is there to be copied."""


_USER, _ASSISTANT = '{"role": "user", "content": "…"}', '{"role": "assistant", "content": "…"}'
CHAT_ROW = Verbatim(f'{{"prompt": [{_USER}], "completion": [{_ASSISTANT}]}}')
TEXT_ROW = Verbatim('{"prompt": "…", "completion": "…"}')
MESSAGES_ROW = Verbatim(f'{{"messages": [{_USER}, {_ASSISTANT}]}}')


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


def data_of_scripts(recipe: Recipe) -> tuple[str, ...]:
    """What the rows of train.jsonl look like for a Python script, the row itself as a line of its own, and what is
    learned of them."""
    chats = {
        "unsloth": "of these the assistant's turns are learned",
        "trl": "of these the assistant's turns are learned. TRL needs a chat template that it has a training version "
        "of, and stops if it has none",
        "peft": "of these the last answer is learned",
    }[recipe.training.framework]
    if recipe.is_chat:
        return (
            ROWS,
            CHAT_ROW,
            "The chat template ends each completion with its end token. The completion is learned with that token, the "
            "prompt is not.",
            "Whole chats work too:",
            MESSAGES_ROW,
            f"{chats[0].upper()}{chats[1:]}.",
            "Prompt and completion as plain strings are trained without the template.",
            HELD_OUT,
        )
    return (
        ROWS,
        TEXT_ROW,
        "The tokenizer's end token is added to each completion. The completion is learned with that token, the prompt "
        "is not.",
        "Rows of messages need a tokenizer with a chat template, which a base model usually lacks.",
        HELD_OUT,
    )


def commented(sentences: Sequence[str]) -> str:
    """Each sentence as comment lines, for Python and YAML alike."""
    return "".join(
        f"# {line}\n"
        for sentence in sentences
        for line in ([sentence] if isinstance(sentence, Verbatim) else wrap(sentence, WIDTH - 2))
    )
