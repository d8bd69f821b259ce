"""Lists the GPUs that fit, cheapest first, with margin, price per hour, training time and cost.

Cheapest by the expected total, not by the hour. What has no price or no speed in the table is "not known" and stands
after what has, within the same verdict.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rankviz.core.cost.duration import price_of
from rankviz.core.cost.estimate import Fit, usable_memory
from rankviz.core.cost.gpu import Gpu, Price
from rankviz.core.cost.question import validate_price
from rankviz.core.fit.setting import Setting, setting
from rankviz.core.quantity import Range
from rankviz.errors import InvalidSettingError

ORDER = {"fits": 0, "tight": 0, "uncertain": 1, "does_not_fit": 2, None: 3}


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """One GPU with this setting on it."""

    gpu: Gpu
    usable: Range
    fit: Fit | None
    """None where the setting can't run on it; `reason` says why."""
    spare: Range | None
    price: Price | None
    seconds: Range | None
    usd: Range | None
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
        return Card(
            gpu=gpu,
            usable=usable,
            fit=None,
            spare=None,
            price=price_of(gpu, own),
            seconds=None,
            usd=None,
            reason=str(error),
        )
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
