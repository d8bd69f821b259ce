"""Makes this process believe in one CUDA card, on which FakeTensors live and nothing is computed.

Before torch is imported:

    prepare()
    card = become(gpu)          # a Gpu of assets/gpus.json
    with FakeTensorMode(), Tracker(card) as tracker: ...

A build of torch for CPUs, or one for CUDA without a card, lacks a device guard that works, which autograd asks for:
card.cpp is one, compiled once with g++. torch.cuda then answers as the card would. All of it is for a process of its
own: nothing is taken back.
"""

import ctypes
import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rankviz import paths
from rankviz.core.cost.setup import Gpu
from rankviz.errors import UserError
from rankviz.worker.simulate.allocator import Allocator

SOURCE = Path(__file__).with_name("card.cpp")
NO_COMPILER = (
    "A simulation needs a C++ compiler once, and g++ was not found. Install it (apt-get install g++) and try again."
)


class Card:
    """What torch.cuda says of the card, and its memory."""

    def __init__(self, gpu: Gpu):
        self.name = gpu.name
        if gpu.compute_capability is None:
            raise UserError(f"The compute capability of {gpu.name} is not known, so it cannot be simulated.")
        self.capability = divmod(round(10 * gpu.compute_capability), 10)
        self.total_bytes = gpu.usable_bytes or gpu.memory_bytes
        self.supports_bf16 = gpu.supports_bf16
        self.allocator = Allocator()

    @property
    def cublas_workspace_bytes(self) -> int:
        """Of one handle (ATen/cuda/CublasHandlePool.cpp: 32 MiB on Hopper and datacenter Blackwell)."""
        return 2**25 if self.capability[0] in (9, 10) else 8_519_680


@functools.cache
def prepare() -> None:
    """Load torch with one card in it, once; RuntimeError where torch was there before."""
    if "torch" in sys.modules:
        raise RuntimeError("The simulated card must be there before torch is imported.")
    library = ctypes.CDLL(str(_library()), ctypes.RTLD_GLOBAL)
    import bitsandbytes  # noqa: F401  it looks for CUDA's libraries where torch.cuda is there
    import torch  # noqa: F401
    from torch._subclasses import fake_tensor

    library.install()
    # Neither makes a true tensor on the card.
    fake_tensor.init_gpu_context = lambda device: None
    fake_tensor.FakeTensorMode.avoid_device_init = True


def become(gpu: Gpu) -> Card:
    """The card that torch sees in this process from now on, empty. Calls `prepare`."""
    prepare()
    import torch

    card = Card(gpu)
    _answer_as(card, torch)
    return card


def _library() -> Path:
    """card.cpp, compiled for this torch; built on the first call."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise UserError("A simulation needs PyTorch: pip install 'rankviz[train]'")
    torch_folder = Path(spec.origin).parent
    key = hashlib.sha256(SOURCE.read_bytes() + str(torch_folder).encode() + _torch_version()).hexdigest()[:16]
    target = paths.home() / "simulate" / f"card-{key}.so"
    if target.exists():
        return target
    if (compiler := shutil.which("g++")) is None:
        raise UserError(NO_COMPILER)
    target.parent.mkdir(parents=True, exist_ok=True)
    libraries = torch_folder / "lib"
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder, target.name)
        command = [compiler, "-std=c++20", "-O1", "-fPIC", "-shared", f"-I{torch_folder / 'include'}", str(SOURCE)]
        command += ["-o", str(made), f"-L{libraries}", "-lc10", "-ltorch_cpu", f"-Wl,-rpath,{libraries}"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise UserError(f"g++ could not compile the simulated card: {done.stderr.strip()[:300]}")
        os.replace(made, target)
    return target


def _torch_version() -> bytes:
    return importlib.metadata.version("torch").encode()


def _answer_as(card: Card, torch: Any) -> None:
    """torch.cuda's answers, as the card would give them."""
    allocator = card.allocator
    properties = SimpleNamespace(
        name=f"NVIDIA {card.name}",
        major=card.capability[0],
        minor=card.capability[1],
        total_memory=card.total_bytes,
        multi_processor_count=64,
        warp_size=32,
        max_threads_per_multi_processor=2048 if card.capability[0] >= 8 else 1024,
        shared_memory_per_block_optin=98304,
        gcnArchName="",
    )

    def stats(device: Any = None) -> dict[str, int]:
        return {
            "allocated_bytes.all.current": allocator.allocated,
            "allocated_bytes.all.peak": allocator.peak_allocated,
            "reserved_bytes.all.current": allocator.reserved,
            "reserved_bytes.all.peak": allocator.peak_reserved,
        }

    stream = SimpleNamespace(
        synchronize=lambda: None, wait_stream=lambda other: None, cuda_stream=0, device_index=0, query=lambda: True
    )
    answers = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "_is_in_bad_fork": lambda: False,
        "_lazy_init": lambda: None,
        "init": lambda: None,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "_exchange_device": lambda device: 0,
        "_maybe_exchange_device": lambda device: 0,
        "get_device_capability": lambda device=None: card.capability,
        "get_device_properties": lambda device=None: properties,
        "get_device_name": lambda device=None: properties.name,
        "get_arch_list": lambda: [f"sm_{card.capability[0]}{card.capability[1]}"],
        "is_bf16_supported": lambda including_emulation=True: including_emulation or card.supports_bf16,
        "mem_get_info": lambda device=None: (card.total_bytes - allocator.reserved, card.total_bytes),
        "memory_stats": stats,
        "memory_allocated": lambda device=None: allocator.allocated,
        "memory_reserved": lambda device=None: allocator.reserved,
        "max_memory_allocated": lambda device=None: allocator.peak_allocated,
        "max_memory_reserved": lambda device=None: allocator.peak_reserved,
        "reset_peak_memory_stats": lambda device=None: allocator.reset_peaks(),
        "synchronize": lambda device=None: None,
        "empty_cache": allocator.empty_cache,
        "current_stream": lambda device=None: stream,
        "default_stream": lambda device=None: stream,
        "is_current_stream_capturing": lambda: False,
        "get_rng_state": lambda device=None: torch.empty(16, dtype=torch.uint8, device="cpu"),
        "set_rng_state": lambda state, device=None: None,
        "manual_seed_all": lambda seed: None,
    }
    for name, answer in answers.items():
        setattr(torch.cuda, name, answer)
