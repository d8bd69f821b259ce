"""What the page shows of each rank: five figures, the fit and the expected quality, as texts.

The page holds them for every rank from 1 to 256, so that a change of the rank needs no request.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rankviz import units
from rankviz.core.cost.estimate import Estimate, RankEstimate
from rankviz.core.cost.stack import stays_16_bit
from rankviz.core.forecast.bands import UNIT_WORDS, RankForecast
from rankviz.core.forecast.quick_look import BentRank
from rankviz.core.forecast.tradeoff import RANKS, Tradeoff
from rankviz.core.lora.notes import experts_at
from rankviz.core.quantity import Range
from rankviz.core.runs.metric import METRICS
from rankviz.units import NOT_KNOWN, memory_span, money_span, time_span

FIGURES = ("Trainable parameters", "Adapter file", "GPU memory", "Time", "Cost")
"""The five figures, in their order."""
FORECAST = "Forecast: median (80 % band)"
"""What quality_text is called."""
BASES = {"nf4": "4-bit", "nf4-dq": "4-bit", "int8": "8-bit"} | {name: name for name in ("bf16", "fp16", "fp32")}
"""What a precision loads the base in."""


def records(tradeoff: Tradeoff, ranks: Sequence[int] = ()) -> dict[str, Any]:
    """By rank: `figures` has value, exact value, second line and short form of each of FIGURES. A model that cannot be
    read has a quality alone, at RANKS and these ranks."""
    known = _known(tradeoff)
    if tradeoff.estimate is None:
        unknown = {"figures": [["–", "", "", "–"]] * len(FIGURES), "share": "–", "fit": "", "scale": ""}
        return {str(r): unknown | _quality(tradeoff, known.get(r)) for r in sorted({*RANKS, *ranks})}
    return {str(rank.r): _record(tradeoff, rank, known) for rank in tradeoff.estimate.ranks}


def record(tradeoff: Tradeoff, r: int) -> dict[str, Any]:
    """The same of one rank."""
    rank = next(rank for rank in tradeoff.estimate.ranks if rank.r == r)
    return _record(tradeoff, rank, _known(tradeoff))


def _known(tradeoff: Tradeoff) -> dict[int, RankForecast | BentRank]:
    forecast = tradeoff.forecast or tradeoff.bent
    return {rank.r: rank for rank in forecast.ranks} if forecast else {}


def _record(tradeoff: Tradeoff, rank: RankEstimate, known: Mapping[int, RankForecast | BentRank]) -> dict[str, Any]:
    return {
        "figures": _figures(tradeoff.estimate, rank),
        "share": units.percent(rank.adapter_parameters / tradeoff.estimate.model.total_parameters),
        "fit": rank.fit or "",
        **_quality(tradeoff, known.get(rank.r)),
        "scale": f"α = {rank.lora_alpha:g}, scale {_rule(tradeoff.estimate)} = {rank.scale:.4g}",
    }


def _quality(tradeoff: Tradeoff, rank: RankForecast | BentRank | None) -> dict[str, Any]:
    return {
        "quality": quality_text(tradeoff, rank),
        "quality_exact": _band(rank),
        "median": rank.median if rank else None,
    }


def _rule(estimate: Estimate) -> str:
    return "α / √r" if estimate.question.lora.use_rslora else "α / r"


def quality_text(tradeoff: Tradeoff, rank: RankForecast | BentRank | None) -> str:
    """The forecast at one rank: the median, and the 80 % band."""
    if rank is None:
        return "no forecast"
    if tradeoff.forecast is None:
        metric = METRICS[tradeoff.quality]
        band = "" if rank.low_80 is None else f" ({metric.text(rank.low_80)} to {metric.text(rank.high_80)})"
        return f"{metric.text(rank.median)}{band}"
    if rank.r == tradeoff.forecast.reference_rank:
        return "the reference"
    unit = UNIT_WORDS[tradeoff.forecast.unit]
    return f"{_number(rank.median)} ({_number(rank.low_80)} to {_number(rank.high_80)}) {unit}"


def _band(rank: RankForecast | BentRank | None) -> str:
    """The same to six digits after the point."""
    if rank is None:
        return ""
    return f"{rank.median:.6f}" + ("" if rank.low_80 is None else f" ({rank.low_80:.6f} to {rank.high_80:.6f})")


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _figures(estimate: Estimate, rank: RankEstimate) -> list[list[str]]:
    memory, duration, cost, gpu = rank.memory, rank.duration, rank.cost, estimate.gpu
    base = _base(estimate)
    total = rank.adapter_parameters / estimate.model.total_parameters
    return [
        [
            units.count(rank.adapter_parameters),
            f"{rank.adapter_parameters:,} parameters",
            "; ".join(filter(None, [f"{units.percent(total)} of the base", experts_at(estimate.plan, rank.r)])),
            units.count(rank.adapter_parameters),
        ],
        [
            units.file_size(rank.adapter_bytes),
            f"{rank.adapter_bytes:,} bytes, header included",
            f"saved in {estimate.adapter_dtype}, header included",
            units.file_size(rank.adapter_bytes),
        ],
        [
            memory_span(memory),
            f"{memory.low:,} to {memory.high:,} bytes, expected {memory.device:,}; {memory.while_loading:,} while "
            f"loading{_margin(rank)}",
            f"on {gpu.name}, {base}: {units.spare(rank.spare)}" if gpu and rank.fit else f"{base}, no GPU selected",
            units.memory_size(memory.device),
        ],
        [
            time_span(duration and duration.total),
            f"{_ends(duration.total, ',.1f')} seconds, expected {duration.total.expected:,.1f}" if duration else "",
            f"about {units.duration(duration.total.expected)}" if duration else "select a GPU with a known speed",
            units.duration(duration.total.expected) if duration else NOT_KNOWN,
        ],
        [
            money_span(cost and cost.usd),
            f"${_ends(cost.usd, ',.4f', '$')}, expected ${cost.usd.expected:,.4f}" if cost else "",
            f"about {units.usd(cost.usd.expected)}" if cost else "select a GPU with a price, or enter one",
            units.usd(cost.usd.expected) if cost else NOT_KNOWN,
        ],
    ]


def _base(estimate: Estimate) -> str:
    """ "4-bit base": how the base is loaded."""
    setup = estimate.question.training
    return f"{'16-bit' if stays_16_bit(estimate.model, setup) else BASES[setup.precision]} base"


def _margin(rank: RankEstimate) -> str:
    return f"; margin {rank.margin_bytes:,}" if rank.fit else ""


def _ends(values: Range, form: str, sign: str = "") -> str:
    return f"{values.low:{form}} to {sign}{values.high:{form}}"
