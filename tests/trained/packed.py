"""Adapters as files: a zip of a folder, and experts as PEFT remaps them."""

import zipfile

from tests.support.models.saved_adapters import CONFIG, factors, save

WEIGHTS = "adapter_model.safetensors"


def zip_of(folder, target, *, inside: str = "adapter/"):
    with zipfile.ZipFile(target, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, inside + file.name)
    return target


def remapped(folder, **config):
    """A Mixtral of two experts as PEFT saves it where w1, w2 and w3 were named: gate_up_proj at twice the rank of
    down_proj, inside it, the router beside them, and q_proj."""
    name = "base_model.model.model.layers.0"
    shapes = {
        f"{name}.mlp.experts.base_layer": (20, 2 * 8, 12),
        f"{name}.mlp.experts": (12, 2 * 4, 10),
        f"{name}.mlp.gate": (2, 4, 12),
        f"{name}.self_attn.q_proj": (10, 4, 12),
    }
    tensors = {}
    for module, (out, rows, inner) in shapes.items():
        tensors[f"{module}.lora_A.weight"], tensors[f"{module}.lora_B.weight"] = factors(out, rows, inner, seed=out)
    settings = {
        "target_modules": ["q_proj"],
        "target_parameters": ["down_proj", "gate.weight", "gate_up_proj"],
        "rank_pattern": {r".*\.gate_up_proj": 8},
        "alpha_pattern": {r".*\.gate_up_proj": 16},
    }
    return save(folder, tensors, CONFIG | settings | config)
