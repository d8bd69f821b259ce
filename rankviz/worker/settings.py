"""What "auto" comes to on this machine, and which combinations Unsloth can't train."""

from dataclasses import dataclass, replace

from rankviz.core.probe.request import ProbeRequest
from rankviz.core.runs.request import RunRequest
from rankviz.errors import InvalidSettingError

CPU_PRECISIONS = ("fp32", "bf16")
CUDA_PRECISIONS = ("nf4-dq", "int8", "bf16", "fp16", "fp32")
CPU_OPTIMIZERS = {"adamw_torch": "adamw_torch_fused", "sgd": "sgd"}
"""Name asked for to name used: Unsloth's CPU backend takes the fused AdamW, the same update in one kernel."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """One sweep's settings on one device."""

    cuda: bool
    precision: str
    optim: str
    gradient_checkpointing: str | bool
    """Unsloth's own on a GPU; off on the CPU, where memory is plenty and recomputing costs a third of the time. True is
    transformers' own."""
    framework: str = "unsloth"

    @property
    def dtype_name(self) -> str | None:
        """torch dtype of weights that aren't quantized; None leaves it to Unsloth (bf16 where the GPU has it)."""
        return {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}.get(self.precision)

    @property
    def evaluation_dtype(self) -> str | None:
        """torch dtype in which a forward pass runs; None is fp32 throughout."""
        if self.precision in ("nf4-dq", "int8"):
            import torch

            return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
        return None if self.precision == "fp32" else self.dtype_name

    @property
    def autocast(self) -> dict[str, bool] | None:
        """bf16 and fp16 of the trainer; None leaves both to Unsloth."""
        if self.precision in ("bf16", "fp16", "fp32"):
            return {"bf16": self.precision == "bf16", "fp16": self.precision == "fp16"}
        return None if self.framework == "unsloth" else {"bf16": True}

    @property
    def checkpointing_arguments(self) -> dict[str, bool]:
        """Of the trainer. On a GPU Unsloth's trainer has its own default."""
        if self.cuda and self.framework == "unsloth":
            return {}
        on_cpu = {} if self.cuda else {"use_cpu": True}
        return {"gradient_checkpointing": self.gradient_checkpointing is True, **on_cpu}


def settle(request: RunRequest, *, cuda: bool) -> Settings:
    """InvalidSettingError where this device can't do what was asked: nothing is replaced in silence."""
    precision = ("nf4-dq" if cuda else "fp32") if request.precision == "auto" else request.precision
    known = CUDA_PRECISIONS if cuda else CPU_PRECISIONS
    if precision not in known:
        where = "On a GPU Unsloth trains in" if cuda else "Without a GPU Unsloth trains in"
        raise InvalidSettingError(f"{where} {', '.join(known)}, not {precision}.")
    optim = ("adamw_8bit" if cuda else "adamw_torch") if request.optim == "auto" else request.optim
    if not cuda and optim not in CPU_OPTIMIZERS:
        raise InvalidSettingError(f"{optim} needs a GPU; without one take {' or '.join(CPU_OPTIMIZERS)}.")
    return Settings(
        cuda=cuda,
        precision=precision,
        optim=optim if cuda else CPU_OPTIMIZERS[optim],
        gradient_checkpointing="unsloth" if cuda else False,
    )


def settle_probe(request: ProbeRequest, run: RunRequest, *, cuda: bool) -> Settings:
    """Of a probe, which may also train without Unsloth; InvalidSettingError where it was queued for another device."""
    checkpointing = {"unsloth": "unsloth", "hf": True, "none": False}[request.checkpointing]
    if request.framework == "unsloth":
        return replace(settle(run, cuda=cuda), gradient_checkpointing=checkpointing)
    if not cuda and request.precision not in CPU_PRECISIONS:
        raise InvalidSettingError(f"Without a GPU one trains in {', '.join(CPU_PRECISIONS)}, not {request.precision}.")
    return Settings(
        cuda=cuda,
        precision=request.precision,
        optim=request.optim,
        gradient_checkpointing=checkpointing,
        framework=request.framework,
    )
