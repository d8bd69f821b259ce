"""Tiny random models of six shapes, each a folder that any loader takes for a real model, and rows to train them on.

Llama is the plain case, Qwen3 ties its embeddings and normalises queries and keys, Mistral stands for base models,
Gemma 3 has norms around each part and an embedding scale, Phi-3 fuses its projections, and Qwen3-MoE holds its experts
in one parameter.
"""

import json
from pathlib import Path
from typing import Any

from tests.support.models.tiny_llama import save_tokenizer

TRAINING_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }}<|im_end|>{% endgeneration %}"
    "{% else %}{{ message['content'] }}<|im_end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML with the marks that TRL reads for assistant_only_loss."""
COMMON: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 3,
    "initializer_range": 0.1,
    "tie_word_embeddings": False,
}
SHAPES: dict[str, dict[str, Any]] = {
    "llama": COMMON | {"model_type": "llama", "architectures": ["LlamaForCausalLM"]},
    "qwen3": COMMON
    | {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "head_dim": 32, "tie_word_embeddings": True},
    "mistral": COMMON | {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 32},
    "gemma3": COMMON
    | {
        "model_type": "gemma3_text",
        "architectures": ["Gemma3ForCausalLM"],
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "layer_types": ["sliding_attention", "full_attention"],
        "tie_word_embeddings": True,
    },
    "phi3": COMMON | {"model_type": "phi3", "architectures": ["Phi3ForCausalLM"]},
    "qwen3_moe": COMMON
    | {
        "model_type": "qwen3_moe",
        "architectures": ["Qwen3MoeForCausalLM"],
        "head_dim": 16,
        "moe_intermediate_size": 32,
        "num_experts": 4,
        "num_experts_per_tok": 2,
    },
}


def make_tiny(shape: str, folder: Path, chat_template: str | None = TRAINING_TEMPLATE) -> Path:
    """Write the model of SHAPES and its tokenizer into `folder` and return it; the same weights every time."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    save_tokenizer(folder, chat_template)
    torch.manual_seed(0)
    values = dict(SHAPES[shape])
    AutoModelForCausalLM.from_config(AutoConfig.for_model(values.pop("model_type"), **values)).save_pretrained(folder)
    return folder


def write_rows(path: Path, kind: str, rows: int = 80) -> None:
    """A JSONL file of one kind (KINDS): a letter in, the same letter six times out."""
    letters = "abcdefgh"
    path.write_text("".join(json.dumps(KINDS[kind](letters[i % 8], i)) + "\n" for i in range(rows)), encoding="utf-8")


def _turns(letter: str, i: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"{i} {letter}"}, {"role": "assistant", "content": letter * 6}]


NAMES = {"user": "human", "assistant": "gpt"}
KINDS = {
    "prompts": lambda letter, i: {"prompt": _turns(letter, i)[:1], "completion": _turns(letter, i)[1:]},
    "messages": lambda letter, i: {
        "messages": [{"role": "system", "content": "Repeat."}, *_turns(letter, i), *_turns(letter, i + 1)]
    },
    "text": lambda letter, i: {"prompt": f"{i} {letter} ", "completion": letter * 6},
    "instruction": lambda letter, i: {"instruction": f"{i}", "input": letter, "output": letter * 6},
    "plain": lambda letter, i: {"text": f"{i} {letter} " + letter * 6},
    "conversations": lambda letter, i: {
        "conversations": [
            {"from": NAMES[turn["role"]], "value": turn["content"]}
            for turn in [*_turns(letter, i), *_turns(letter, i + 1)]
        ]
    },
}
"""Conversational prompt and completion, whole chats of two turns, prompt and completion as plain text, instructions
with an input, plain text alone, and ShareGPT."""
