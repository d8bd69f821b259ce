"""Writes the comments above an export: its title, the versions behind its counts, its data, and settings the tool
lacks."""

from collections.abc import Sequence
from textwrap import wrap
from typing import NamedTuple, get_args

from rankviz import __version__
from rankviz.core.cost.setup import Form, Trait
from rankviz.core.lora.config import PEFT_VERSION, UNSLOTH_VERSION
from rankviz.errors import InvalidSettingError
from rankviz.exports.recipe import HELD_OUT_SHARE, Recipe

WIDTH = 100
FILE_NAME = "train.jsonl"
"""Where the user's file is not known."""
HELD_OUT = f"{100 * HELD_OUT_SHARE:g} % of the rows are held out; their loss shows when to stop."


class Verbatim(str):
    """A comment that stays on one line, since it is there to be copied."""


class Names(NamedTuple):
    """The keys of a message, and the names of the two roles."""

    role: str
    content: str
    user: str
    assistant: str


def names_in(form: Form, traits: Sequence[Trait] = ()) -> Names:
    """Return the names that a file's chats have, or where no file was read those of their form."""
    is_sharegpt = "from" in traits or (form == "conversations" and "role" not in traits)
    keys, roles = (("from", "value"), ("human", "gpt")) if is_sharegpt else (("role", "content"), ("user", "assistant"))
    user = next((name for name in ("user", "human") if name in traits), roles[0])
    assistant = next((name for name in ("assistant", "gpt") if name in traits), roles[1])
    return Names(*keys, user, assistant)


def row_of(form: Form, traits: Sequence[Trait] = ()) -> Verbatim:
    """Return a row of this form as JSON."""
    names = names_in(form, traits)
    user, assistant = (
        f'{{"{names.role}": "{role}", "{names.content}": "…"}}' for role in (names.user, names.assistant)
    )
    match form:
        case "messages" | "conversations":
            return Verbatim(f'{{"{form}": [{user}, {assistant}]}}')
        case "prompt-completion" if "lists" in traits:
            return Verbatim('{"prompt": [… messages], "completion": [… messages]}')
        case "prompt-completion":
            return Verbatim('{"prompt": "…", "completion": "…"}')
        case "instruction":
            given = "" if "no-input" in traits else '"input": "… (optional)", '
            return Verbatim(f'{{"instruction": "…", {given}"output": "…"}}')
        case "text":
            return Verbatim('{"text": "…"}')


Unread = Sequence[tuple[set[Trait], str]]
UNREAD: Unread = (
    ({"numbers"}, "some values are numbers, not text"),
    ({"lists"}, "prompt and completion are lists of messages"),
    ({"json"}, "chats are JSON in a cell of text"),
    ({"role", "from"}, "some messages have role and content, others from and value"),
)
"""Traits of rows that neither Axolotl nor LLaMA-Factory can read where they come together, and the reason in words."""


def require_readable(recipe: Recipe, tool: str, unread: Unread = UNREAD) -> None:
    """InvalidSettingError where the tool stops at the rows of the file or leaves some out."""
    for traits, reason in unread:
        if traits <= set(recipe.traits):
            raise InvalidSettingError(
                f"{tool} cannot train on all rows of {recipe.file_name or 'this file'}: {reason}. Use the Unsloth or "
                "TRL script, which reads them, or change the rows."
            )


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
    forms = (recipe.form,) if recipe.form else get_args(Form)
    rows = [part for form in forms for part in (row_of(form, recipe.traits), learned[form])]
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
    return f"{recipe.file_name or FILE_NAME}{amount}. Each row looks like this:", row_of(form, recipe.traits)


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
