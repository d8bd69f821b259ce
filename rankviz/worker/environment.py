"""Records the environment of a run: hardware and versions, which are needed to compare its numbers."""

import hashlib
import os
import platform
from typing import Any

import rankviz
from rankviz import machine as this_machine
from rankviz.machine import cards, cpu_bf16, cpu_name

LIBRARIES = (
    "torch",
    "transformers",
    "peft",
    "trl",
    "unsloth",
    "unsloth_zoo",
    "accelerate",
    "datasets",
    "bitsandbytes",
    "safetensors",
)


def machine(cuda: bool) -> dict[str, Any]:
    """Device, driver, versions."""
    import torch

    device = {"device": "cpu", "device_name": cpu_name(), "driver": None}
    if cuda:
        properties = torch.cuda.get_device_properties(0)
        driver = cards.read_driver()
        card = cards.chosen(driver)
        device = {
            "device": "cuda",
            "device_name": properties.name,
            # The driver's number where it answers, since that is what an estimate of this machine goes by: None where
            # the GPU shares the machine's memory.
            "device_memory_bytes": card.memory_bytes if card else properties.total_memory,
            "driver": driver.version if driver else None,
            "cuda": torch.version.cuda,
            # Unsloth compiles each block in the first step, again for each rank (models/_block_compile.py).
            "block_compile": os.environ.get("UNSLOTH_BLOCK_COMPILE", "1") != "0",
            "capability": ".".join(str(part) for part in torch.cuda.get_device_capability(0)),
        }
    return {
        **device,
        "cpu_count": os.cpu_count(),
        "cpu_bf16": cpu_bf16(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "rankviz": rankviz.__version__,
        "versions": this_machine.versions(LIBRARIES),
    }


def model_fingerprint(model: Any) -> str:
    """16 digits of a SHA-256 over each parameter's name, shape, type and first and last values: enough to tell two
    models or two precisions apart, without reading gigabytes."""
    import torch

    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode())
        flat = parameter.detach().reshape(-1)
        for piece in (flat[:16], flat[-16:]):
            digest.update(piece.to("cpu").contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
