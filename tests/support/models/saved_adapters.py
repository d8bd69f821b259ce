"""Small adapters on disk, in PEFT's layout, and folders that are bases by their names alone."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

Q = "base_model.model.model.layers.0.self_attn.q_proj"
CONFIG = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}


def factors(out_features: int, r: int, in_features: int, *, seed: int = 0, decay: float = 0.6) -> tuple:
    """fp32 factors, B's columns ever smaller, as training leaves them."""
    draw = np.random.default_rng(seed)
    a = draw.standard_normal((r, in_features)).astype(np.float32)
    return a, (draw.standard_normal((out_features, r)) * decay ** np.arange(r)).astype(np.float32)


def save(folder: Path, tensors: dict, config: dict = CONFIG) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def two_blocks(folder: Path, **config) -> Path:
    """q_proj (10 × 12) and v_proj (6 × 12) in two blocks, r = 4, alpha = 8, so scale 2; v_proj of block 1 untrained."""
    tensors = {}
    for block in (0, 1):
        for module, out in (("q_proj", 10), ("v_proj", 6)):
            name = f"base_model.model.model.layers.{block}.self_attn.{module}"
            a, b = factors(out, 4, 12, seed=10 * block + out)
            tensors[f"{name}.lora_A.weight"] = a
            tensors[f"{name}.lora_B.weight"] = np.zeros_like(b) if (block, module) == (1, "v_proj") else b
    return save(folder, tensors, CONFIG | config)


def named_as_base(folder):
    """The folder, with the files that every base has; nothing is in them."""
    for name in ("config.json", "model.safetensors"):
        (folder / name).touch()
    return folder
