"""Runs `python -m rankviz.worker preflight`: tries the libraries that training uses, and prints one line.
On a GPU it multiplies on the card, quantizes with bitsandbytes' native library, and compiles by importing Unsloth."""

import os
from collections.abc import Sequence

from rankviz import units
from rankviz.worker import device
from rankviz.worker.answering import own_output
from rankviz.worker.journal import set_environment


def main(argv: Sequence[str]) -> int:
    set_environment()
    os.environ["HF_HUB_OFFLINE"] = "1"
    out = own_output()
    import torch

    summary = f"torch {torch.__version__} uses the CPU, with {torch.get_num_threads()} threads"
    if device.has_cuda():
        properties = torch.cuda.get_device_properties(0)
        summary = f"torch {torch.__version__} sees {properties.name} with {units.memory_size(properties.total_memory)}"
        ones = torch.ones(256, 256, dtype=torch.bfloat16 if device.has_bf16() else torch.float16, device="cuda")
        if (total := (ones @ ones).sum().item()) != 256**3:
            raise ArithmeticError(f"ones times ones summed to {total} on the GPU, not {256**3}")
        from bitsandbytes import functional

        weights = torch.randn(64, 64, dtype=torch.float16, device="cuda")
        packed, state = functional.quantize_4bit(weights, quant_type="nf4")
        if not (error := (functional.dequantize_4bit(packed, state) - weights).abs().mean().item()) < 0.2:
            raise ArithmeticError(f"NF4 and back is off by {error:.3f} on average, of numbers around 1")
    import unsloth

    print(f"{summary}; Unsloth {unsloth.__version__} imports", file=out, flush=True)
    return 0
