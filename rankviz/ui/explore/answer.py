"""Shows the right column's words and numbers: five values of the estimate, a recommendation, and a table of ranks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.api.estimates import EstimateAnswer
from rankviz.core.accuracy.similar import in_words
from rankviz.core.cost.estimate import Estimate, RankEstimate
from rankviz.ui import link
from rankviz.ui.explore.advice import card, goal_of
from rankviz.ui.guide.accuracy import rests_on_html
from rankviz.ui.parts import html
from rankviz.ui.parts.html import Cell, Figure, Row
from rankviz.ui.parts.question import ask
from rankviz.units import NOT_KNOWN, memory_span, money_span, time_span


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
    """Everything on Explore that is text, for the widgets' values."""
    question, r = ask(values), values["r"]
    answer = api.estimates.estimate(question)
    estimate = answer.estimate
    return Answer(
        figures=html.figures(five_figures(answer, r)),
        rests_on=rests_on_html(api.estimates.rests_on(question, r).rows, in_words(answer.basis)),
        advice=card(api.advice.advise(question, goal_of(values)), estimate, r),
        scale=scale_html(answer.rank(r), question.lora.use_rslora),
        ranks=rank_table(answer, r),
        address=link.address(link.write(values)),
        setup_label=gr.Accordion(label=setup_label(values)),
        gpu_label=gr.Accordion(label=f"GPU and price · {estimate.gpu.name if estimate.gpu else 'none selected'}"),
        gpu_note=gpu_note(estimate),
    )


def gpu_note(estimate: Estimate) -> str:
    """The price that is used, with its source, and the usable memory."""
    if estimate.usable_bytes is None:
        return ""
    price = estimate.price
    source = f"{price.provider}, {price.checked}".rstrip(", ") if price else ""
    cost = f"${price.usd_per_hour:.2f} per hour ({source})." if price else "No price in the table: enter your own."
    return html.paragraphs(cost, f"Usable memory: {memory_span(estimate.usable_bytes)}.")


def setup_label(values: Mapping[str, Any]) -> str:
    batch, accumulation = values["batch"], values["accumulation"]
    return f"Training setup · {values['precision']}, {batch} × {accumulation} × {values['max_length']:,} tokens"


def five_figures(answer: EstimateAnswer, r: int) -> Sequence[Figure]:
    """Parameters, file, memory, time and cost at the chosen rank, with half and twice the rank under each."""
    gpu, rank = answer.estimate.gpu, answer.rank(r)
    beside = answer.half_and_double(r)

    def steps(text: Callable[[RankEstimate], str]) -> list[tuple[str, str]]:
        return [(f"r = {other.r}", text(other)) for other in beside]

    memory, duration, cost = rank.memory, rank.duration, rank.cost
    return (
        Figure(
            name="Trainable parameters",
            value=units.count(rank.adapter_parameters),
            title=f"{rank.adapter_parameters:,} parameters",
            sub=f"{units.percent(answer.share(rank))} of the base",
            steps=steps(lambda other: units.count(other.adapter_parameters)),
        ),
        Figure(
            name="Adapter file",
            value=units.file_size(rank.adapter_bytes),
            title=f"{rank.adapter_bytes:,} bytes, header included",
            sub=f"saved in {answer.estimate.adapter_dtype}, header included",
            steps=steps(lambda other: units.file_size(other.adapter_bytes)),
        ),
        Figure(
            name="GPU memory",
            value=memory_span(memory),
            title=f"{memory.low:,} to {memory.high:,} bytes",
            sub=f"on {gpu.name}, {units.spare(rank.margin_bytes)}" if rank.fit else "no GPU selected",
            verdict=rank.fit or "",
            steps=steps(lambda other: units.memory_size(other.memory.device)),
        ),
        Figure(
            name="Time",
            value=time_span(duration and duration.total),
            title=f"{duration.total.low:,.0f} to {duration.total.high:,.0f} seconds" if duration else "",
            sub=f"about {units.duration(duration.total.expected)}" if duration else "select a GPU with a known speed",
            steps=steps(lambda other: units.duration(other.duration.total.expected) if other.duration else NOT_KNOWN),
        ),
        Figure(
            name="Cost",
            value=money_span(cost and cost.usd),
            title=f"${cost.usd.low:.4f} to ${cost.usd.high:.4f}" if cost else "",
            sub=f"about {units.usd(cost.usd.expected)}" if cost else "select a GPU with a price, or enter one",
            steps=steps(lambda other: units.usd(other.cost.usd.expected) if other.cost else NOT_KNOWN),
        ),
    )


def scale_html(rank: RankEstimate, use_rslora: bool) -> str:
    rule = "α / √r" if use_rslora else "α / r"
    return f'<div class="rv-scale">α = {rank.lora_alpha:g}, scale {rule} = <b>{rank.scale:.4g}</b></div>'


def rank_table(answer: EstimateAnswer, r: int) -> str:
    """All ranks, the chosen one bold; a click on a row chooses its rank."""
    return html.table(
        ["r", "Scale", "Trainable parameters", "Share", "Adapter file", "GPU memory", "Time", "Cost", "Fit"],
        [
            Row(
                cells=[
                    str(rank.r),
                    f"{rank.scale:.4g}",
                    f"{rank.adapter_parameters:,}",
                    units.percent(answer.share(rank)),
                    Cell(units.file_size(rank.adapter_bytes), title=f"{rank.adapter_bytes:,} bytes"),
                    memory_span(rank.memory),
                    time_span(rank.duration and rank.duration.total),
                    money_span(rank.cost and rank.cost.usd),
                    html.FITS.get(rank.fit, ""),
                ],
                pick=str(rank.r),
                chosen=rank.r == r,
            )
            for rank in answer.estimate.ranks
        ],
        label="All ranks",
    )
