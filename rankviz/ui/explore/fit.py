"""Shows what fits, the effect of one change, what to change, which GPUs fit, and three methods."""

from collections.abc import Mapping
from html import escape
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.core.cost.estimate import tight_meaning
from rankviz.core.cost.setup import Gpu
from rankviz.core.fit.changes import RULE, Knob
from rankviz.core.fit.decide import Card, FitAnswer, Method
from rankviz.ui import link
from rankviz.ui.parts import html, question
from rankviz.ui.parts.controls import editable, pickable, plain
from rankviz.ui.parts.html import Cell, Row
from rankviz.units import NOT_KNOWN, memory_span, money_span, time_span

LIMITS = {"r": "Rank", "batch": "Batch", "max_length": "Max length"}
APPLIED = (
    "r",
    "preset",
    "precision",
    "batch",
    "accumulation",
    "max_length",
    "optim",
    "checkpointing",
    "loss_path",
    "length",
    "length_unit",
    "gpu",
    "framework",
)
"""The widgets of the question that a click on a change may set."""


class Decided(NamedTuple):
    verdict: str
    knobs: str
    limits: str
    methods: str
    cards: str


def decision_widgets() -> dict[str, gr.HTML]:
    """Build the section; widgets by the names of Decided."""
    with gr.Column(elem_classes="rv-decisions", elem_id="decisions"):
        verdict = plain(elem_id="verdict")
        with gr.Row(elem_classes="rv-charts"):
            knobs = pickable(elem_id="knobs")
            with gr.Column():
                limits = plain(elem_id="limits")
                methods = pickable(elem_id="methods")
        cards = editable(elem_id="cards")
    return {"verdict": verdict, "knobs": knobs, "limits": limits, "methods": methods, "cards": cards}


def decisions(api: Api, **values: Any) -> Decided:
    """The section for the widgets' values."""
    result = api.estimates.fit(question.ask(values), values["r"], question.prices_of(values["prices"]))
    return Decided(
        verdict=verdict_html(result),
        knobs=knobs_html(result),
        limits=limits_html(result),
        methods=methods_html(result),
        cards=cards_html(result),
    )


def verdict_html(result: FitAnswer) -> str:
    """Fit and margin against usable memory, then what to change."""
    start, sentence = result.setting, escape(result.sentence)
    lead = f"<p>{sentence}</p>"
    if start.row.fit:
        spare = html.rounded_span(units.spare, start.row.spare, "bytes")
        usable = html.rounded_span(memory_span, start.answer.usable_bytes, "bytes")
        lead = (
            f"<p>{html.fit_chip(start.row.fit)} {html.tag('b', spare)} of {html.tag('span', usable)} usable on "
            f"{escape(start.gpu.name)}. {sentence}</p>"
        )
    rule = "" if start.row.fit in (None, "fits", "tight") else html.paragraphs(RULE)
    return f'<div class="rv-verdict"><h2>Fit and changes at r = {start.r}</h2>{lead}{rule}</div>'


def knobs_html(result: FitAnswer) -> str:
    """The effect of each change; a click applies it."""
    has_gpu = result.setting.gpu is not None
    rows = [
        Row(
            cells=[
                Cell(
                    knob.label,
                    title=f"{_effect(knob)}. {knob.peak}.",
                    kind="narrow",
                    sub=knob.peak if knob.of_tokens_at_once else "",
                ),
                Cell(units.memory_change(knob.device_bytes), title=f"{knob.device_bytes:+,} bytes"),
                _time_change(knob),
                *([html.FITS[knob.fit]] if has_gpu else []),
            ],
            pick=urlencode(knob.change),
        )
        for knob in result.knobs
    ]
    title = f"Effect of one change (same {result.setting.tokens:,} tokens). Click a row to apply it."
    headers = ["Change", "Memory", "Time", *(["Fit"] if has_gpu else [])]
    return html.titled(title, html.table(headers, rows, label="Effect of one change"))


def _effect(knob: Knob) -> str:
    return "Same training result" if knob.same_result else "Changes the training result"


def _time_change(knob: Knob) -> Cell:
    """The exact seconds, and the money, on hover."""
    if knob.seconds is None:
        return Cell(NOT_KNOWN)
    money = "" if knob.usd is None else f", {'-' if knob.usd < 0 else '+'}{units.usd(abs(knob.usd))}"
    return Cell(units.duration_change(knob.seconds), title=f"{knob.seconds:+,.12g} seconds{money}")


def limits_html(result: FitAnswer) -> str:
    """The largest rank, batch and length, certain and expected."""
    title = "Largest value that fits, other settings unchanged"
    if not result.limits:
        return html.titled(title, html.paragraphs("Select a GPU, or click one in the table below.", css="rv-empty"))
    rows = [
        Row(cells=[LIMITS[limit.option], _largest(limit.surely), _largest(limit.expected)]) for limit in result.limits
    ]
    notes = (f"{LIMITS[limit.option]}: {limit.note}." for limit in result.limits if limit.note)
    return html.titled(
        title,
        html.table(["Setting", "Certain", "Expected"], rows, label="Largest value that fits") + html.paragraphs(*notes),
    )


def _largest(value: int | None) -> str:
    return "none" if value is None else f"{value:,}"


def methods_html(result: FitAnswer) -> str:
    """Three training methods side by side, a column each."""
    methods = result.methods
    rows = [
        ("Trained", [Cell(units.count(m.trained_parameters), title=f"{m.trained_parameters:,}") for m in methods]),
        ("Memory", [html.rounded_span(memory_span, m.device, "bytes") for m in methods]),
        *([("Fit", [html.FITS[m.fit] for m in methods])] if result.setting.gpu else []),
        ("Time", [html.rounded_span(time_span, m.seconds, "seconds") for m in methods]),
        ("Cost", [html.rounded_span(money_span, m.usd, "$") for m in methods]),
        ("Saved", [_saved(m) for m in methods]),
    ]
    table = html.table(
        ["", *(f"{m.label.split(',')[0]}, {m.precision}" for m in methods)],
        [Row(cells=[name, *cells]) for name, cells in rows],
        label="Three training methods",
    )
    full = methods[-1]
    note = (
        f"Full fine-tuning uses {full.precision} weights, gradients and optimizer states. No measured run validates "
        "it, so the range is wider."
    )
    return html.titled("Three training methods, same batch and length", table + html.paragraphs(note))


def _saved(method: Method) -> Cell:
    about = "" if method.saved_exact else "about "
    return Cell(about + units.file_size(method.saved_bytes), title=f"{about}{method.saved_bytes:,} bytes")


def cards_html(result: FitAnswer) -> str:
    """Every GPU of the table, those that fit first. A click selects one; its price can be edited."""
    rows = [_card_row(card, result.setting.gpu) for card in result.cards]
    table = html.table(
        ["GPU", "Fit", "Total cost", "Time", "$ per hour", "Margin", "Price source"],
        rows,
        label="GPUs, cheapest first",
        left=2,
    )
    meaning = tight_meaning(result.setting.assumptions)
    tight = f", {result.tight} of them tight ({meaning})" if result.tight else ""
    title = (
        f"{result.fitting} of {len(rows)} GPUs fit{tight}; cheapest first. Click a row to select a GPU; you can edit "
        "its price."
    )
    return html.titled(title, table)


def _card_row(card: Card, chosen: Gpu | None) -> Row:
    price, gpu = card.price, card.gpu
    return Row(
        cells=[
            gpu.name,
            html.FITS.get(card.fit) or Cell("✕ cannot run this", title=card.reason),
            html.rounded_span(money_span, card.usd, "$"),
            html.rounded_span(time_span, card.seconds, "seconds"),
            Cell(_price(price.usd_per_hour) if price else "", edit=gpu.id, title=f"$ per hour of the {gpu.name}"),
            html.rounded_span(units.gib_span, card.spare, "bytes") if card.spare else "",
            ", ".join(filter(None, (price.provider, price.checked))) if price else NOT_KNOWN,
        ],
        pick=urlencode({"gpu": gpu.id}),
        chosen=gpu == chosen,
    )


def _price(usd_per_hour: float) -> str:
    cents = f"{usd_per_hour:.2f}"
    return cents if float(cents) == usd_per_hour else f"{usd_per_hour:g}"


def applied(event: gr.EventData) -> Mapping[str, Any]:
    """What a click on a change or a GPU sets, by the names of the question's widgets."""
    changes = link.changes(dict(parse_qsl(str(event._data["id"]))))
    return {name: value for name, value in changes.items() if name in APPLIED}


class Priced(NamedTuple):
    prices: str
    usd_per_hour: Any


def priced(prices: str, gpu: str, event: gr.EventData) -> Priced:
    """Your own prices after an edit; the price of the selected GPU is then the edited one. A wrong price is reported
    where the question is answered."""
    edited = str(event._data["id"])
    own = dict(question.price_texts(prices))
    own.pop(edited, None)
    if text := str(event._data["text"]).strip():
        own[edited] = text
    return Priced(question.price_text(own), None if edited == gpu else gr.skip())
