"""Tells chat models from base models by name, for the forecast and for the exported scripts.

A name says so by a word (Instruct, Base), or by its family: in some the plain name is the chat model's, in others the
base model's. A fine-tune with a name of its own says nothing.
"""

import re

CHAT_WORDS = frozenset({"instruct", "chat", "it", "thinking", "reasoning", "distill", "r1", "sft", "dpo"})
BASE_WORDS = frozenset({"base", "pt", "intermediate"})
POST_TRAINED = re.compile(r"ernie-4\.5-")
"""Families whose "PT" means post-trained; elsewhere it is pretrained."""
CHAT_FAMILIES = re.compile(
    r"qwen3|qwq|qvq|gpt[-_]oss|phi-?[34]|glm-?4|glm-z1|lfm2|smollm3|deepseek[-_]v3|nemotron|muse[-_]glimmer|granite-4"
    r"|ernie-4\.5|zephyr|hermes|magistral|devstral|vicuna|openchat|kimi-|minimax-m"
)
"""Families whose plain name is the chat model's; their base models say so in the name."""
BASE_NAMES = re.compile(
    r"(meta-)?(llama|code-?llama|tinyllama|qwen|codeqwen|gemma|mistral|mixtral|smollm|olmo|falcon|pythia|gpt|distilgpt|opt"
    r"|bloom|yi|mpt|mamba|bert|roberta|starcoder|granite)"
    r"[-_ \d.]*((e|\d+x)?\d+[bmt])?([-_ ]a\d+b)?([-_ ]v?[\d.]+)?([-_ ](small|medium|large|xl))?"
)
"""Plain names of families (family, version and size alone) whose chat models say so in the name."""
COPY = re.compile(r"(-unsloth)?(-bnb-4bit|-bf16|-fp8(-block|-dynamic)?|-hf|-gguf|-awq)$")
"""Ends of names of copies, which are models of the same kind as the original."""


def is_chat(name: str, model_type: str = "", *, listed: bool | None = None) -> bool | None:
    """Whether it is a chat model; None where neither its name nor a list says.

    Args:
        name: A Hub id, a folder, or a name in a paper.
        model_type: Of its config.json, for folders with names of their own.
        listed: Whether a list of models has it as a chat model; None where it is in no list.
    """
    name = last_part(name)
    words = set(re.split(r"[-_.]", name))
    if listed:
        return True
    if words & BASE_WORDS and not ("base" not in words and POST_TRAINED.match(name)):
        return False
    if words & CHAT_WORDS or CHAT_FAMILIES.search(name) or CHAT_FAMILIES.search(model_type):
        return True
    return False if listed is False or BASE_NAMES.fullmatch(COPY.sub("", name)) else None


def last_part(model_id: str) -> str:
    """The name without its owner or folders, in lower case."""
    return re.split(r"[/\\]", model_id.strip().removesuffix(":whole").rstrip("/\\"))[-1].lower()
