"""Compares GPUs that fit, cheapest first, and QLoRA, 16-bit LoRA and full fine-tuning on one GPU."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rankviz.core.cost.duration import cost, price_of
from rankviz.core.cost.estimate import Fit, fit, spare, usable_memory
from rankviz.core.cost.predict import full_finetuning
from rankviz.core.cost.question import validate_price
from rankviz.core.cost.setup import Gpu, Price
from rankviz.core.fit.changes import Setting, setting, sixteen_bit
from rankviz.core.quantity import Range
from rankviz.errors import InvalidSettingError

ORDER = {"fits": 0, "tight": 0, "uncertain": 1, "does_not_fit": 2, None: 3}


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """One GPU with this setting on it."""

    gpu: Gpu
    usable: Range
    price: Price | None
    fit: Fit | None = None
    """None where the setting can't run on it; `reason` says why."""
    spare: Range | None = None
    seconds: Range | None = None
    usd: Range | None = None
    reason: str = ""

    @property
    def fits(self) -> bool:
        return self.fit in ("fits", "tight")


def cards(start: Setting, gpus: Sequence[Gpu], prices: Mapping[str, float]) -> tuple[Card, ...]:
    """All GPUs, those that fit first. prices: one's own, by id, in USD an hour."""
    table = [_card(start, gpu, prices) for gpu in gpus]
    return tuple(sorted(table, key=_place))


def _place(card: Card) -> tuple:
    return (ORDER[card.fit], card.usd.expected if card.usd else math.inf, card.gpu.memory_bytes, card.gpu.id)


def _card(start: Setting, gpu: Gpu, prices: Mapping[str, float]) -> Card:
    own = prices.get(gpu.id)
    if own is None and start.gpu is not None and gpu.id == start.gpu.id:
        own = start.question.usd_per_hour
    usable = usable_memory(gpu, start.assumptions)
    try:
        there = setting(start.model, replace(start.question, gpu=gpu.id, usd_per_hour=own), gpu, start.assumptions)
    except InvalidSettingError as error:
        return Card(gpu=gpu, usable=usable, price=price_of(gpu, own), reason=str(error))
    row = there.row
    return Card(
        gpu=gpu,
        usable=usable,
        fit=row.fit,
        spare=there.spare,
        price=there.answer.price,
        seconds=row.duration.total if row.duration else None,
        usd=row.cost.usd if row.cost else None,
    )


def validate_prices(prices: Mapping[str, float], gpus: Sequence[Gpu]) -> None:
    """Raise InvalidSettingError with what to change, or return."""
    for gpu in gpus:
        if gpu.id in prices:
            validate_price(prices[gpu.id], of=gpu.name)


def cheapest_that_fits(table: Sequence[Card]) -> Card | None:
    """The first with a known total; where no total is known, the first that fits."""
    fitting = [card for card in table if card.fits]
    return fitting[0] if fitting else None


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
        fit=fit(left, usable, assume) if left else None,
        spare=left,
        seconds=full.duration.total if full.duration else None,
        usd=paid.usd if paid else None,
        chosen=False,
    )
