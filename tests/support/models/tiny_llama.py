"""A random Llama of two blocks, saved as a folder that any loader takes for a real model.

115,008 parameters: embeddings and head 2 × 320 × 64, and in each of two blocks q and o 64 × 64, k and v 64 × 32, three
MLP matrices of 64 × 128 and two norms of 64, then the last norm. Its tokenizer knows the 256 bytes and four markers.
"""

import json
import re
from pathlib import Path

LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 128}
LLAMA |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 320}
"""A config.json of its sizes."""
TINY_LLAMA_PARAMETERS = 2 * 320 * 64 + 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128 + 2 * 64) + 64
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


MARK = re.compile(r"<[|｜/]?[A-Za-z_][\w▁|｜/ ]*[|｜]?>|\[/?[A-Z_]+\]")
"""A special token in a chat template."""


def save_tokenizer(folder: Path, chat_template: str | None = CHAT_TEMPLATE) -> None:
    """The tokenizer of bytes into `folder`; its end token, 2, ends a turn. The special tokens of the chat template are
    tokens of it too, in a vocabulary of 320."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    markers = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    more = [mark for mark in dict.fromkeys(MARK.findall(chat_template or "")) if mark not in markers]
    tokenizer = Tokenizer(
        models.BPE(vocab={token: i for i, token in enumerate(markers + alphabet + more)}, merges=[], unk_token=None)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|endoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        additional_special_tokens=["<|im_start|>", *more],
        model_max_length=512,
        chat_template=chat_template,
    ).save_pretrained(folder)


def make_tiny_llama(folder: Path) -> Path:
    """Write the model and its tokenizer into `folder` and return it; the same weights every time."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    save_tokenizer(folder)
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=320,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            bos_token_id=0,
            eos_token_id=2,
            pad_token_id=3,
            tie_word_embeddings=False,
        )
    ).save_pretrained(folder)
    return folder


def write_tiny_data(path: Path, rows: int = 96) -> Path:
    """A JSONL file that a tiny model can learn in a few steps: a letter in, the same letter out."""
    letters = "abcdefgh"
    pairs = ((i, letters[i % 8]) for i in range(rows))
    lines = [json.dumps({"prompt": f"{i} {letter}", "completion": f"{letter * 6} {i}"}) for i, letter in pairs]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def generated(model, prompt, most):
    """What transformers' generate answers to one prompt, without padding."""
    import torch

    out = model.generate(
        input_ids=torch.tensor([prompt]),
        attention_mask=torch.ones((1, len(prompt)), dtype=torch.long),
        do_sample=False,
        max_new_tokens=most,
        eos_token_id=2,
        pad_token_id=3,
    )
    return out[0, len(prompt) :].tolist()
