"""Asks torch about the card that trains, and tells apart how a card fails: out of memory, or for good."""

import os
import sys
from collections.abc import Iterator

BF16_CAPABILITY = (8, 0)
"""Compute capability from which bf16 is in the hardware (Ampere). torch emulates it below, several times slower, and
so reports it as supported there."""
OUT_OF_MEMORY_CODE = 2
"""cudaErrorMemoryAllocation of the CUDA runtime."""


def has_cuda() -> bool:
    """Whether torch can use a GPU here."""
    import torch

    return torch.cuda.is_available()


def has_bf16() -> bool:
    """Whether the GPU that torch uses multiplies bf16 in hardware."""
    import torch

    if torch.version.hip:
        return torch.cuda.is_bf16_supported()
    return torch.cuda.get_device_capability() >= BF16_CAPABILITY


def forces_fp32() -> bool:
    """Whether Unsloth trains the model that it loaded last without autocast: its FORCE_FLOAT32 list, in fp16 or on a
    card without bf16 (unsloth/models/loader.py)."""
    return os.environ.get("UNSLOTH_FORCE_FLOAT32", "0") == "1"


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on the GPU or in Python, here or in what led to this error."""
    torch = sys.modules.get("torch")
    for each in causes(error):
        if isinstance(each, MemoryError) or (torch is not None and isinstance(each, torch.OutOfMemoryError)):
            return True
        if _is_accelerator_error(each) and getattr(each, "error_code", None) == OUT_OF_MEMORY_CODE:
            return True
    return False


def is_lost(error: BaseException) -> bool:
    """Whether the GPU's context has failed for good, so that every later call of this process fails too: an illegal
    memory access, a failed assertion in a kernel, a card that has dropped off the bus.

    torch has a class for most of these. Triton and bitsandbytes report them as a RuntimeError, so the card is asked.
    """
    if any(_is_accelerator_error(each) for each in causes(error)) and not ran_out_of_memory(error):
        return True
    torch = sys.modules.get("torch")
    if torch is None or not has_cuda() or not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError as failure:
        return not ran_out_of_memory(failure)
    return False


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what caused it, what caused that, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_accelerator_error(error: BaseException) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, torch.AcceleratorError)
