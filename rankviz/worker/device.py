"""The device that trains: its capabilities, failures, memory and facts, and the settings of a worker.
torch is imported only where it is used."""

import ctypes
import gc
import hashlib
import os
import platform
import resource
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

import rankviz
from rankviz import machine, units
from rankviz.core.cost.setup import Checkpointing, Device, TrainingSetup
from rankviz.core.cost.stack import compute_dtype
from rankviz.core.preflight import BF16_CAPABILITY
from rankviz.errors import InvalidSettingError, causes
from rankviz.machine import cards

OUT_OF_MEMORY_CODE = 2  # cudaErrorMemoryAllocation of the CUDA runtime
SHORT_SPIN = "1000"
"""GOMP_SPINCOUNT: number of times that a waiting thread polls before it sleeps. libgomp's default of 300,000 takes up
to 50 times the processor time where other programs are busy, and slows the threads that are waited for."""


def set_environment() -> None:
    """Set variables before the first import of libraries that read them: no telemetry, no trackers, no thread-pool
    warnings, and threads that share the processor with other programs. The user's own settings for threads stay."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SHORT_SPIN)
    os.environ.update(
        TOKENIZERS_PARALLELISM="false",
        HF_HUB_DISABLE_TELEMETRY="1",
        DO_NOT_TRACK="1",
        UNSLOTH_DISABLE_STATISTICS="1",
        WANDB_DISABLED="true",
        PYTHONUNBUFFERED="1",
    )


def has_cuda() -> bool:
    """Tell whether torch can use a GPU here."""
    import torch

    return torch.cuda.is_available()


def has_bf16() -> bool:
    """Tell whether the GPU that torch uses multiplies bf16 in hardware."""
    import torch

    if torch.version.hip:
        return torch.cuda.is_bf16_supported()
    return torch.cuda.get_device_capability() >= BF16_CAPABILITY  # torch emulates it below, several times slower


def ran_out_of_memory(error: BaseException) -> bool:
    """Tell whether this error or one of its causes means that memory ran out, on the GPU or in Python."""
    torch = sys.modules.get("torch")
    shortages = (MemoryError, torch.OutOfMemoryError) if torch else (MemoryError,)
    return any(
        isinstance(each, shortages) or getattr(each, "error_code", None) == OUT_OF_MEMORY_CODE for each in causes(error)
    )


def is_lost(error: BaseException) -> bool:
    """Tell whether the GPU's context has failed, so that all later CUDA calls of this process fail too. torch has an
    exception class for most such failures. For RuntimeErrors of Triton and bitsandbytes, the GPU is tested."""
    if (torch := sys.modules.get("torch")) is None:
        return False
    if any(isinstance(each, torch.AcceleratorError) for each in causes(error)) and not ran_out_of_memory(error):
        return True
    if not has_cuda() or not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError as failure:
        return not ran_out_of_memory(failure)
    return False


class Memory:
    """Bytes of memory of this process: `now()`, `peak()` since the last `reset()`, and torch's `peak_reserved()` (None
    on a CPU). On a CPU the peak is the kernel's high-water mark, which only Linux resets."""

    def __init__(self, *, cuda: bool):
        self.kind, self._cuda = "GPU allocated" if cuda else "process resident", None
        self.now, self.peak, self.reset = lambda: psutil.Process().memory_info().rss, high_water, reset_high_water_mark
        self.peak_reserved = lambda: None
        if cuda:
            from torch import cuda as card

            self._cuda, self.now, self.peak = card, card.memory_allocated, card.max_memory_allocated
            self.reset, self.peak_reserved = card.reset_peak_memory_stats, card.max_memory_reserved

    def settle(self) -> None:
        """Release memory that earlier runs left, so that it is not in the next run's peak."""
        gc.collect()
        if self._cuda:
            self._cuda.empty_cache()
            return
        with suppress(OSError, AttributeError):  # freed blocks stay in glibc's arenas until it is told to trim
            ctypes.CDLL(None).malloc_trim(0)


def high_water() -> int:
    """Return the largest resident set of this process since `reset_high_water_mark`."""
    try:
        return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def reset_high_water_mark() -> None:
    """Set VmHWM back to the current resident set, by writing 5 to clear_refs (Linux only; man proc_pid_clear_refs)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


LIBRARIES = (
    *("torch", "transformers", "peft", "trl", "unsloth", "unsloth_zoo"),
    *("accelerate", "datasets", "bitsandbytes", "safetensors"),
)


def environment(cuda: bool) -> dict[str, Any]:
    """Return device, driver and library versions, without which a run's numbers cannot be compared."""
    import torch

    device = {"device": "cpu", "device_name": machine.cpu_name(), "driver": None}
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
            "capability": ".".join(str(part) for part in torch.cuda.get_device_capability(0)),
        }
    return {
        **device,
        "cpu_count": os.cpu_count(),
        "cpu_bf16": machine.cpu_bf16(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "rankviz": rankviz.__version__,
        "versions": machine.versions(LIBRARIES),
    }


def model_fingerprint(model: Any) -> str:
    """Return 16 digits of a SHA-256 over each parameter's name, shape, dtype and first and last 16 values: enough to
    distinguish models and precisions without reading gigabytes."""
    import torch

    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode())
        flat = parameter.detach().reshape(-1)
        for piece in (flat[:16], flat[-16:]):
            digest.update(piece.to("cpu").contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
ONE_CARD = {"": 0}
"""Device map with the whole model on the first visible card. Unsloth's default may use other cards or the CPU too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSettings:
    """Settings of a worker for one training set-up on one device. training: Set-up without "auto" values. model_type:
    From the base's config.json; without Unsloth, compute_dtype depends on it."""

    training: TrainingSetup
    cuda: bool
    model_type: str = ""

    @property
    def optim(self) -> str:
        """Trainer's name of the optimizer. On a CPU, Unsloth uses the fused AdamW: the same optimizer in one kernel."""
        optim = self.training.optim
        return "adamw_torch_fused" if optim == "adamw_torch" and not self.cuda else optim

    @property
    def gradient_checkpointing(self) -> Literal["unsloth"] | bool:
        """Checkpointing as Unsloth's argument: "unsloth", True (transformers' own) or False (none)."""
        checkpointing = self.training.gradient_checkpointing
        return "unsloth" if checkpointing == "unsloth" else checkpointing == "hf"

    @property
    def effective_checkpointing(self) -> Checkpointing:
        """Checkpointing that the run really does. Below 512 tokens, Unsloth's checkpointing keeps layer inputs on the
        card, as transformers' does (apply_unsloth_gradient_checkpointing in unsloth/models/_utils.py)."""
        checkpointing = self.training.gradient_checkpointing
        return "hf" if checkpointing == "unsloth" and self.training.max_length < 512 else checkpointing

    @property
    def placement(self) -> dict[str, Any]:
        """Arguments of from_pretrained that place the base on a device."""
        return {"device_map": ONE_CARD} if self.cuda else {}

    @property
    def dtype_name(self) -> str | None:
        """torch dtype of weights that are not quantized; None leaves it to Unsloth (bf16 where the GPU has it)."""
        return DTYPES.get(self.training.precision)

    @property
    def compute_dtype(self) -> str:
        """torch dtype in which a quantized base is multiplied."""
        return DTYPES[compute_dtype(self.model_type, self.training, bf16=not self.cuda or has_bf16())]

    @property
    def mixed_precision(self) -> str | None:
        """torch dtype of the trainer's autocast, which evaluation uses too; None for no autocast. Read it after the
        base is loaded: on a GPU, Unsloth trains an fp32 base under bf16 autocast where the card has bf16
        (models/rl.py). tests/worker/test_emulated_cuda.py compares it with the trainer's own arguments."""
        on_unsloth = self.cuda and self.training.framework == "unsloth"
        if on_unsloth and os.environ.get("UNSLOTH_FORCE_FLOAT32", "0") == "1":
            return None  # a model of its FORCE_FLOAT32 list, in fp16 or on a card without bf16 (models/loader.py)
        if self.training.quantized:
            return self.compute_dtype
        if self.training.precision != "fp32":
            return self.dtype_name
        return "bfloat16" if on_unsloth and has_bf16() else None

    @property
    def trainer_arguments(self) -> dict[str, bool]:
        """Trainer's arguments for autocast, checkpointing and a CPU; empty where Unsloth sets its own."""
        unsloth, arguments = self.training.framework == "unsloth", {}
        if not (unsloth and self.training.quantized):
            dtype = self.compute_dtype if self.training.quantized else self.dtype_name
            arguments = {"bf16": dtype == "bfloat16", "fp16": dtype == "float16"}
        if not (unsloth and self.cuda):
            arguments["gradient_checkpointing"] = self.gradient_checkpointing is True
        return arguments if self.cuda else {**arguments, "use_cpu": True}

    @property
    def facts(self) -> dict[str, Any]:
        """Entries of a run's environment; read them after the base is loaded."""
        return {
            "precision": self.training.precision,
            "mixed_precision": self.mixed_precision or "none",
            "optim": self.optim,
            "gradient_checkpointing": self.effective_checkpointing,
        }


def settle(training: TrainingSetup, *, cuda: bool, model_type: str = "") -> WorkerSettings:
    """Return the settings for training on this machine; raise InvalidSettingError where it cannot train so."""
    settled = training.settle(Device(cuda=cuda, cpu_count=os.cpu_count() or 1))
    if cuda and settled.precision == "bf16" and not has_bf16():
        # Unsloth would load fp16 weights instead, and the trainer would then refuse its own arguments.
        raise InvalidSettingError(
            "This GPU does not support bf16, which needs compute capability 8.0. Choose precision fp16 or nf4-dq."
        )
    return WorkerSettings(training=settled, cuda=cuda, model_type=model_type)


def quantization(precision: str, compute: str) -> Any:
    """Return bitsandbytes' settings for a precision; None where it does not quantize. compute: a torch dtype's name."""
    from transformers import BitsAndBytesConfig

    if precision == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    four_bit = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": compute}
    double = {"bnb_4bit_use_double_quant": precision == "nf4-dq"}
    return BitsAndBytesConfig(**four_bit, **double) if precision in ("nf4", "nf4-dq") else None


def preflight(argv: Sequence[str]) -> int:
    """Try the libraries that training uses, and print one line (`python -m rankviz.worker preflight`). On a GPU,
    multiply on the card, quantize with bitsandbytes' native library, and compile by importing Unsloth."""
    set_environment()
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch

    summary = f"torch {torch.__version__} uses the CPU, with {torch.get_num_threads()} threads"
    if has_cuda():
        properties = torch.cuda.get_device_properties(0)
        summary = f"torch {torch.__version__} sees {properties.name} with {units.memory_size(properties.total_memory)}"
        ones = torch.ones(256, 256, dtype=torch.bfloat16 if has_bf16() else torch.float16, device="cuda")
        if (total := (ones @ ones).sum().item()) != 256**3:
            raise ArithmeticError(f"ones times ones summed to {total} on the GPU, not {256**3}")
        from bitsandbytes import functional

        weights = torch.randn(64, 64, dtype=torch.float16, device="cuda")
        packed, state = functional.quantize_4bit(weights, quant_type="nf4")
        if not (error := (functional.dequantize_4bit(packed, state) - weights).abs().mean().item()) < 0.2:
            raise ArithmeticError(f"NF4 and back is off by {error:.3f} on average, of numbers around 1")
    import unsloth

    print(f"{summary}; Unsloth {unsloth.__version__} imports", flush=True)
    return 0
