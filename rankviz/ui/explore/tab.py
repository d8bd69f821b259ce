"""Explore: a question on the left, its answer on the right, within a blink."""

from functools import partial
from typing import Any, NamedTuple

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.core.cost.duration import price_of
from rankviz.core.lora.moe import has_experts
from rankviz.core.lora.targets import module_choices
from rankviz.errors import InvalidSettingError
from rankviz.export.tables import Table, ranks_table
from rankviz.figures.labels import sweep_label
from rankviz.ui.explore import export as takeaway
from rankviz.ui.explore import probe
from rankviz.ui.explore import studies as evidence
from rankviz.ui.explore.answer import answer
from rankviz.ui.explore.fit import APPLIED, applied, decision_widgets, decisions, priced
from rankviz.ui.explore.pictures import MEMORY_HEIGHT, pictures
from rankviz.ui.parts import html, points, question, tables
from rankviz.ui.parts.charts import chart
from rankviz.ui.parts.controls import address, busy, done, pickable, plain
from rankviz.ui.parts.question import CUSTOM
from rankviz.ui.wiring import heard, quiet, wire

TRADEOFF_HEIGHT = 380
NEWEST = "newest"


class Exploring(NamedTuple):
    """What the rest of the page needs of this tab."""

    asked: dict[str, Any]
    """The question's widgets, by the names of question.DEFAULTS."""
    fit: dict[str, Any]
    """The event that makes widgets follow the model, once they were set from elsewhere."""
    answers: list[dict[str, Any]]
    """The events after it that fill the right column."""
    sweeps: gr.Dropdown
    curve: gr.HTML


def build(api: Api) -> Exploring:
    with gr.Row(elem_classes="rv-split"):
        with gr.Column(elem_classes="rv-question rv-sticky"), gr.Accordion("The question", elem_classes="rv-fold"):
            w = question.question_widgets(model_choices(api), list(api.workspace.gpus))
        with gr.Column(elem_classes="rv-answer"):
            notice = plain(elem_id="notice")
            figures = plain(elem_id="figures")
            rests_on = plain(elem_id="rests-on")
            advice = plain(elem_id="advice")
            decided = decision_widgets()
            with gr.Row(elem_classes="rv-bar"):
                sweep = gr.Dropdown(
                    sweep_choices(api), value=NEWEST, label="Runs", interactive=True, min_width=180, scale=3
                )
                x = gr.Dropdown(points.X_CHOICES, value="adapter", label="Cost axis", interactive=True, min_width=140)
                y = gr.Dropdown(points.Y_CHOICES, value="loss", label="Quality axis", interactive=True, min_width=140)
            curve = chart("Quality against cost, measured", height=TRADEOFF_HEIGHT, elem_id="tradeoff")
            caption = plain(elem_id="tradeoff-caption")
            published = evidence.build(api, w)
            with gr.Row(elem_classes="rv-charts"):
                memory = chart("Memory by component and rank, estimated", height=MEMORY_HEIGHT, elem_id="memory")
                modules = chart("Adapter parameters by module and block", height=MEMORY_HEIGHT, elem_id="module-map")
            ranks_file = tables.download_widgets("all ranks", elem_id="ranks-download")
            ranks = pickable(elem_id="ranks")
            probing = probe.build(api, w)
            w["take"], script = takeaway.takeaway_widgets()
    where = address()
    asked = {name: w[name] for name in question.DEFAULTS}

    telling = wire(
        partial(answer, api),
        inputs=asked,
        outputs={
            "figures": figures,
            "rests_on": rests_on,
            "advice": advice,
            "scale": w["scale"],
            "ranks": ranks,
            "address": where,
            "setup_label": w["setup_fold"],
            "gpu_label": w["gpu_fold"],
            "gpu_note": w["gpu_note"],
        },
        notice=notice,
    )
    drawing = wire(partial(pictures, api), inputs=asked, outputs={"memory": memory, "modules": modules}, silent=True)
    deciding = wire(partial(decisions, api), inputs=asked, outputs=decided, silent=True)
    taking = wire(partial(takeaway.taken, api), inputs=asked, outputs={"code": script}, silent=True)
    fitting = wire(
        partial(fitted, api),
        inputs={"model": w["model"], "preset": w["preset"], "modules": w["modules"], "framework": w["framework"]},
        outputs={"modules": w["modules"], "moe_scheme": w["moe_scheme"]},
        notice=notice,
    )
    paid = {name: w[name] for name in ("r", "gpu", "usd_per_hour", "prices")}
    curve_inputs = {"sweep": sweep, "x": x, "y": y, **paid}
    plotting = wire(partial(tradeoff, api), inputs=curve_inputs, outputs={"chart": curve, "caption": caption})

    refits = ("model", "preset", "framework")
    # Only a person changes these; an empty number box reports a change whenever the page loads.
    typed = ("modules", "examples", "example_tokens")
    changed = heard(
        *(w[name].change for name in asked if name not in (*refits, *typed)), *(w[name].input for name in typed)
    )
    for answering in (telling, drawing, deciding, taking):
        changed.then(**answering)
    w["model"].change(**busy("model-busy", "Reading the layers of this model …"))
    refit = heard(*(w[name].change for name in refits)).then(**fitting)
    refit.then(**telling).then(**done("model-busy"))
    refit.then(**drawing)
    refit.then(**deciding)
    refit.then(**published)
    refit.then(**taking)
    heard(*(widget.change for widget in curve_inputs.values())).then(**plotting)

    w["modules"].input(None, None, w["preset"], js=f"() => '{CUSTOM}'", show_progress="hidden", queue=False)
    w["alpha_rule"].change(
        lambda rule: gr.Number(visible=rule == "fixed"), w["alpha_rule"], w["alpha_fixed"], **quiet()
    )
    ranks.select(chosen_rank, None, w["r"], **quiet())
    tables.offer(ranks_file, partial(asked_ranks, api), asked)
    for changeable in ("knobs", "cards"):
        decided[changeable].select(applied, None, [w[name] for name in APPLIED], **quiet())
    decided["cards"].input(priced, [w["prices"], w["gpu"]], [w["prices"], w["usd_per_hour"]], **quiet())
    w["upload"].upload(**busy("model-busy", "Building the model of this config.json without weights …"))
    upload = wire(partial(uploaded, api), inputs={"file": w["upload"]}, outputs={"model": w["model"]}, notice=notice)
    w["upload"].upload(**upload).then(**done("model-busy"))
    return Exploring(
        asked=asked,
        fit=fitting,
        answers=[telling, drawing, deciding, published, plotting, probing, taking],
        sweeps=sweep,
        curve=curve,
    )


def asked_ranks(api: Api, **values: Any) -> Table:
    """The table of ranks with every number in it, as a file has it."""
    asked = question.ask(values)
    answer = api.estimates.estimate(asked)
    return ranks_table(answer.estimate, answer.evidence)


def model_choices(api: Api) -> list[tuple[str, str]]:
    """Catalogue rows, then every other name with what it stands for, so that a search finds both."""
    rows = api.models.all()
    own = [(model_label(row), row.id) for row in rows]
    return own + [(f"{alias} (as {row.id})", alias) for row in rows for alias in row.aliases]


def model_label(row: Any) -> str:
    tower = "" if row.tower == "text" else f", {row.tower}"
    return f"{row.id} · {units.count(row.total_parameters)}{tower}" + ("" if row.verified else ", total unverified")


def chosen_rank(event: gr.EventData) -> int:
    """The rank of the row that was clicked."""
    return int(event._data["id"])


class Fitted(NamedTuple):
    modules: Any
    moe_scheme: Any


def fitted(api: Api, *, model: str, preset: str, modules: list[str], framework: str) -> Fitted:
    """The widgets that depend on the model: its modules to tick, with what the preset takes ticked, and the experts."""
    spec = api.models.get(model or "")
    choices = module_choices(spec)
    names = [choice.name for choice in choices]
    wanted = modules or () if preset == CUSTOM else api.models.preset_names(spec, preset, framework)
    ticked = [name for name in wanted if name in names]  # experts are parameters, not modules to tick
    return Fitted(
        modules=gr.CheckboxGroup([(f"{c.name} × {c.count}", c.name) for c in choices], value=ticked),
        moe_scheme=gr.Dropdown(visible=has_experts(spec)),
    )


class Uploaded(NamedTuple):
    model: Any


def uploaded(api: Api, *, file: str) -> Uploaded:
    """A config.json from the visitor: its model becomes the chosen one."""
    spec = api.models.get(file)
    choices = [*model_choices(api), (f"{spec.name} (your config.json)", file)]
    return Uploaded(gr.Dropdown(choices=choices, value=file))


def sweep_choices(api: Api) -> list[tuple[str, str]]:
    """The newest is the newest of one's own, or a recorded one as long as there is none."""
    sweeps = [*api.runs.sweeps(), *api.runs.recorded()]
    return [("Newest finished sweep", NEWEST)] + [(sweep_label(sweep), sweep.sweep_id) for sweep in sweeps]


class Plotted(NamedTuple):
    chart: str
    caption: str


def tradeoff(
    api: Api, *, sweep: str, x: str, y: str, r: int, usd_per_hour: float | None, gpu: str, prices: str = ""
) -> Plotted:
    """The main chart, for the sweep chosen."""
    if sweep == NEWEST:
        done = [s for s in api.runs.sweeps() if any(run.loss_after for run in s.runs)]
        shown = done[:1] or list(api.runs.recorded())[:1]
    else:
        shown = [api.runs.sweep(sweep)]
    price = _price(api, gpu, usd_per_hour, prices)
    drawn = points.tradeoff_chart(shown, x=x, y=y, chosen_r=r, usd_per_hour=price, height=TRADEOFF_HEIGHT)
    return Plotted(drawn.chart, html.paragraphs(drawn.caption))


def _price(api: Api, gpu: str, usd_per_hour: float | None, prices: str) -> float | None:
    """What an hour costs here; None for a price that can't be, which the answer beside this chart says."""
    try:
        own = usd_per_hour if usd_per_hour is not None else question.prices_of(prices).get(gpu)
    except InvalidSettingError:
        return None
    return hourly(api, gpu, own)


def hourly(api: Api, gpu: str | None, usd_per_hour: float | None) -> float | None:
    """The price that the estimate reckons with: one's own, or the table's."""
    card = next((g for g in api.workspace.gpus if g.id == gpu), None)
    price = price_of(card, usd_per_hour) if card else None
    return price.usd_per_hour if price else usd_per_hour
