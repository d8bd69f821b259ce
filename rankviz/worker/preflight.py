"""Runs `python -m rankviz.worker preflight`: imports and uses, step by step, what training uses.

Standard output carries JSON lines: {"starting": name}, then the step as {"name", "ok", "found", "seconds"}, the first
with {"architectures"} as well. On a GPU it multiplies on the card, compiles a Triton kernel and quantizes with
bitsandbytes; on a CPU those steps are left out.
"""

import json
import os
import time
from collections.abc import Sequence

from rankviz import units
from rankviz.worker import device
from rankviz.worker.journal import first_line, set_environment


def main(argv: Sequence[str]) -> int:
    set_environment()
    os.environ["HF_HUB_OFFLINE"] = "1"
    # Libraries print on standard output; the steps have it to themselves.
    messages = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    steps = [("importing torch", import_torch)]
    for name, step in steps:
        print(json.dumps({"starting": name}), file=messages, flush=True)
        started, more, ok = time.monotonic(), {}, True
        try:
            found = step()
            if step is import_torch:
                steps += [*(ON_A_GPU if device.has_cuda() else ()), ("importing Unsloth", import_unsloth)]
                more = {"architectures": device.architectures()}
        except Exception as error:  # whatever a library raises is what this trial is for
            ok, found = False, f"{type(error).__name__}: {first_line(error)}"
        row = {"name": name, "ok": ok, "found": found, "seconds": time.monotonic() - started, **more}
        print(json.dumps(row), file=messages, flush=True)
        if not ok:
            break
    return 0


def import_torch() -> str:
    import torch

    if not torch.cuda.is_available():
        return f"torch {torch.__version__} uses the CPU, with {torch.get_num_threads()} threads"
    properties = torch.cuda.get_device_properties(0)
    return f"torch {torch.__version__} sees {properties.name} with {units.memory_size(properties.total_memory)}"


def multiply() -> str:
    """Multiply on the card, in the type that training computes in."""
    import torch

    ones = torch.ones(256, 256, dtype=torch.bfloat16 if device.has_bf16() else torch.float16, device="cuda")
    if (total := (ones @ ones).sum().item()) != 256**3:
        raise ArithmeticError(f"ones times ones summed to {total}, not {256**3}")
    return f"a product in {str(ones.dtype).removeprefix('torch.')} is right"


def compile_kernel() -> str:
    """Compile Triton's first kernel, which needs the C compiler and Python.h."""
    import torch

    from rankviz.worker.preflight_kernel import add_one

    numbers = torch.arange(1024, dtype=torch.float32, device="cuda")
    result = torch.empty_like(numbers)
    add_one[(1,)](numbers, result, SIZE=1024)
    if not torch.equal(result, numbers + 1):
        raise ArithmeticError("the Triton kernel gave wrong numbers")
    return "a Triton kernel compiles and is right"


def quantize() -> str:
    """Quantize to NF4 and back, with bitsandbytes' native library."""
    import torch
    from bitsandbytes import functional

    weights = torch.randn(64, 64, dtype=torch.float16, device="cuda")
    error = (functional.dequantize_4bit(*functional.quantize_4bit(weights, quant_type="nf4")) - weights).abs().mean()
    if not error < 0.2:
        raise ArithmeticError(f"NF4 and back is off by {error:.3f} on average, of numbers around 1")
    return "bitsandbytes quantizes to NF4 and back"


def import_unsloth() -> str:
    import unsloth

    return f"Unsloth {unsloth.__version__} imports"


ON_A_GPU = (
    ("multiplying on the GPU", multiply),
    ("compiling a kernel", compile_kernel),
    ("quantizing on the GPU", quantize),
)
