"""Writes the comments above an export: its title, the versions behind its counts, its data, and settings the tool
lacks."""

from collections.abc import Sequence
from textwrap import wrap

from rankviz import __version__
from rankviz.core.cost.data import Form
from rankviz.core.lora.config import PEFT_VERSION, UNSLOTH_VERSION
from rankviz.export.defaults import HELD_OUT_SHARE
from rankviz.export.recipe import Recipe

WIDTH = 100
FILE_NAME = "train.jsonl"
"""Where the user's file is not known."""
HELD_OUT = f"{100 * HELD_OUT_SHARE:g} % of the rows are held out; their loss shows when to stop."


class Verbatim(str):
    """A comment that stays on one line, since it is there to be copied."""


_USER, _ASSISTANT = '{"role": "user", "content": "…"}', '{"role": "assistant", "content": "…"}'
_HUMAN, _GPT = '{"from": "human", "value": "…"}', '{"from": "gpt", "value": "…"}'
TEXT_ROW = Verbatim('{"prompt": "…", "completion": "…"}')
MESSAGES_ROW = Verbatim(f'{{"messages": [{_USER}, {_ASSISTANT}]}}')
ROW_OF: dict[Form, Verbatim] = {
    "messages": MESSAGES_ROW,
    "conversations": Verbatim(f'{{"conversations": [{_HUMAN}, {_GPT}]}}'),
    "prompt-completion": TEXT_ROW,
    "instruction": Verbatim('{"instruction": "…", "input": "… (optional)", "output": "…"}'),
    "text": Verbatim('{"text": "…"}'),
}


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
    """What the rows of the data look like for a Python script, each row as a line of its own, and what is learned."""
    learned = {
        "messages": "Of whole chats, the assistant's turns are learned.",
        "conversations": "Of whole chats, the assistant's turns are learned.",
        "prompt-completion": "The completion is learned, the prompt is not. Both are text as it is, or both are lists "
        "of messages.",
        "instruction": "The output is learned as the answer to the instruction and its input.",
        "text": "The whole text is learned.",
    }
    forms = (recipe.form,) if recipe.form else tuple(ROW_OF)
    rows = [part for form in forms for part in (ROW_OF[form], learned[form])]
    head = f"Your data, {_amount(recipe)}. " if _amount(recipe) else ""
    head += "Each row looks like this:" if recipe.form else "Each row has one of these forms:"
    ends = (
        "Chats and instructions go through the model's chat template. Each answer is learned with the token that ends "
        "it: the template's own, or else the tokenizer's end token, which ends texts too. A base model without a "
        "template gets chats as plain text under headings."
    )
    return (head, *rows, ends, HELD_OUT)


def rows_of(recipe: Recipe, form: Form) -> tuple[str, Verbatim]:
    """The file with the rows in a sentence, with a row of this form."""
    amount = f", {_amount(recipe)}" if _amount(recipe) else ""
    return f"{recipe.file_name or FILE_NAME}{amount}. Each row looks like this:", ROW_OF[form]


def _amount(recipe: Recipe) -> str:
    """ "5,000 examples of 310 tokens on average, the longest 1,020", as far as it is known."""
    data = recipe.training.data
    if data is None:
        return ""
    upper = " (upper estimate)" if data.longest_is_upper else ""
    words = [
        data.examples and f"{data.examples:,} examples",
        data.mean_tokens and f"{data.mean_tokens:,} tokens on average",
        data.longest_tokens and f"the longest {data.longest_tokens:,} tokens{upper}",
    ]
    return ", ".join(word for word in words if word)


def commented(sentences: Sequence[str]) -> str:
    """Each sentence as comment lines, for Python and YAML alike."""
    return "".join(
        f"# {line}\n"
        for sentence in sentences
        for line in ([sentence] if isinstance(sentence, Verbatim) else wrap(sentence, WIDTH - 2))
    )
