"""Makes Unsloth take the simulated card for a CUDA device. Its Triton kernels do and allocate nothing when they are
launched, and its blocks are not compiled. Use a process of its own, and import it before transformers, peft and trl."""

import os
from collections import Counter
from types import SimpleNamespace
from typing import Any

from rankviz.worker.simulate.card import SimulatedCard

LAUNCHES: Counter[str] = Counter()
"""Number of launches by the Triton kernel's name."""


def import_unsloth(card: SimulatedCard) -> None:
    """Import Unsloth on the simulated card; raise RuntimeError where Unsloth does not recognize a CUDA device."""
    # torch.compile leaves code alone that runs under a tracker, so that compiled blocks would run as they are written.
    os.environ.update(HF_HUB_OFFLINE="1", UNSLOTH_DISABLE_STATISTICS="1", UNSLOTH_BLOCK_COMPILE="0")
    import bitsandbytes.functional
    import torch._dynamo  # noqa: F401  it knows functions of torch.cuda by identity
    import triton
    from triton.backends.compiler import GPUTarget

    bitsandbytes.functional.lib = _NoKernels()
    major, minor = card.capability
    properties = {"max_shared_mem": 98304, "multiprocessor_count": 64, "warpSize": 32, "max_num_regs": 65536}
    triton.runtime.driver.set_active(
        SimpleNamespace(
            get_current_target=lambda: GPUTarget("cuda", 10 * major + minor, 32),
            get_current_device=lambda: 0,
            get_current_stream=lambda device=0: 0,
            get_device_capability=lambda device=0: card.capability,
            utils=SimpleNamespace(get_device_properties=lambda device: properties),
        )
    )
    count_launches()
    import unsloth
    from unsloth.device_type import ALLOW_BITSANDBYTES
    from unsloth.kernels.utils import _USE_NF4_KERNELS

    if unsloth.DEVICE_TYPE != "cuda" or not (ALLOW_BITSANDBYTES and _USE_NF4_KERNELS):
        raise RuntimeError("Unsloth did not take the simulated card for a CUDA device with 4-bit kernels.")


class _NoKernels:
    """Stand-in for bitsandbytes' compiled library: every kernel exists, and raises RuntimeError when it is called."""

    def __getattr__(self, name: str) -> Any:
        def kernel(*args: Any) -> None:
            raise RuntimeError(f"bitsandbytes' own kernel {name} was called on a simulated card.")

        kernel.restype = None
        return kernel


def count_launches() -> None:
    """Let Triton kernels count their launches instead of running."""
    from triton.runtime.autotuner import Autotuner, Heuristics
    from triton.runtime.jit import JITFunction

    for kind in (JITFunction, Autotuner, Heuristics):
        kind.run = _launch


def _launch(kernel: Any, *args: Any, **more: Any) -> None:
    while not hasattr(kernel, "__name__"):
        kernel = kernel.fn
    LAUNCHES[kernel.__name__] += 1
