"""Tells chat models from base models by their names, and names LLaMA-Factory's template for a model's family.

A chat model is trained through its chat template, which ends each answer with a token that the model stops at. A base
model has no such template, or one whose tokens it was never trained on, so it is given plain text, which the trainer
ends with the tokenizer's own end token. RankViz has no tokenizer at hand, so the name decides, then the family.
"""

import re

_CHAT_WORDS = frozenset({"instruct", "chat", "it", "thinking", "reasoning", "distill", "r1", "sft", "dpo"})
_BASE_WORDS = frozenset({"base", "pt"})
_CHAT_FAMILIES = re.compile(
    r"qwen3|gpt[-_]oss|phi-?[34]|glm-?4|lfm2|smollm3|deepseek[-_]v3|nemotron|muse[-_]glimmer|granite-4"
)
"""Families whose plain name is the chat model's; their base models say so in the name."""

LLAMAFACTORY_TEMPLATES = (
    (r"deepseek-r1", "deepseekr1"),
    (r"deepseek-v3", "deepseek3"),
    (r"deepseek-v2", "deepseek"),
    (r"phi-4-mini", "phi4_mini"),
    (r"phi-4", "phi4"),
    (r"phi-3", "phi"),
    (r"smollm2", "smollm2"),
    (r"smollm-", "smollm"),
    (r"llama-4", "llama4"),
    (r"llama-3", "llama3"),
    (r"llama-2", "llama2"),
    (r"ministral-3-", "ministral3"),
    (r"mistral-nemo|ministral", "ministral"),
    (r"mistral-small", "mistral_small"),
    (r"mistral-7b|mixtral", "mistral"),
    (r"gemma-4-e\db", "gemma4n"),
    (r"gemma-4", "gemma4"),
    (r"gemma-3n", "gemma3n"),
    (r"gemma-3-(270m|1b)|gemma-2-\d+b-", "gemma2"),
    (r"functiongemma", ""),
    (r"gemma-3", "gemma3"),
    (r"qwen3\.5", "qwen3_5"),
    (r"qwen3\.6", "qwen3_6"),
    (r"qwen3\.", ""),
    (r"qwen3-vl.*thinking", "qwen3_vl"),
    (r"qwen3-vl", "qwen3_vl_nothink"),
    (r"qwen3.*(coder|instruct)", "qwen3_nothink"),
    (r"qwen3-", "qwen3"),
    (r"qwen2(\.5)?-vl", "qwen2_vl"),
    (r"qwen2", "qwen"),
    (r"glm-4-(9b|32b)", "glm4"),
    (r"gpt-oss", "gpt_oss"),
    (r"granite-3", "granite3"),
    (r"granite-4", "granite4"),
    (r"lfm2", "lfm2"),
    (r"falcon-", "falcon"),
)
"""What the name contains, the first that matches: the template that LLaMA-Factory 0.9.5 registers for that family
(extras/constants.py, register_model_group; data/template.py)."""


ENDS_OF_TURN = {
    "gemma2": "<end_of_turn>",
    "gemma3": "<end_of_turn>",
    "gemma3n": "<end_of_turn>",
    "gemma4": "<turn|>",
    "gemma4n": "<turn|>",
    "phi": "<|end|>",
    "phi4_mini": "<|end|>",
}
"""By LLaMA-Factory's template: the token that ends a turn, where it isn't the tokenizer's end token."""


def has_chat_template(model_id: str, model_type: str = "") -> bool:
    """Whether rows are to go through the model's chat template.

    model_id: Hub id or folder. model_type: of its config.json, for folders with names of their own.
    """
    name = _name(model_id)
    words = set(re.split(r"[-_.]", name))
    if words & _BASE_WORDS:
        return False
    return bool(words & _CHAT_WORDS or _CHAT_FAMILIES.search(name) or _CHAT_FAMILIES.search(model_type))


def llamafactory_template(model_id: str) -> str:
    """LLaMA-Factory's template for a chat model; empty where it has none for the family."""
    name = _name(model_id)
    return next((template for pattern, template in LLAMAFACTORY_TEMPLATES if re.search(pattern, name)), "")


def end_of_turn(model_id: str) -> str:
    """The token that ends an answer, where the family has another than the tokenizer's end token; else empty."""
    return ENDS_OF_TURN.get(llamafactory_template(model_id), "")


def _name(model_id: str) -> str:
    return re.split(r"[/\\]", model_id.strip().removesuffix(":whole").rstrip("/\\"))[-1].lower()
