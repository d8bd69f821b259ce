"""Records the environment of a run: hardware and versions, which are needed to compare its numbers."""

import hashlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import rankviz
from rankviz.machine import cpu_bf16, cpu_name

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
        device = {
            "device": "cuda",
            "device_name": properties.name,
            "device_memory_bytes": properties.total_memory,
            "driver": _driver(),
            "cuda": torch.version.cuda,
        }
    return {
        **device,
        "cpu_count": os.cpu_count(),
        "cpu_bf16": cpu_bf16(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "rankviz": rankviz.__version__,
        "versions": {name: installed for name in LIBRARIES if (installed := _version(name)) is not None},
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


def _driver() -> str | None:
    try:
        import pynvml

        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion())
    except Exception:  # it is a fact to note, not one to fail for, and NVML fails in many ways
        return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
