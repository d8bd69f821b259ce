"""Imports Unsloth on the simulated card, as if its Triton kernels could run there.

    card = become(gpu)        # before torch is imported
    import_unsloth(card)      # before transformers, peft and trl are
    from rankviz.worker.simulate import unsloth

Nothing in Unsloth's package is changed. Its kernels are launched and do nothing: they allocate nothing either. Blocks
are not compiled.
"""

import contextlib
import os
from collections import Counter
from types import SimpleNamespace
from typing import Any

from rankviz.worker.simulate.card import SimulatedCard, Stream

LAUNCHES: Counter[str] = Counter()
"""Triton kernels by name, and how often they were launched."""


def import_unsloth(card: SimulatedCard) -> None:
    """Load the package; RuntimeError where it did not take the card for one."""
    # torch.compile leaves code alone that runs under a tracker, so that compiled blocks would run as they are written.
    os.environ.update(HF_HUB_OFFLINE="1", UNSLOTH_DISABLE_STATISTICS="1", UNSLOTH_BLOCK_COMPILE="0")
    import bitsandbytes.functional
    import torch
    import torch._dynamo  # noqa: F401  it knows functions of torch.cuda by identity

    bitsandbytes.functional.lib = _NoKernels()
    answer_more()
    _stub_triton(card)
    import unsloth
    from unsloth.device_type import ALLOW_BITSANDBYTES
    from unsloth.kernels.utils import _USE_NF4_KERNELS

    if unsloth.DEVICE_TYPE != "cuda" or not (ALLOW_BITSANDBYTES and _USE_NF4_KERNELS):
        raise RuntimeError("Unsloth did not take the simulated card for a CUDA device with 4-bit kernels.")


class _NoKernels:
    """bitsandbytes' compiled library: every kernel is there, and none may be called."""

    def __getattr__(self, name: str) -> Any:
        def kernel(*args: Any) -> None:
            raise RuntimeError(f"bitsandbytes' own kernel {name} was called on a simulated card.")

        kernel.restype = None
        return kernel


def answer_more() -> None:
    """What Unsloth asks torch beyond what `become` answers; after each call of that."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensor

    torch.cuda.Stream = torch.cuda.Event = Stream
    torch.cuda.stream = lambda other: contextlib.nullcontext()
    torch.version.cuda = torch.version.cuda or "12.8"
    torch._C._cuda_getCurrentRawStream = lambda device: 0
    torch._C._cuda_getDevice = lambda: 0
    # Tied weights are recognized by their address, and 0 would tie them all.
    FakeTensor.data_ptr = lambda self: 16 * self.untyped_storage()._cdata + self.storage_offset() * self.element_size()


def _stub_triton(card: SimulatedCard) -> None:
    """A driver for the card."""
    import triton
    from triton.backends.compiler import GPUTarget

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


def count_launches() -> None:
    """Kernels count their launches and do nothing."""
    from triton.runtime.autotuner import Autotuner, Heuristics
    from triton.runtime.jit import JITFunction

    for kind in (JITFunction, Autotuner, Heuristics):
        kind.run = _launch


def _launch(kernel: Any, *args: Any, **more: Any) -> None:
    while not hasattr(kernel, "__name__"):
        kernel = kernel.fn
    LAUNCHES[kernel.__name__] += 1
