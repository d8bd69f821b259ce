"""Makes JSON of decisions for `rankviz fit --json`, the page and the HTTP endpoint. Keys may be added, none renamed."""

from typing import TypedDict

from rankviz.core.cost.estimate import Fit
from rankviz.core.fit.cards import Card
from rankviz.core.fit.decide import FitAnswer
from rankviz.core.fit.knobs import Knob
from rankviz.core.fit.methods import Method
from rankviz.core.fit.remedy import RULE
from rankviz.core.quantity import Range, RangeJSON, WholeRangeJSON


class LimitJSON(TypedDict):
    """The largest value of a setting that surely fits and that is expected to; null: not even 1."""

    surely: int | None
    expected: int | None
    ceiling: int
    note: str


class KnobJSON(TypedDict):
    """One changed setting and its effect: bytes on the GPU, seconds for the same tokens and US dollars, each more than
    before (negative: less), and what fits then."""

    label: str
    change: dict[str, str | int | float | bool]
    same_result: bool
    device_bytes: int
    seconds: float | None
    usd: float | None
    fit: Fit | None
    margin_bytes: WholeRangeJSON | None
    peak: str


class GpuJSON(TypedDict):
    """One GPU with this setting; `reason` says why it can't run there."""

    gpu_id: str
    gpu: str
    fit: Fit | None
    reason: str
    usable_bytes: WholeRangeJSON
    margin_bytes: WholeRangeJSON | None
    usd_per_hour: float | None
    provider: str | None
    price_checked: str | None
    seconds: RangeJSON | None
    usd: RangeJSON | None


class MethodJSON(TypedDict):
    """QLoRA, LoRA or full fine-tuning of the same data. `saved_bytes` is exact where `saved_exact` says so."""

    name: str
    label: str
    precision: str
    chosen: bool
    trained_parameters: int
    saved_bytes: int
    saved_exact: bool
    device_bytes: WholeRangeJSON
    fit: Fit | None
    margin_bytes: WholeRangeJSON | None
    seconds: RangeJSON | None
    usd: RangeJSON | None


class FitJSON(TypedDict):
    """What fits, the effect of each change, and where it fits. Limits are by setting: r, batch, max_length; without a
    GPU there are none."""

    model_id: str
    r: int
    gpu: str | None
    gpu_id: str | None
    precision: str
    tokens: int
    usable_bytes: WholeRangeJSON | None
    device_bytes: WholeRangeJSON
    margin_bytes: WholeRangeJSON | None
    fit: Fit | None
    limits: dict[str, LimitJSON]
    knobs: list[KnobJSON]
    sentence: str
    smallest_change: KnobJSON | None
    helps_most: KnobJSON | None
    rule: str
    cheapest_gpu: str | None
    gpus: list[GpuJSON]
    methods: list[MethodJSON]
    notes: list[str]


def as_json(decided: FitAnswer) -> FitJSON:
    start, cure = decided.setting, decided.remedy
    row, answer = start.row, start.answer
    return {
        "model_id": answer.model.id,
        "r": start.r,
        "gpu": start.gpu.name if start.gpu else None,
        "gpu_id": start.gpu.id if start.gpu else None,
        "precision": start.question.training.precision,
        "tokens": start.tokens,
        "usable_bytes": _whole(answer.usable_bytes),
        "device_bytes": row.memory.device_band.whole_json(),
        "margin_bytes": _whole(start.spare),
        "fit": row.fit,
        "limits": {
            limit.option: {
                "surely": limit.surely,
                "expected": limit.expected,
                "ceiling": limit.ceiling,
                "note": limit.note,
            }
            for limit in decided.limits
        },
        "knobs": [_knob(knob) for knob in decided.knobs],
        "sentence": decided.sentence,
        "smallest_change": _knob(cure.smallest) if cure.smallest else None,
        "helps_most": _knob(cure.helps_most) if cure.helps_most else None,
        "rule": RULE,
        "cheapest_gpu": decided.cheapest.gpu.name if decided.cheapest else None,
        "gpus": [_gpu(card) for card in decided.cards],
        "methods": [_method(method) for method in decided.methods],
        "notes": list(start.notes),
    }


def _knob(knob: Knob) -> KnobJSON:
    return {
        "label": knob.label,
        "change": dict(knob.change),
        "same_result": knob.same_result,
        "device_bytes": knob.device_bytes,
        "seconds": knob.seconds,
        "usd": knob.usd,
        "fit": knob.fit,
        "margin_bytes": _whole(knob.spare),
        "peak": knob.peak,
    }


def _gpu(card: Card) -> GpuJSON:
    paid = card.price
    return {
        "gpu_id": card.gpu.id,
        "gpu": card.gpu.name,
        "fit": card.fit,
        "reason": card.reason,
        "usable_bytes": card.usable.whole_json(),
        "margin_bytes": _whole(card.spare),
        "usd_per_hour": paid.usd_per_hour if paid else None,
        "provider": paid.provider if paid else None,
        "price_checked": paid.checked if paid else None,
        "seconds": card.seconds.as_json() if card.seconds else None,
        "usd": card.usd.as_json() if card.usd else None,
    }


def _method(method: Method) -> MethodJSON:
    return {
        "name": method.name,
        "label": method.label,
        "precision": method.precision,
        "chosen": method.chosen,
        "trained_parameters": method.trained_parameters,
        "saved_bytes": method.saved_bytes,
        "saved_exact": method.saved_exact,
        "device_bytes": method.device.whole_json(),
        "fit": method.fit,
        "margin_bytes": _whole(method.spare),
        "seconds": method.seconds.as_json() if method.seconds else None,
        "usd": method.usd.as_json() if method.usd else None,
    }


def _whole(values: Range | None) -> WholeRangeJSON | None:
    return values.whole_json() if values else None
