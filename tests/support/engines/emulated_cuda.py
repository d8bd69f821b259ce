"""The worker with Unsloth's CUDA branch, without a GPU: `python -m tests.support.engines.emulated_cuda finetune ...`.

Unsloth is imported as on a GPU (UNSLOTH_ALLOW_CPU=1: FastLanguageModel of models/loader.py and models/llama.py, LoRA's
fused backward passes, TRL's trainers rewritten), and RankViz takes its own CUDA branch. Then:

- what asks the card is answered for a card of 24 GiB with bf16 that is not there; tensors are on the CPU;
- the Triton kernels of RMS norm, RoPE and SwiGLU are replaced by the same formulas in torch;
- torch.compile is off, and no base is quantized.

So not covered: Triton, torch.compile, CUDA streams, bitsandbytes (4-bit and 8-bit bases, 8-bit optimizers), offloaded
checkpoints, GPU memory and speed. Those are what tests/gpu/ runs on a card.

FAULTS, an environment variable, makes runs fail as a GPU would: "WHERE RANK, WHERE RANK", where WHERE is "attach"
(memory runs out when half of the modules are wrapped), "step" (memory runs out in the second step) or "kernel" (an
illegal memory access in the second step, after which the card answers nothing).
"""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

CARD_BYTES = 24 * 2**30
CAPABILITY = (8, 9)
OFFLOADING = "emulated: Unsloth would offload checkpoints from here on"
"""Printed where Unsloth decides so; layer inputs then stay where they are."""
FAILING_STEP = 2
FAILING_MODULE = 8


def install() -> None:
    """From here on this process has Unsloth's CUDA branch."""
    os.environ |= {
        "UNSLOTH_ALLOW_CPU": "1",
        "UNSLOTH_COMPILE_DISABLE": "1",
        "UNSLOTH_DISABLE_AUTO_UPDATES": "1",
        "TORCHDYNAMO_DISABLE": "1",
        "HF_HUB_OFFLINE": "1",
    }
    import unsloth  # noqa: F401  before torch's queries are faked, or it would use the card

    fake_the_card()
    replace_kernels()
    rewrite_trainers()
    for fault in filter(None, os.environ.get("FAULTS", "").split(",")):
        fail_as_a_gpu(*fault.split())


def main() -> int:
    os.chdir(sys.argv[2])  # HOME, as the worker does; rewritten trainers are written into the working directory
    install()
    from rankviz.worker.__main__ import main as worker

    return worker(sys.argv[1:])


def fake_the_card() -> None:
    import torch
    import transformers.training_args
    import unsloth.models._utils
    import unsloth_zoo.device_type

    import rankviz.worker.device
    from rankviz.worker import device
    from rankviz.worker.device import reset_high_water_mark

    high_water = device.Memory(cuda=False).peak

    def resident(*_) -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    properties = SimpleNamespace(name="Emulated GPU", total_memory=CARD_BYTES, major=CAPABILITY[0], minor=CAPABILITY[1])
    for name, answer in {
        "get_device_capability": lambda *_: CAPABILITY,
        "get_device_properties": lambda *_: properties,
        "get_device_name": lambda *_: properties.name,
        "is_bf16_supported": lambda *_: True,
        "memory_allocated": resident,
        "memory_reserved": resident,
        "max_memory_allocated": lambda *_: high_water(),
        "max_memory_reserved": lambda *_: high_water(),
        "reset_peak_memory_stats": lambda *_: reset_high_water_mark(),
        "mem_get_info": lambda *_: (CARD_BYTES - resident(), CARD_BYTES),
        "empty_cache": lambda: None,
        "synchronize": lambda *_: None,
        "is_initialized": lambda: True,
    }.items():
        setattr(torch.cuda, name, answer)
    unsloth.models._utils.SUPPORTS_BFLOAT16 = True
    unsloth_zoo.device_type.device_is_bf16_supported = lambda: True
    transformers.training_args.is_torch_bf16_gpu_available = lambda: True
    device.has_cuda = lambda: True
    rankviz.worker.device.ONE_CARD = {"": "cpu"}
    # Whether to offload is Unsloth's own decision; the offloading itself needs pinned memory and CUDA streams.
    unsloth.models._utils.patch_unsloth_smart_gradient_checkpointing = lambda dtype: print(OFFLOADING, flush=True)


def replace_kernels() -> None:
    import torch
    from torch.nn.functional import silu
    from unsloth.kernels import fast_lora
    from unsloth.models import llama

    def rms_norm(layer, hidden, gemma=False, **_):
        epsilon = getattr(layer, "variance_epsilon", None) or layer.eps
        wide = hidden.float()
        normal = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)
        if gemma:
            return (normal * (1.0 + layer.weight.float())).to(hidden.dtype)
        return layer.weight * normal.to(hidden.dtype)

    def rotate(queries, keys, cos, sin, positions=None):
        """queries, keys: batch × heads × length × head size. cos, sin: length × head size."""
        length = queries.shape[-2]
        cos, sin = cos.squeeze(), sin.squeeze()
        cos, sin = (t[positions].unsqueeze(1) if positions is not None else t[:length] for t in (cos, sin))

        def turned(x):
            half = x.shape[-1] // 2
            return (x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin).to(x.dtype)

        return turned(queries), turned(keys)

    def swiglu(gate, up):
        return silu(gate.float()).to(up.dtype) * up

    def swiglu_backward(upstream, gate, up):
        """In place, as the kernel: (h, df, de) for upstream, gate and up."""
        wide = gate.float()
        sigmoid = torch.sigmoid(wide)
        f = (sigmoid * wide).to(upstream.dtype)
        h, df, dg = f * up, upstream * f, upstream * up
        de = (dg.float() * sigmoid * (1.0 + wide * (1.0 - sigmoid))).to(upstream.dtype)
        return upstream.copy_(h), gate.copy_(df), up.copy_(de)

    # RoPE's tables are kept per card, by its number; tensors on a CPU have none.
    llama.DEVICE_COUNT, llama.get_current_device = _OneDevice(1), lambda: "cpu"
    llama._LazyDeviceScratch = lambda count, make: _OnePlace(make("cpu"))  # room for generating
    llama.fast_rms_layernorm = rms_norm
    llama.fast_rope_embedding = rotate
    fast_lora.swiglu_fg_kernel = swiglu
    fast_lora.swiglu_DWf_DW_dfg_kernel = swiglu_backward


class _OneDevice(int):
    """[x] * _OneDevice(1) is a table with one place for every key."""

    def __rmul__(self, values: list) -> "_OnePlace":
        return _OnePlace(values[0])


class _OnePlace:
    def __init__(self, value):
        self.value = value

    def __len__(self) -> int:
        return 1

    def __getitem__(self, _):
        return self.value

    def __setitem__(self, _, value):
        self.value = value


def rewrite_trainers() -> None:
    """What Unsloth leaves out under UNSLOTH_ALLOW_CPU=1, and does on a GPU."""
    from unsloth import trainer
    from unsloth.models import llama, rl

    os.environ["UNSLOTH_ALLOW_CPU"] = "0"
    try:
        rl.PatchFastRL(FastLanguageModel=llama.FastLlamaModel)
        trainer._patch_trl_trainer()
    finally:
        os.environ["UNSLOTH_ALLOW_CPU"] = "1"


def fail_as_a_gpu(where: str, rank: str) -> None:
    import torch

    if where == "attach":
        _fail_while_attaching(int(rank))
        return
    from transformers import Trainer

    step = Trainer.training_step

    def failing(self, model, *args, **kwargs):
        if self.state.global_step + 1 < FAILING_STEP or model.peft_config["default"].r != int(rank):
            return step(self, model, *args, **kwargs)
        if where == "step":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        message = "CUDA error: an illegal memory access was encountered\nCompile with TORCH_USE_CUDA_DSA"

        def dead(*_):
            raise torch.AcceleratorError(message)

        torch.cuda.synchronize = torch.cuda.empty_cache = dead
        raise torch.AcceleratorError(message)

    Trainer.training_step = failing


def _fail_while_attaching(rank: int) -> None:
    import torch
    from peft.tuners.lora import LoraModel

    wrap, wrapped = LoraModel._create_and_replace, []

    def failing(self, config, *args, **kwargs):
        if config.r != rank:
            return wrap(self, config, *args, **kwargs)
        wrapped.append(config.r)
        if len(wrapped) == FAILING_MODULE:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return wrap(self, config, *args, **kwargs)

    LoraModel._create_and_replace = failing


if __name__ == "__main__":
    sys.exit(main())
