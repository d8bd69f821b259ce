"""`rankviz fit`."""

from typing import Annotated, Any

import typer

from rankviz import units
from rankviz.api import Api
from rankviz.cli.asking import asking
from rankviz.cli.shared import Json, print_json, span, table
from rankviz.core.cost.question import Question
from rankviz.errors import InvalidSettingError

LIMITS = {"r": "Rank", "batch": "Batch", "max_length": "Tokens a row"}


@asking
def fit(
    asked: Question,
    price: Annotated[
        list[str] | None, typer.Option(help="Your own price, GPU=USD an hour, as L4=0.75; give it again for more.")
    ] = None,
    as_json: Json = False,
) -> None:
    """What fits, what each knob costs, the smallest change that fits, and which GPUs do, cheapest first."""
    from rankviz.core.fit.json import as_json as fit_json

    if len(asked.ranks) != 1:
        raise InvalidSettingError("fit is for one rank: give -r once.")
    said = fit_json(Api().estimates.fit(asked, asked.ranks[0], _prices(price or [])))
    if as_json:
        return print_json(said)
    name = f"{said['model_id']}, r = {said['r']}"
    if said["limits"]:
        table(
            f"{name}: {_verdict(said)}",
            ["The largest that fits", "Surely", "Expected", "Note"],
            [_limit_row(option, limit) for option, limit in said["limits"].items()],
        )
    table(
        f"{name}: what one change costs, for the same tokens",
        ["Change", "Option", "Memory", "Time", "Fit"],
        [_knob_row(knob) for knob in said["knobs"]],
    )
    table(
        "GPUs that fit or may, cheapest first",
        ["GPU", "Fit", "To spare", "$ an hour", "Price of", "Time", "Total"],
        [_gpu_row(gpu) for gpu in said["gpus"] if gpu["fit"] in ("fits", "tight", "uncertain")],
    )
    table(
        f"{name}: three ways to train",
        ["Method", "Precision", "Trained", "Memory (nvidia-smi)", "Time", "Cost", "Saved", "Fit"],
        [_method_row(method) for method in said["methods"]],
        notes=[said["sentence"], said["rule"]],
    )


def _prices(given: list[str]) -> dict[str, float]:
    """ "L4=0.75" as a price by GPU."""
    prices = {}
    for text in given:
        gpu, _, price = text.partition("=")
        try:
            prices[gpu] = float(price)
        except ValueError:
            raise InvalidSettingError(f"A price is written GPU=USD an hour, such as L4=0.75, not {text!r}.") from None
    return prices


def _verdict(said: dict[str, Any]) -> str:
    spare, usable = (said[name]["expected"] for name in ("margin_bytes", "usable_bytes"))
    return f"{_fit(said)} on {said['gpu']}, {units.spare(spare)} of {units.memory_size(usable)} usable"


def _fit(said: dict[str, Any]) -> str:
    return (said["fit"] or "").replace("_", " ")


def _limit_row(option: str, limit: dict[str, Any]) -> list[str]:
    return [LIMITS[option], _known(limit["surely"]), _known(limit["expected"]), limit["note"]]


def _known(value: int | None) -> str:
    return "none" if value is None else f"{value:,}"


def _knob_row(knob: dict[str, Any]) -> list[str]:
    seconds = knob["seconds"]
    return [
        knob["label"],
        " ".join(f"{'-' if name == 'r' else '--'}{name.replace('_', '-')} {v}" for name, v in knob["change"].items()),
        units.memory_change(knob["device_bytes"]),
        "not known" if seconds is None else units.duration_change(seconds),
        _fit(knob),
    ]


def _gpu_row(gpu: dict[str, Any]) -> list[str]:
    price, seconds, usd = gpu["usd_per_hour"], gpu["seconds"], gpu["usd"]
    return [
        gpu["gpu"],
        _fit(gpu),
        units.spare(gpu["margin_bytes"]["expected"]),
        "not known" if price is None else f"{price:.2f}",
        "" if price is None else ", ".join(filter(None, (gpu["provider"], gpu["price_checked"]))),
        span(seconds, units.duration) if seconds else "not known",
        span(usd, units.usd) if usd else "not known",
    ]


def _method_row(method: dict[str, Any]) -> list[str]:
    seconds, usd = method["seconds"], method["usd"]
    return [
        method["label"],
        method["precision"],
        f"{method['trained_parameters']:,}",
        span(method["device_bytes"], units.memory_size),
        span(seconds, units.duration) if seconds else "not known",
        span(usd, units.usd) if usd else "not known",
        ("" if method["saved_exact"] else "about ") + units.file_size(method["saved_bytes"]),
        _fit(method),
    ]
