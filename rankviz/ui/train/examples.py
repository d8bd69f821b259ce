"""Shows two recorded sweeps while nothing is trained: one in which rank matters, and one in which it does not."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from html import escape
from itertools import chain
from statistics import fmean
from typing import Any, NamedTuple
from urllib.parse import quote

import gradio as gr

from rankviz.api import Api
from rankviz.core.runs.record import RunRecord
from rankviz.figures import rank_curve_figure, rank_curve_info
from rankviz.ui.parts import html
from rankviz.ui.parts.charts import chart, chart_value
from rankviz.ui.parts.controls import plain
from rankviz.ui.train.progress import shown_sweep
from rankviz.ui.wiring import wire
from rankviz.verdict import Verdict, sentences

HEIGHT = 320
ROOM = 1.08
"""The axis of losses ends so far above the highest run."""


class Example(NamedTuple):
    """A recorded sweep and what it teaches."""

    sweep_id: str
    title: str
    lesson: str
    caution: str = ""


MATTERS = Example(
    sweep_id="20261126-050022-3233",
    title="Rank matters here",
    lesson="With little room (one module of one block) and a high learning rate, the rank limits how many random word "
    "pairs the adapter stores in these steps.",
)
DOES_NOT_MATTER = Example(
    sweep_id="20261126-052035-4775",
    title="Rank does not matter here",
    lesson="The same word pairs, with an adapter on seven modules of every block: even the smallest rank has enough "
    "parameters to store them.",
    caution="The two sweeps differ in learning rate and steps too, so compare ranks within a sweep only.",
)


class Examples(NamedTuple):
    """What is shown of the two. box: hidden where there is a result of one's own to show."""

    box: Any = gr.skip()
    matters: Any = gr.skip()
    matters_words: Any = gr.skip()
    does_not: Any = gr.skip()
    does_not_words: Any = gr.skip()


def build(api: Api, sweep_id: gr.State) -> dict[str, Any]:
    """Both examples side by side, in the empty state of the tab; returns the event that shows or hides them.

    It follows the events that set sweep_id: a State that an event past the queue sets reports no change.
    """
    with gr.Row(elem_classes="rv-charts", elem_id="examples", visible=False) as box:
        with gr.Column():
            matters = chart(MATTERS.title, height=HEIGHT, elem_id="example-matters")
            matters_words = plain(elem_id="example-matters-words")
        with gr.Column():
            does_not = chart(DOES_NOT_MATTER.title, height=HEIGHT, elem_id="example-does-not")
            does_not_words = plain(elem_id="example-does-not-words")

    drawn_once = cache(partial(empty_state, api))  # recorded sweeps do not change
    return wire(
        partial(view, api, drawn_once),
        inputs={"sweep_id": sweep_id},
        outputs={
            "box": box,
            "matters": matters,
            "matters_words": matters_words,
            "does_not": does_not,
            "does_not_words": does_not_words,
        },
    )


def view(api: Api, drawn: Callable[[], Examples], *, sweep_id: str | None) -> Examples:
    """Both examples, or nothing in place of them where the result of a sweep is shown. sweep_id: None while the page is
    not yet restored from its address, when nobody knows."""
    if sweep_id is None:
        return Examples()
    return Examples(gr.Row(visible=False)) if shown_sweep(api, sweep_id) else drawn()


def empty_state(api: Api) -> Examples:
    """Both examples, on one scale of losses."""
    both = MATTERS, DOES_NOT_MATTER
    verdicts = [api.verdicts.of_sweep(example.sweep_id).verdict for example in both]
    highest = max(loss for verdict in verdicts for rank in verdict.ranks for loss in rank.run_losses.values())
    drawn = [_drawn(api, example, verdict, ROOM * highest) for example, verdict in zip(both, verdicts, strict=True)]
    return Examples(gr.Row(visible=True), *chain.from_iterable(drawn))


def _drawn(api: Api, example: Example, verdict: Verdict, top: float) -> tuple[str, str]:
    """(the figure, the words under it). top: where the axis of losses ends, in nats."""
    sweep = api.runs.sweep(example.sweep_id)
    info = rank_curve_info(sweep, verdict)
    drawing = rank_curve_figure.drawing(info, height=HEIGHT)
    drawing["layout"]["yaxis"]["range"] = [0, top]
    chart = chart_value(drawing, info.rows, file=f"rank-curve-{example.sweep_id}", source=info.source)
    return chart, words_html(example, verdict, sweep.runs, info.source)


def words_html(example: Example, verdict: Verdict, runs: Sequence[RunRecord], source: str) -> str:
    """The verdict, the lesson and where the sweep opens; in the details how large the gap is beside the noise, and what
    was trained."""
    address = f"?tab=runs&amp;sweep={quote(example.sweep_id)}"
    details = gap_sentence(verdict), example.caution, training_sentence(runs), rates_sentence(runs), source
    return (
        f'<div class="rv-verdict">{html.paragraphs(sentences(verdict)[0], css="rv-headline")}'
        f"{html.paragraphs(example.lesson)}{html.folded('Details', html.paragraphs(*details))}"
        f'<p class="rv-caption"><a href="{address}" aria-label="{escape(example.title)}: open on Runs">'
        "Open on Runs</a></p></div>"
    )


def gap_sentence(verdict: Verdict) -> str:
    """The difference between the lowest and the highest rank: too small to matter, or in standard deviations of one
    run over its seeds."""
    low, high = verdict.ranks[0], verdict.ranks[-1]
    gap = abs(low.loss - high.loss)
    start = f"r = {low.r} and r = {high.r} differ by {gap:.3f} nats"
    if gap <= verdict.within:
        return f"{start}; differences up to {verdict.within:g} nats count as equal."
    return f"{start}, {gap / verdict.run_sd:.1f} times the noise between seeds ({verdict.run_sd:.3f} nats)."


def training_sentence(runs: Sequence[RunRecord]) -> str:
    """Modules, steps and learning rates of the runs."""
    first, rates = runs[0].request, _rates(runs)
    targets = first.lora.target_modules
    modules = "the seven default modules of every block" if targets == "unsloth" else ", ".join(targets)
    tried = "Learning rate" if len(rates) == 1 else "Learning rates"
    return f"Trained: {modules}, for {first.max_steps} steps. {tried}: {' and '.join(f'{rate:g}' for rate in rates)}."


def rates_sentence(runs: Sequence[RunRecord]) -> str:
    """What the gap between the lowest and the highest rank is at each rate, where several were tried."""
    ranks, rates = sorted({run.request.r for run in runs}), _rates(runs)
    if len(rates) < 2:
        return ""

    def loss(r: int, rate: float) -> float:
        return fmean(run.loss_after.loss for run in runs if (run.request.r, run.request.learning_rate) == (r, rate))

    gaps = {rate: loss(ranks[0], rate) - loss(ranks[-1], rate) for rate in rates}
    by_rate = "; ".join(f"{gap:.2f} nats at {rate:g}" for rate, gap in gaps.items())
    return (
        f"r = {ranks[0]} minus r = {ranks[-1]}: {by_rate}. No rate above {rates[-1]:g} was tried, so a higher one "
        "may be better."
    )


def _rates(runs: Sequence[RunRecord]) -> list[float]:
    return sorted({run.request.learning_rate for run in runs})
