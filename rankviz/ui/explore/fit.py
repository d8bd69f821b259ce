"""Explore's decisions: what fits, what a change costs, what to change, which GPUs do it, three ways to train."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.core.fit.json import as_json
from rankviz.ui import link
from rankviz.ui.explore.answer import NOT_KNOWN, span, time_span
from rankviz.ui.parts import html, question
from rankviz.ui.parts.controls import editable, pickable, plain
from rankviz.ui.parts.html import Cell, Row

LIMITS = {"r": "Rank", "batch": "Batch", "max_length": "Tokens a row"}
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
    """The section for the question that the widgets ask."""
    said = as_json(api.estimates.fit(question.ask(values), values["r"], question.prices_of(values["prices"])))
    return Decided(
        verdict=verdict_html(said),
        knobs=knobs_html(said),
        limits=limits_html(said),
        methods=methods_html(said),
        cards=cards_html(said),
    )


def verdict_html(said: Mapping[str, Any]) -> str:
    """Fit and margin against usable memory, then what to change."""
    lead = "<p>" + escape(said["sentence"]) + "</p>"
    if said["fit"]:
        margin, usable = said["margin_bytes"], said["usable_bytes"]
        band = f"{_gib(margin['low'])} to {_gib(margin['high'])} over the band"
        lead = (
            f"<p>{html.fit_chip(said['fit'])} <b>{escape(units.spare(margin['expected']))}</b> of "
            f"{escape(span(usable, units.memory_size))} usable on {escape(said['gpu'])} "
            f'<span class="rv-quiet-text">({escape(band)})</span>. {escape(said["sentence"])}</p>'
        )
    rule = "" if said["fit"] in (None, "fits", "tight") else html.paragraphs(said["rule"])
    return f'<div class="rv-verdict"><h2>Decisions at r = {said["r"]}</h2>{lead}{rule}</div>'


def knobs_html(said: Mapping[str, Any]) -> str:
    """What each change costs; a click makes it."""
    rows = [
        Row(
            cells=[
                Cell(knob["label"], title=_effect(knob), kind="narrow"),
                Cell(units.memory_change(knob["device_bytes"]), title=f"{knob['device_bytes']:+,} bytes"),
                _change(knob["seconds"], units.duration_change, _money(knob["usd"])),
                *([html.FITS[knob["fit"]]] if said["gpu"] else []),
            ],
            pick=urlencode(knob["change"]),
        )
        for knob in said["knobs"]
    ]
    title = f"What one change costs, for the same {units.count(said['tokens'])} tokens. A click makes it."
    headers = ["Change", "Memory", "Time", *(["Then"] if said["gpu"] else [])]
    return html.titled(title, html.table(headers, rows, label="What one change costs"))


def _effect(knob: Mapping[str, Any]) -> str:
    return "Leaves the result as it is" if knob["same_result"] else "Changes what is learned"


def _money(usd: float | None) -> str:
    return "" if usd is None else f"{'-' if usd < 0 else '+'}{units.usd(abs(usd))}"


def _change(value: float | None, text, title: str) -> Cell:
    return Cell(NOT_KNOWN if value is None else text(value), title=title)


def limits_html(said: Mapping[str, Any]) -> str:
    """The largest rank, batch and length, surely and as expected."""
    title = "The largest that fits, the rest as it is"
    if not said["limits"]:
        return html.titled(title, html.paragraphs("Choose a GPU, here or in the table below.", css="rv-empty"))
    rows = [
        Row(cells=[LIMITS[option], _largest(limit["surely"]), _largest(limit["expected"])])
        for option, limit in said["limits"].items()
    ]
    notes = (f"{LIMITS[option]}: {limit['note']}." for option, limit in said["limits"].items() if limit["note"])
    return html.titled(
        title,
        html.table(["", "Surely", "Expected"], rows, label="The largest that fits") + html.paragraphs(*notes),
    )


def _largest(value: int | None) -> str:
    return "none" if value is None else f"{value:,}"


def methods_html(said: Mapping[str, Any]) -> str:
    """Three ways to train side by side, a column each."""
    methods = said["methods"]
    rows = [
        (
            "Trained",
            [Cell(units.count(m["trained_parameters"]), title=f"{m['trained_parameters']:,}") for m in methods],
        ),
        ("Memory", [span(m["device_bytes"], units.memory_size) for m in methods]),
        *([("Fit", [html.FITS[m["fit"]] for m in methods])] if said["gpu"] else []),
        ("Time", [time_span(m["seconds"]) if m["seconds"] else NOT_KNOWN for m in methods]),
        ("Cost", [span(m["usd"], units.usd) if m["usd"] else NOT_KNOWN for m in methods]),
        ("Saved", [_saved(m) for m in methods]),
    ]
    table = html.table(
        ["", *(f"{m['label'].split(',')[0]}, {m['precision']}" for m in methods)],
        [Row(cells=[name, *cells]) for name, cells in rows],
        label="Three ways to train",
    )
    full = methods[-1]
    note = (
        f"Full fine-tuning: {full['precision']} weights, gradients and optimizer states. No measured run validates it, "
        "so its range is wider."
    )
    return html.titled("Three ways to train, same batch and length", table + html.paragraphs(note))


def _saved(method: Mapping[str, Any]) -> Cell:
    about = "" if method["saved_exact"] else "about "
    return Cell(about + units.file_size(method["saved_bytes"]), title=f"{about}{method['saved_bytes']:,} bytes")


def cards_html(said: Mapping[str, Any]) -> str:
    """Every GPU of the table, those that fit first. A click takes one; its price can be written over."""
    rows = [_card_row(card, said["gpu_id"]) for card in said["gpus"]]
    table = html.table(
        ["GPU", "Fit", "To spare", "$ an hour", "Price of", "Time", "Total"],
        rows,
        label="GPUs, cheapest first",
        left=2,
    )
    fitting = sum(card["fit"] in ("fits", "tight") for card in said["gpus"])
    title = f"{fitting} of {len(rows)} GPUs fit, cheapest first. Write your own price; a click takes the GPU."
    return html.titled(title, table)


def _card_row(card: Mapping[str, Any], chosen: str | None) -> Row:
    price, usd, seconds, spare = (card[name] for name in ("usd_per_hour", "usd", "seconds", "margin_bytes"))
    paid = ", ".join(filter(None, (card["provider"], card["price_checked"]))) if price is not None else NOT_KNOWN
    return Row(
        cells=[
            card["gpu"],
            html.FITS.get(card["fit"]) or Cell("✕ can't run this", title=card["reason"]),
            _gib(spare["expected"]) if spare else "",
            Cell("" if price is None else _price(price), edit=card["gpu_id"], title=f"$ an hour of the {card['gpu']}"),
            paid,
            time_span(seconds) if seconds else NOT_KNOWN,
            span(usd, units.usd) if usd else NOT_KNOWN,
        ],
        pick=urlencode({"gpu": card["gpu_id"]}),
        chosen=card["gpu_id"] == chosen,
    )


def _gib(size_bytes: float) -> str:
    """Signed, with the sign that numbers have in print."""
    return f"{size_bytes / units.GIB:,.1f} GiB".replace("-", "−")


def _price(usd_per_hour: float) -> str:
    cents = f"{usd_per_hour:.2f}"
    return cents if float(cents) == usd_per_hour else f"{usd_per_hour:g}"


def applied(event: gr.EventData) -> Sequence[Any]:
    """The widgets of APPLIED after a click: what the change names is set, the rest stays."""
    changes = link.changes(dict(parse_qsl(str(event._data["id"]))))
    return [changes[name] if name in changes else gr.skip() for name in APPLIED]


def priced(prices: str, gpu: str, event: gr.EventData) -> tuple[Any, Any]:
    """The prices of one's own, and the price of the chosen GPU, after an edit. The question says what can't be."""
    edited = str(event._data["id"])
    own = dict(question.price_texts(prices))
    own.pop(edited, None)
    if text := str(event._data["text"]).strip():
        own[edited] = text
    return question.price_text(own), None if edited == gpu else gr.skip()
