"""Makes this process believe in one CUDA card, on which FakeTensors live and nothing is computed.
Call `card = become(gpu)` before torch is imported, then use `with FakeTensorMode(), Tracker(card) as tracker: ...`
autograd needs a working device guard, which torch lacks without a card: card.cpp is one, compiled once with g++.
torch.cuda then answers as the card would. Use a process of its own, because nothing is undone."""

import contextlib
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
from bisect import bisect_left, insort
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rankviz import paths
from rankviz.catalog.hardware import find_gpu, load_gpus
from rankviz.core.cost.setup import Gpu, TrainingSetup
from rankviz.core.from_json import build
from rankviz.core.lora.config import LoraConfig
from rankviz.errors import RankVizError, UserError

SOURCE = Path(__file__).with_name("card.cpp")
MIN_BLOCK = 512
SMALL_SIZE = 2**20
SMALL_SEGMENT = 2 * 2**20
LARGE_SEGMENT = 20 * 2**20
MIN_LARGE = 10 * 2**20
ROUND_LARGE = 2 * 2**20


MemoryBlock = tuple[int, int, bool]
"""A used piece of a segment: address, size, and True for a small piece (of a segment for small pieces)."""


class Allocator:
    """One card's memory, as torch's CUDA caching allocator counts it (c10/cuda/CUDACachingAllocator.cpp, torch 2.13).
    Sizes are rounded to 512 bytes. Blocks up to 1 MiB come from segments of 2 MiB, larger ones below 10 MiB from
    segments of 20 MiB, the rest from segments of their own in whole 2 MiB. The smallest free block that is large
    enough is taken, and split where more than 1 MiB (512 bytes in small segments) is left. Not covered: more streams,
    the options of PYTORCH_CUDA_ALLOC_CONF, and segments given back where the card is full."""

    def __init__(self) -> None:
        self.allocated = self.reserved = self.peak_allocated = self.peak_reserved = 0
        self._free: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
        """Free pieces as (size, address) in rising order; True: of small segments, False: of large segments."""
        self._starts: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        """Addresses of both ends of each free piece: the end by its start, and the start by its end."""
        self._segments: dict[int, int] = {}
        self._next_address = 0

    def allocate(self, size: int) -> MemoryBlock | None:
        """Return a block of at least `size` bytes; None where size is 0."""
        if size <= 0:
            return None
        size = -(-size // MIN_BLOCK) * MIN_BLOCK
        small = size <= SMALL_SIZE
        pool = self._free[small]
        if not pool or pool[-1][0] < size:
            segment = LARGE_SEGMENT if size < MIN_LARGE else -(-size // ROUND_LARGE) * ROUND_LARGE
            segment, start = SMALL_SEGMENT if small else segment, self._next_address
            self._segments[start] = segment
            self._next_address += segment + MIN_BLOCK  # a gap, so that segments never join
            self.reserved += segment
            self.peak_reserved = max(self.peak_reserved, self.reserved)
            self._put(start, start + segment, small)
        length, address = pool[bisect_left(pool, (size, -1))]
        self._take(address, address + length, small)
        rest = length - size
        if rest >= MIN_BLOCK if small else rest > SMALL_SIZE:
            self._put(address + size, address + length, small)
            length = size
        self.allocated += length
        self.peak_allocated = max(self.peak_allocated, self.allocated)
        return address, length, small

    def free(self, block: MemoryBlock | None) -> None:
        """Free a block, and join it with free neighbours."""
        if block is None:
            return
        start, size, small = block
        end = start + size
        self.allocated -= size
        if (before := self._ends.get(start)) is not None:
            self._take(before, start, small)
            start = before
        if (after := self._starts.get(end)) is not None:
            self._take(end, after, small)
            end = after
        self._put(start, end, small)

    def reset_peaks(self) -> None:
        """Set the peaks to the current bytes."""
        self.peak_allocated, self.peak_reserved = self.allocated, self.reserved

    def empty_cache(self) -> None:
        """Release every segment that is not in use."""
        for small, pool in self._free.items():
            for size, address in list(pool):
                if self._segments.get(address) == size:
                    self._take(address, address + size, small)
                    self.reserved -= self._segments.pop(address)

    def _put(self, start: int, end: int, small: bool) -> None:
        self._starts[start], self._ends[end] = end, start
        insort(self._free[small], (end - start, start))

    def _take(self, start: int, end: int, small: bool) -> None:
        del self._starts[start], self._ends[end]
        pool = self._free[small]
        del pool[bisect_left(pool, (end - start, start))]


class Stream:
    """Stand-in for a CUDA stream or event; its methods do nothing."""

    cuda_stream = device_index = 0

    def __init__(self, *args: Any, **more: Any): ...

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **more: self


class SimulatedCard:
    """Facts that torch.cuda reports of the card, and the card's memory."""

    def __init__(self, gpu: Gpu):
        self.name = gpu.name
        if gpu.compute_capability is None:
            raise UserError(f"The compute capability of {gpu.name} is not known, so it cannot be simulated.")
        self.capability = divmod(round(10 * gpu.compute_capability), 10)
        self.total_bytes = gpu.usable_bytes or gpu.memory_bytes
        self.supports_bf16 = gpu.supports_bf16
        self.allocator = Allocator()
        self.cublas_workspace_bytes = 2**25 if self.capability[0] in (9, 10) else 8_519_680
        """Bytes of one handle's workspace (ATen/cuda/CublasHandlePool.cpp: 32 MiB for compute capability 9 and 10)."""


@functools.cache
def prepare() -> None:
    """Load torch with one simulated card, once; raise RuntimeError where torch was imported before. The first call on a
    machine compiles card.cpp for its torch."""
    if "torch" in sys.modules:
        raise RuntimeError("The simulated card must be there before torch is imported.")
    torch_folder = Path(importlib.util.find_spec("torch").origin).parent
    version, libraries = importlib.metadata.version("torch").encode(), torch_folder / "lib"
    key = hashlib.sha256(SOURCE.read_bytes() + str(torch_folder).encode() + version).hexdigest()[:16]
    target = paths.home() / "simulate" / f"card-{key}.so"
    if not target.exists():
        if (compiler := shutil.which("g++")) is None:
            raise UserError("A simulation needs a C++ compiler once, and there is no g++: apt-get install g++")
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            made = Path(folder, target.name)
            command = [compiler, "-std=c++20", "-O1", "-fPIC", "-shared", f"-I{torch_folder / 'include'}", str(SOURCE)]
            command += ["-o", str(made), f"-L{libraries}", "-lc10", "-ltorch_cpu", f"-Wl,-rpath,{libraries}"]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise UserError(f"g++ could not compile the simulated card: {done.stderr.strip()[:300]}")
            os.replace(made, target)
    library = ctypes.CDLL(str(target), ctypes.RTLD_GLOBAL)
    import bitsandbytes  # noqa: F401  it looks for CUDA's libraries where torch.cuda is there
    import torch
    from torch._subclasses import fake_tensor

    library.install()
    # Neither makes a true tensor on the card.
    fake_tensor.init_gpu_context = lambda device: None
    fake_tensor.FakeTensorMode.avoid_device_init = True
    # Tied weights are recognized by their address, and 0 would tie them all.
    fake_tensor.FakeTensor.data_ptr = lambda self: (
        16 * self.untyped_storage()._cdata + self.storage_offset() * self.element_size()
    )
    torch.cuda.Stream = torch.cuda.Event = Stream
    torch.cuda.stream = lambda other: contextlib.nullcontext()
    torch.version.cuda = torch.version.cuda or "12.8"
    torch._C._cuda_getCurrentRawStream = torch._C._cuda_getDevice = lambda *_: 0


def become(gpu: Gpu) -> SimulatedCard:
    """Make torch see this card, empty, in this process from now on; return the card. Calls `prepare`."""
    prepare()
    import torch

    card = SimulatedCard(gpu)
    allocator = card.allocator
    major, minor = card.capability
    properties = SimpleNamespace(
        name=f"NVIDIA {card.name}",
        major=major,
        minor=minor,
        total_memory=card.total_bytes,
        multi_processor_count=64,
        warp_size=32,
        max_threads_per_multi_processor=2048 if major >= 8 else 1024,
        shared_memory_per_block_optin=98304,
        gcnArchName="",
    )
    nothing = ("_lazy_init", "init", "set_device", "synchronize", "set_rng_state", "manual_seed_all")
    constants = {
        **dict.fromkeys(("is_available", "is_initialized"), True),
        **dict.fromkeys(("_is_in_bad_fork", "is_current_stream_capturing"), False),
        **dict.fromkeys(("current_device", "_exchange_device", "_maybe_exchange_device"), 0),
        **dict.fromkeys(nothing),
        **dict.fromkeys(("current_stream", "default_stream"), Stream()),
        "device_count": 1,
        "get_device_capability": card.capability,
        "get_device_properties": properties,
        "get_device_name": properties.name,
        "get_arch_list": [f"sm_{major}{minor}"],
    }
    for name, value in constants.items():
        setattr(torch.cuda, name, lambda *_, value=value, **__: value)
    answers = {
        "is_bf16_supported": lambda including_emulation=True: including_emulation or card.supports_bf16,
        "mem_get_info": lambda device=None: (card.total_bytes - allocator.reserved, card.total_bytes),
        "memory_stats": lambda device=None: {
            "allocated_bytes.all.current": allocator.allocated,
            "allocated_bytes.all.peak": allocator.peak_allocated,
            "reserved_bytes.all.current": allocator.reserved,
            "reserved_bytes.all.peak": allocator.peak_reserved,
        },
        "memory_allocated": lambda device=None: allocator.allocated,
        "memory_reserved": lambda device=None: allocator.reserved,
        "max_memory_allocated": lambda device=None: allocator.peak_allocated,
        "max_memory_reserved": lambda device=None: allocator.peak_reserved,
        "reset_peak_memory_stats": lambda device=None: allocator.reset_peaks(),
        "empty_cache": allocator.empty_cache,
        "get_rng_state": lambda device=None: torch.empty(16, dtype=torch.uint8, device="cpu"),
    }
    for name, function in answers.items():
        setattr(torch.cuda, name, function)
    return card


def simulated(
    config: Mapping[str, Any], gpu: str, lora: Mapping[str, Any], training: Mapping[str, Any], full: bool
) -> dict[str, Any]:
    """Return a `Simulated` as JSON; raise UserError where the model's code does not run on the simulated card."""
    setup, card = build(TrainingSetup, training), find_gpu(load_gpus(paths.ASSETS), gpu)
    prepare()
    from rankviz.worker.introspect.layers import layers_of
    from rankviz.worker.simulate.step import simulate_whole

    try:
        return asdict(simulate_whole(config, layers_of(config), build(LoraConfig, lora), setup, card, full=full))
    except (RankVizError, MemoryError):
        raise
    except Exception as error:  # any architecture may do what no tensor without values can
        words = " ".join(str(error).split())[:200]
        raise UserError(
            f"This model's code does not run on the simulated card ({type(error).__name__}: {words}). "
            "Use the estimate, or `rankviz probe` on a machine with a GPU."
        ) from error
