"""Answers the question of Explore for the page's script: all ranks at once, the chart, the recommendation."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from rankviz.api import Api
from rankviz.api.studies import CANNOT_READ
from rankviz.api.workspace import EMBEDDED
from rankviz.core.bounds import few, is_number, one_of, plain_text
from rankviz.core.cost.estimate import Estimate
from rankviz.core.forecast.tradeoff import Tradeoff
from rankviz.core.runs.words import base_name
from rankviz.core.studies.lines import RL
from rankviz.errors import InvalidSettingError
from rankviz.figures import X_LABELS, hero_figure, hero_info
from rankviz.figures.hero import QUALITY_LABELS, HeroInfo
from rankviz.ui import link
from rankviz.ui.explore.advice import card, goal_of
from rankviz.ui.explore.frame import HERO_HEIGHT
from rankviz.ui.explore.records import records
from rankviz.ui.explore.start import question_of
from rankviz.ui.parts import html
from rankviz.ui.parts.charts import chart_json
from rankviz.ui.parts.question import DEFAULTS, ask, length_note
from rankviz.ui.wiring import notice_html
from rankviz.units import count, memory_span

X_DEFAULT = "file"
LARGEST = 10**15
"""No number of the question is larger."""
MAX_TEXT = 2000
MAX_CHOICES = 256
MAX_ADDRESS = 8000
"""Characters of a text, entries of a list, characters of a whole address."""


def given(api: Api, body: Mapping[str, Any]) -> dict[str, Any]:
    """The question's values as a browser sent them, or as an address has them under `search`; defaults for the rest.

    Every value has the type of its widget; what it may be is checked by the core.
    """
    if isinstance(body.get("search"), str):
        plain_text(body["search"], "The address", MAX_ADDRESS)
        return question_of(api, dict(parse_qsl(body["search"].lstrip("?"))))[0]
    values = body.get("values")
    if not isinstance(values, Mapping):
        raise InvalidSettingError("The request has no values. Reload the page.")
    return {name: _typed(name, values.get(name, default), default) for name, default in DEFAULTS.items()}


def _typed(name: str, value: Any, default: Any) -> Any:
    number = is_number(value) and abs(value) <= LARGEST  # which no NaN is
    if isinstance(default, bool):
        fits = isinstance(value, bool)
    elif isinstance(default, str):
        fits = isinstance(value, str) or value is None
        value = value or ""
    elif isinstance(default, list):
        fits = value is None or (isinstance(value, list) and all(isinstance(each, str) for each in value))
        value = value or []
    else:
        fits = value is None or number
    if not fits:
        raise InvalidSettingError(f"{name} has a value of the wrong kind. Reload the page.")
    if isinstance(value, list):
        few(value, name, MAX_CHOICES)
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, str):
            plain_text(text, name, MAX_TEXT)
    return int(value) if isinstance(value, float) and value.is_integer() and isinstance(default, int | None) else value


def answer(api: Api, body: Mapping[str, Any]) -> dict[str, Any]:
    """All that the first screen shows.

    Args:
        api: All operations.
        body: `values` or `search` as `given` reads them; `x`, the cost axis; `y`, the quality axis.
    """
    values = given(api, body)
    question, r = ask(values), values["r"]
    x, y = body.get("x") or X_DEFAULT, body.get("y") or None
    if "search" in body:  # the notice above the tabs names a wrong axis of an address
        x = x if x in tuple(X_LABELS) else X_DEFAULT
        y = y if y in tuple(QUALITY_LABELS) else None
    one_of(x, "Cost axis", tuple(X_LABELS))
    try:
        tradeoff = api.tradeoffs.of(question, values["use_case"], y)
    except CANNOT_READ:
        tradeoff = api.tradeoffs.without_costs(question, values["use_case"], y)
    info = hero_info(tradeoff, x=x)
    return {
        "values": values,
        "x": x if tradeoff.estimate else "rank",
        "y": tradeoff.quality,
        "qualities": [[key, QUALITY_LABELS[key]] for key in tradeoff.qualities],
        "records": records(tradeoff, question.ranks),
        "fits": html.FITS,
        "chart": _chart(tradeoff, info, tradeoff.estimate.model.id if tradeoff.estimate else question.model_id),
        "heading": info.heading,
        "facts": list(info.facts),
        "caption": [sentence for sentence in info.sentences if sentence not in (info.heading, *info.facts)],
        **words(api, values, tradeoff.estimate),
        "r": r,
        "usual_r": DEFAULTS["r"],
        "reading_seconds": api.models.usual_reading_seconds() if tradeoff.estimate else None,
    }


def words(api: Api, values: Mapping[str, Any], estimate: Estimate | None = None) -> dict[str, Any]:
    """What follows the rank in words: the recommendation, and the address. A model that cannot be read has a notice in
    place of notes on its costs. estimate: of this question, if at hand."""
    question = ask(values)
    advised = api.advice.advise(question, goal_of(values))
    if advised.setting:
        estimate = estimate or api.estimates.estimate(question).estimate
    return {
        "address": link.write(values),
        "without_costs": "" if advised.setting else notice_html(*advised.notes, kind="error"),
        "slots": {
            "advice": card(advised, estimate, values["r"]),
            "measure-note": measure_note(api, estimate, values["use_case"]),
            "gpu-note": gpu_note(estimate),
            "length-note": length_note(question),
        },
    }


def _chart(tradeoff: Tradeoff, info: HeroInfo, model: str) -> dict[str, Any]:
    drawing = hero_figure.drawing(info, height=HERO_HEIGHT)
    source = " ".join([f"{model}.", *info.sentences])
    return {**chart_json(drawing, info.rows, file=f"trade-off-{tradeoff.quality}", source=source), "xs": info.xs}


def measure_note(api: Api, estimate: Estimate | None, use_case: str) -> str:
    """Under the buttons that measure: what they do not tell, why they take another model, or cannot work; nothing where
    they do what they say. On a machine of one's own Train says why they cannot."""
    if use_case == RL:
        return html.paragraphs("Both train on examples and measure held-out loss. That does not tell the reward.")
    if estimate is None:
        return html.paragraphs(
            "This model cannot be read here, so it cannot be trained here: choose another base on Train, such as the "
            f"embedded {base_name(EMBEDDED)}."
        )
    if not api.workspace.shared:
        return ""
    if api.engines.why_none():
        return html.paragraphs("Nothing can be trained on this page now: Train says why.")
    most, has = api.workspace.limits.base_parameters, estimate.model.total_parameters
    if most is None or has <= most:
        return ""
    return html.paragraphs(
        f"This page trains bases of at most {count(most)} parameters, and this one has {count(has)}: the runs "
        f"train the embedded model {base_name(EMBEDDED)} instead."
    )


def gpu_note(estimate: Estimate | None) -> str:
    """The price that is used, with its source, and the usable memory."""
    if estimate is None or estimate.usable_bytes is None:
        return ""
    price = estimate.price
    source = f"{price.provider}, {price.checked}".rstrip(", ") if price else ""
    cost = f"${price.usd_per_hour:.2f} per hour ({source})." if price else "No price in the table: enter your own."
    return html.paragraphs(cost, f"Usable memory: {memory_span(estimate.usable_bytes)}.")
