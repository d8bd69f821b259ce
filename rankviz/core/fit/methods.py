"""Compares QLoRA, 16-bit LoRA and full fine-tuning at the same rank, batch, length and GPU."""

from dataclasses import dataclass
from typing import Literal

from rankviz.core.cost.duration import cost
from rankviz.core.cost.estimate import Fit, fit, spare
from rankviz.core.cost.full_finetuning import full_finetuning
from rankviz.core.fit.knobs import sixteen_bit
from rankviz.core.fit.setting import Setting
from rankviz.core.quantity import Range
from rankviz.errors import InvalidSettingError

MethodName = Literal["qlora", "lora", "full"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    name: MethodName
    label: str
    precision: str
    """Of the base; for full fine-tuning of weights, gradients and optimizer states."""
    trained_parameters: int
    saved_bytes: int
    saved_exact: bool
    """False for full fine-tuning, whose checkpoint is counted without its headers."""
    device: Range
    """Bytes, as nvidia-smi shows."""
    fit: Fit | None
    spare: Range | None
    seconds: Range | None
    usd: Range | None
    chosen: bool
    """Whether this is what the question asks."""


def methods(start: Setting) -> tuple[Method, ...]:
    """Three rows; an adapter's is left out where its precision can't be asked or overflows."""
    rows = [
        _adapter(start, "qlora", "QLoRA", "nf4-dq"),
        _adapter(start, "lora", "LoRA, 16-bit base", half) if (half := sixteen_bit(start)) else None,
        _full(start),
    ]
    return tuple(method for method in rows if method is not None)


def _adapter(start: Setting, name: MethodName, label: str, precision: str) -> Method | None:
    try:
        there = start.with_change({"precision": precision})
    except InvalidSettingError:
        return None
    row = there.row
    return Method(
        name=name,
        label=label,
        precision=precision,
        trained_parameters=row.adapter_parameters,
        saved_bytes=row.adapter_bytes,
        saved_exact=True,
        device=row.memory.device_band,
        fit=row.fit,
        spare=there.spare,
        seconds=row.duration.total if row.duration else None,
        usd=row.cost.usd if row.cost else None,
        chosen=precision == start.question.training.precision,
    )


def _full(start: Setting) -> Method:
    usable, assume = start.answer.usable_bytes, start.assumptions
    full = full_finetuning(
        start.answer.model, start.question.training, start.gpu, usable.expected if usable else None, assume
    )
    paid = cost(full.duration, start.answer.price) if full.duration else None
    device = full.memory.device_band
    left = spare(device, usable) if usable else None
    return Method(
        name="full",
        label="Full fine-tuning",
        precision=full.dtype,
        trained_parameters=full.trained_parameters,
        saved_bytes=full.saved_bytes,
        saved_exact=False,
        device=device,
        fit=fit(left, usable, assume.value("tight-share")) if left else None,
        spare=left,
        seconds=full.duration.total if full.duration else None,
        usd=paid.usd if paid else None,
        chosen=False,
    )
