"""The right column's words and numbers: an estimate as five figures, an advice, and a table of ranks."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.core.accuracy.similar import in_words
from rankviz.ui import link
from rankviz.ui.explore.advice import card, goal_of
from rankviz.ui.guide.accuracy import rests_on_html
from rankviz.ui.parts import html, question
from rankviz.ui.parts.html import Cell, Figure, Row

NOT_KNOWN = "not known"


class Answer(NamedTuple):
    figures: str
    rests_on: str
    advice: str
    scale: str
    ranks: str
    address: str
    setup_label: Any
    gpu_label: Any
    gpu_note: str


def answer(api: Api, **values: Any) -> Answer:
    """Everything on Explore that is text, for the question that the widgets ask."""
    asked = question.ask(values)
    r = values["r"]
    said = api.estimate(asked)
    rows = {row["r"]: row for row in said["ranks"]}
    return Answer(
        figures=html.figures(five_figures(rows, r, gpu=said["gpu"], dtype=said["adapter_dtype"])),
        rests_on=rests_on_html(api.rests_on(asked, r), in_words(said["rests_on"])),
        advice=card(api.advise(asked, goal_of(values)), said, r),
        scale=scale_html(rows[r], asked.lora.use_rslora),
        ranks=rank_table(list(rows.values()), r),
        address=link.address(link.write(values)),
        setup_label=gr.Accordion(label=setup_label(values)),
        gpu_label=gr.Accordion(label=f"GPU and price · {said['gpu'] or 'none chosen'}"),
        gpu_note=gpu_note(said),
    )


def gpu_note(said: Mapping[str, Any]) -> str:
    """Whose price is reckoned with and of which day, and how much of the card can be used."""
    usable, price = said["usable_bytes"], said["usd_per_hour"]
    if not usable:
        return ""
    paid = "No price is known: give your own." if price is None else f"${price:.2f} an hour: {said['price_source']}."
    return html.paragraphs(paid, f"{span(usable, units.memory_size)} of its memory can be used.")


def setup_label(values: Mapping[str, Any]) -> str:
    batch, accumulation = values["batch"], values["accumulation"]
    return f"Training set-up · {values['precision']}, {batch} × {accumulation} × {values['max_length']:,} tokens"


def five_figures(rows: Mapping[int, Mapping[str, Any]], r: int, *, gpu: str | None, dtype: str) -> Sequence[Figure]:
    """Parameters, file, memory, time and money at the chosen rank, with half and twice the rank under each."""
    row = rows[r]
    beside = [rows[other] for other in (r // 2, 2 * r) if other in rows and other != r]

    def steps(text) -> list[tuple[str, str]]:
        return [(f"r = {b['r']}", text(b)) for b in beside]

    memory, seconds, usd = row["memory_bytes"], row["seconds"], row["usd"]
    return (
        Figure(
            name="Trainable parameters",
            value=units.count(row["adapter_parameters"]),
            title=f"{row['adapter_parameters']:,} parameters",
            sub=f"{percent(row['adapter_percent'])} of the base",
            steps=steps(lambda b: units.count(b["adapter_parameters"])),
        ),
        Figure(
            name="Adapter file",
            value=units.file_size(row["adapter_bytes"]),
            title=f"{row['adapter_bytes']:,} bytes, header included",
            sub=f"saved in {dtype}, header included",
            steps=steps(lambda b: units.file_size(b["adapter_bytes"])),
        ),
        Figure(
            name="Memory on the card",
            value=span(memory, units.memory_size),
            title=f"{memory['low']:,} to {memory['high']:,} bytes",
            sub=f"on {gpu}, {units.spare(row['margin_bytes'])}" if row["fit"] else "no GPU chosen",
            verdict=row["fit"] or "",
            steps=steps(lambda b: units.memory_size(b["memory_bytes"]["device"])),
        ),
        Figure(
            name="Time",
            value=time_span(seconds) if seconds else NOT_KNOWN,
            title=f"{seconds['low']:,.0f} to {seconds['high']:,.0f} seconds" if seconds else "",
            sub=f"about {units.duration(seconds['expected'])}" if seconds else "choose a GPU whose speed is known",
            steps=steps(lambda b: units.duration(b["seconds"]["expected"]) if b["seconds"] else NOT_KNOWN),
        ),
        Figure(
            name="Cost",
            value=span(usd, units.usd) if usd else NOT_KNOWN,
            title=f"${usd['low']:.4f} to ${usd['high']:.4f}" if usd else "",
            sub=f"about {units.usd(usd['expected'])}" if usd else "choose a GPU with a price, or give one",
            steps=steps(lambda b: units.usd(b["usd"]["expected"]) if b["usd"] else NOT_KNOWN),
        ),
    )


def span(values: Mapping[str, float], text) -> str:
    """Low to high, the unit said once where both share it: "7.1 – 8.3 GiB"."""
    low, high = text(values["low"]), text(values["high"])
    if low == high:
        return low
    (number, _, unit), (other, _, same) = low.rpartition(" "), high.rpartition(" ")
    if unit == same and all(part.replace(".", "").replace(",", "").isdigit() for part in (number, other)):
        return f"{number} – {high}"
    if low.startswith("$") and high.startswith("$"):
        return f"{low} – {high[1:]}"
    return f"{low} – {high}"


TIME_UNITS = ((48 * 3600, 86400, "days"), (90 * 60, 3600, "h"), (90, 60, "min"), (0, 1, "s"))


def time_span(seconds: Mapping[str, float]) -> str:
    """A range of times in one unit, short enough for a row of figures: "3.9 – 9.8 h"; "40 s – 38 min" where it is
    too wide for that."""
    size, unit = next((size, unit) for limit, size, unit in TIME_UNITS if seconds["high"] >= limit)
    if seconds["low"] < size:
        return span(seconds, units.duration)
    low, high = (
        f"{value / size:.2g}" if value / size < 10 else f"{value / size:,.0f}"
        for value in (seconds["low"], seconds["high"])
    )
    return f"{low} – {high} {unit}" if low != high else f"{low} {unit}"


def percent(value: float) -> str:
    return units.percent(value / 100)


def scale_html(row: Mapping[str, Any], use_rslora: bool) -> str:
    rule = "α / √r" if use_rslora else "α / r"
    return f'<div class="rv-scale">α = {row["lora_alpha"]:g}, scale {rule} = <b>{row["scale"]:.4g}</b></div>'


def rank_table(rows: Sequence[Mapping[str, Any]], r: int) -> str:
    """All ranks, the chosen one bold; a click on a row chooses its rank."""
    return html.table(
        ["r", "Scale", "Trainable parameters", "Share", "Adapter file", "Memory on the card", "Time", "Cost", "Fit"],
        [
            Row(
                cells=[
                    str(row["r"]),
                    f"{row['scale']:.4g}",
                    f"{row['adapter_parameters']:,}",
                    percent(row["adapter_percent"]),
                    Cell(units.file_size(row["adapter_bytes"]), title=f"{row['adapter_bytes']:,} bytes"),
                    span(row["memory_bytes"], units.memory_size),
                    time_span(row["seconds"]) if row["seconds"] else NOT_KNOWN,
                    span(row["usd"], units.usd) if row["usd"] else NOT_KNOWN,
                    html.FITS.get(row["fit"], ""),
                ],
                pick=str(row["r"]),
                chosen=row["r"] == r,
            )
            for row in rows
        ],
        label="All ranks",
    )
