"""A small config.json, and workers that answer as they are told."""

import json
import sys
from pathlib import Path

from rankviz.children import Bounds, Children
from rankviz.units import GIB

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 100,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "tie_word_embeddings": True,
}


def config_file(folder: Path, config=LLAMA) -> Path:
    path = folder / "config.json"
    path.write_text(config if isinstance(config, str) else json.dumps(config))
    return path


def answering(code: str, *, seconds: float = 60) -> Children:
    """Children that run this code instead of the worker."""
    return Children(Bounds(seconds=seconds, memory_bytes=GIB), worker=(sys.executable, "-c", code))
