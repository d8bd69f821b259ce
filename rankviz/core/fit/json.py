"""Makes JSON of decisions for `rankviz fit --json`, the page and the HTTP endpoint. Keys may be added, none renamed."""

from typing import Any

from rankviz.core.fit.cards import Card
from rankviz.core.fit.decide import FitAnswer
from rankviz.core.fit.knobs import Knob
from rankviz.core.fit.methods import Method
from rankviz.core.fit.remedy import RULE
from rankviz.core.quantity import Range


def as_json(decided: FitAnswer) -> dict[str, Any]:
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
        "device_bytes": _whole(row.memory.device_band),
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
        "gpus": [_card(card) for card in decided.cards],
        "methods": [_method(method) for method in decided.methods],
    }


def _knob(knob: Knob) -> dict[str, Any]:
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


def _card(card: Card) -> dict[str, Any]:
    paid = card.price
    return {
        "gpu_id": card.gpu.id,
        "gpu": card.gpu.name,
        "fit": card.fit,
        "reason": card.reason,
        "usable_bytes": _whole(card.usable),
        "margin_bytes": _whole(card.spare),
        "usd_per_hour": paid.usd_per_hour if paid else None,
        "provider": paid.provider if paid else None,
        "price_checked": paid.checked if paid else None,
        "seconds": card.seconds.as_json() if card.seconds else None,
        "usd": card.usd.as_json() if card.usd else None,
    }


def _method(method: Method) -> dict[str, Any]:
    return {
        "name": method.name,
        "label": method.label,
        "precision": method.precision,
        "chosen": method.chosen,
        "trained_parameters": method.trained_parameters,
        "saved_bytes": method.saved_bytes,
        "saved_exact": method.saved_exact,
        "device_bytes": _whole(method.device),
        "fit": method.fit,
        "margin_bytes": _whole(method.spare),
        "seconds": method.seconds.as_json() if method.seconds else None,
        "usd": method.usd.as_json() if method.usd else None,
    }


def _whole(values: Range | None) -> dict[str, int] | None:
    return {name: round(value) for name, value in values.as_json().items()} if values else None
