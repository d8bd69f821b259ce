"""Shows what fits, the effect of one change, what to change, which GPUs fit, and three methods."""

from collections.abc import Mapping
from html import escape
from typing import Any
from urllib.parse import parse_qsl, urlencode

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.core.cost.estimate import tight_meaning
from rankviz.core.cost.setup import Gpu
from rankviz.core.fit.changes import RULE, Knob
from rankviz.core.fit.decide import FitAnswer, FittingCard, Method
from rankviz.ui import link
from rankviz.ui.parts import html, question
from rankviz.ui.parts.controls import editable, pickable, plain
from rankviz.ui.parts.html import FITS, Cell, Row, rounded_span
from rankviz.ui.wiring import View, clicked, of_click, put
from rankviz.units import NOT_KNOWN, memory_span, money_span, time_span

LIMITS = {"r": "Rank", "batch": "Batch", "max_length": "Max length"}
APPLIED = (
    "r", "preset", "precision", "batch", "accumulation", "max_length", "optim", "checkpointing", "loss_path", "length",
    "length_unit", "gpu", "framework",
)  # fmt: skip
"""The widgets of the question that a click on a change may set."""


def build() -> dict[str, gr.HTML]:
    """Build the section; widgets by the names that `decisions` sets."""
    with gr.Column(elem_classes="rv-decisions", elem_id="decisions"):
        verdict = plain(elem_id="verdict")
        with gr.Row(elem_classes="rv-charts"):
            knobs = pickable(elem_id="knobs")
            with gr.Column():
                limits = plain(elem_id="limits")
                methods = pickable(elem_id="methods")
        cards = editable(elem_id="cards")
    return {"verdict": verdict, "knobs": knobs, "limits": limits, "methods": methods, "cards": cards}


def connect(w: Mapping[str, Any], shown: Mapping[str, gr.HTML], asking: Mapping[str, Any]) -> None:
    """A click on a change or a GPU sets widgets of the question; a price can be edited.

    w: the question's widgets. shown: those of `build`. asking: the event that sends the question as it stands.
    """
    settable, own_price = ({name: w[name] for name in names} for names in (APPLIED, ("prices", "usd_per_hour")))

    def set_price(prices: str, gpu: str, event: gr.EventData) -> dict[Any, Any]:
        edited, text = str(event._data["id"]), str(event._data["text"])
        return put(priced(prices, gpu, edited, text), own_price)

    apply = of_click(lambda change: put(applied(change), settable))
    for changeable in ("knobs", "cards"):
        # Once more when all widgets are set: the first that changes asks before the others are.
        shown[changeable].select(apply, None, list(settable.values()), **clicked()).then(**asking)
    shown["cards"].input(set_price, [w["prices"], w["gpu"]], list(own_price.values()), **clicked())


def applied(change: str) -> Mapping[str, Any]:
    """What a click on a change or a GPU sets, by the names of the question's widgets."""
    return {name: value for name, value in link.changes(dict(parse_qsl(change))).items() if name in APPLIED}


def priced(prices: str, gpu: str, edited: str, text: str) -> dict[str, Any]:
    """Your own prices after an edit of one; the price of the selected GPU is then the edited one. A wrong price is
    reported where the question is answered."""
    own = {**dict(link.price_texts(prices)), edited: text.strip()}
    own = {each: price for each, price in own.items() if price}
    return {"prices": link.price_text(own), **({"usd_per_hour": None} if edited == gpu else {})}


def decisions(api: Api, **values: Any) -> View:
    """The section for the widgets' values."""
    result = api.estimates.fit(question.ask(values), values["r"], link.prices_of(values["prices"]))
    return View(
        verdict=verdict_html(result),
        knobs=knobs_html(result),
        limits=limits_html(result),
        methods=methods_html(result),
        cards=cards_html(result),
    )


def verdict_html(result: FitAnswer) -> str:
    """Fit and margin against usable memory, then what to change."""
    start, lead = result.setting, escape(result.sentence)
    if start.row.fit:
        spare = html.tag("b", rounded_span(units.spare, start.row.spare, "bytes"))
        usable = html.tag("span", rounded_span(memory_span, start.answer.usable_bytes, "bytes"))
        lead = f"{html.fit_chip(start.row.fit)} {spare} of {usable} usable on {escape(start.gpu.name)}. {lead}"
    rule = "" if start.row.fit in (None, "fits", "tight") else html.paragraphs(RULE)
    return html.verdict(f"<h2>Fit and changes at r = {start.r}</h2><p>{lead}</p>{rule}")


def knobs_html(result: FitAnswer) -> str:
    """The effect of each change; a click applies it."""
    has_gpu = result.setting.gpu is not None

    def cells(knob: Knob) -> list[Cell | str]:
        effect = "Same training result" if knob.same_result else "Changes the training result"
        peak = knob.peak if {"max_length", "batch"} & set(knob.change) else ""
        memory = Cell(units.memory_change(knob.device_bytes), title=f"{knob.device_bytes:+,} bytes")
        fit = [FITS[knob.fit]] if has_gpu else []
        return [Cell(knob.label, f"{effect}. {knob.peak}.", "narrow", peak), memory, _time_change(knob), *fit]

    rows = [Row(cells(knob), pick=urlencode(knob.change)) for knob in result.knobs]
    title = f"Effect of one change (same {result.setting.tokens:,} tokens). Click a row to apply it."
    headers = ["Change", "Memory", "Time", *(["Fit"] if has_gpu else [])]
    return html.titled(title, html.table(headers, rows, label="Effect of one change"))


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
        return html.titled(title, html.empty("Select a GPU, or click one in the table below."))
    ends = ([LIMITS[each.option], each.surely, each.expected] for each in result.limits)
    rows = [[name, *("none" if value is None else f"{value:,}" for value in values)] for name, *values in ends]
    notes = (f"{LIMITS[limit.option]}: {limit.note}." for limit in result.limits if limit.note)
    table = html.table(["Setting", "Certain", "Expected"], rows, label="Largest value that fits")
    return html.titled(title, table + html.paragraphs(*notes))


def methods_html(result: FitAnswer) -> str:
    """Three training methods side by side, a column each."""
    methods = result.methods
    rows = [
        ("Trained", [Cell(units.count(m.trained_parameters), title=f"{m.trained_parameters:,}") for m in methods]),
        ("Memory", [rounded_span(memory_span, m.device_bytes, "bytes") for m in methods]),
        *([("Fit", [FITS[m.fit] for m in methods])] if result.setting.gpu else []),
        ("Time", [rounded_span(time_span, m.seconds, "seconds") for m in methods]),
        ("Cost", [rounded_span(money_span, m.usd, "$") for m in methods]),
        ("Saved", [_saved(m) for m in methods]),
    ]
    headers = ["", *(f"{m.label.split(',')[0]}, {m.precision}" for m in methods)]
    table = html.table(headers, [[name, *cells] for name, cells in rows], label="Three training methods")
    note = (
        f"Full fine-tuning uses {methods[-1].precision} weights, gradients and optimizer states. No measured run "
        "validates it, so the range is wider."
    )
    return html.titled("Three training methods, same batch and length", table + html.paragraphs(note))


def _saved(method: Method) -> Cell:
    about = "" if method.saved_exact else "about "
    return Cell(about + units.file_size(method.saved_bytes), title=f"{about}{method.saved_bytes:,} bytes")


def cards_html(result: FitAnswer) -> str:
    """Every GPU of the table, those that fit first. A click selects one; its price can be edited."""
    rows = [_card_row(card, result.setting.gpu) for card in result.cards]
    headers = ["GPU", "Fit", "Total cost", "Time", "$ per hour", "Margin", "Price source"]
    meaning = tight_meaning(result.setting.assumptions)
    tight, fitting = (sum(each.fit in fits for each in result.cards) for fits in (("tight",), ("fits", "tight")))
    of_them = f", {tight} of them tight ({meaning})" if tight else ""
    title = (
        f"{fitting} of {len(rows)} GPUs fit{of_them}; cheapest first. Click a row to select a GPU; you can edit "
        "its price."
    )
    return html.titled(title, html.table(headers, rows, label="GPUs, cheapest first", left=2))


def _card_row(card: FittingCard, chosen: Gpu | None) -> Row:
    price, gpu, text = card.price, card.gpu, ""
    if price:
        cents = f"{price.usd_per_hour:.2f}"
        text = cents if float(cents) == price.usd_per_hour else f"{price.usd_per_hour:g}"
    cells = [
        gpu.name,
        FITS.get(card.fit) or Cell("✕ cannot run this", title=card.reason),
        rounded_span(money_span, card.usd, "$"),
        rounded_span(time_span, card.seconds, "seconds"),
        Cell(text, edit=gpu.id, title=f"$ per hour of the {gpu.name}"),
        rounded_span(units.gib_span, card.spare, "bytes") if card.spare else "",
        ", ".join(filter(None, (price.provider, price.checked))) if price else NOT_KNOWN,
    ]
    return Row(cells, pick=urlencode({"gpu": gpu.id}), chosen=gpu == chosen)
