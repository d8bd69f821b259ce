"""The Explore tab has the settings on the left and the estimate on the right."""

from functools import partial
from typing import Any, NamedTuple

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.lora.config import UNSLOTH_CLASSES, LoraConfig
from rankviz.errors import UserError
from rankviz.export.tables import Table, ranks_table
from rankviz.figures.labels import sweep_label
from rankviz.ui.explore import export as takeaway
from rankviz.ui.explore import forecast, probe, studies
from rankviz.ui.explore.answer import answer
from rankviz.ui.explore.fit import APPLIED, Priced, applied, decision_widgets, decisions, priced
from rankviz.ui.explore.pictures import MEMORY_HEIGHT, pictures
from rankviz.ui.parts import html, points, question, tables
from rankviz.ui.parts.charts import chart
from rankviz.ui.parts.controls import address, busy, done, pickable, plain
from rankviz.ui.parts.question import CUSTOM
from rankviz.ui.wiring import on_any, put, quiet, wire

TRADEOFF_HEIGHT = 380
NEWEST = "newest"


class Exploring(NamedTuple):
    """What the rest of the page needs of this tab."""

    question: dict[str, Any]
    """The question's widgets, by the names of question.DEFAULTS."""
    fit: dict[str, Any]
    """The event that makes widgets follow the model, after they were set from elsewhere."""
    answers: list[dict[str, Any]]
    """The events after it that fill the right column."""
    sweeps: gr.Dropdown
    curve: gr.HTML


def build(api: Api) -> Exploring:
    with gr.Row(elem_classes="rv-split"):
        with (
            gr.Column(elem_classes="rv-question rv-sticky"),
            gr.Accordion("Model and training", elem_classes="rv-fold"),
        ):
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
                y = gr.Dropdown(
                    points.LOSS_CHOICES, value="loss", label="Quality axis", interactive=True, min_width=140
                )
            curve = chart("Quality and cost, measured", height=TRADEOFF_HEIGHT, elem_id="tradeoff")
            caption = plain(elem_id="tradeoff-caption")
            forecasting = forecast.build(api, w)
            published = studies.build(api, w)
            with gr.Row(elem_classes="rv-charts"):
                memory = chart("Memory by component and rank, estimated", height=MEMORY_HEIGHT, elem_id="memory")
                modules = chart("Adapter parameters by module and block", height=MEMORY_HEIGHT, elem_id="module-map")
            ranks_file = tables.download_widgets("all ranks", elem_id="ranks-download")
            ranks = pickable(elem_id="ranks")
            probing = probe.build(api, w)
            w["take"], script = takeaway.takeaway_widgets()
    where = address()
    inputs = {name: w[name] for name in question.DEFAULTS}

    answering = wire(
        partial(answer, api),
        inputs=inputs,
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
    drawing = wire(partial(pictures, api), inputs=inputs, outputs={"memory": memory, "modules": modules}, silent=True)
    deciding = wire(partial(decisions, api), inputs=inputs, outputs=decided, silent=True)
    exporting = wire(partial(takeaway.takeaway, api), inputs=inputs, outputs={"code": script}, silent=True)
    fitting = wire(
        partial(fitted, api),
        inputs={name: w[name] for name in FITTED_BY},
        outputs={name: w[name] for name in Fitted._fields},
        notice=notice,
    )
    priced_by = {name: w[name] for name in ("r", "gpu", "usd_per_hour", "prices")}
    curve_inputs = {"sweep": sweep, "x": x, "y": y, **priced_by}
    plotting = wire(partial(tradeoff, api), inputs=curve_inputs, outputs={"chart": curve, "caption": caption})

    refits = ("model", "preset", "framework", "unsloth_class", "precision")
    # Only a person changes these; an empty number box reports a change whenever the page loads.
    typed = ("modules", "parts", "examples", "example_tokens")
    changed = on_any(
        *(w[name].change for name in inputs if name not in (*refits, *typed)), *(w[name].input for name in typed)
    )
    for event in (answering, drawing, deciding, exporting):
        changed.then(**event)
    w["model"].change(**busy("model-busy", "Reading the layers of this model …"))
    refit = on_any(*(w[name].change for name in refits), w["parts"].input).then(**fitting)
    refit.then(**answering).then(**done("model-busy"))
    refit.then(**drawing)
    refit.then(**deciding)
    refit.then(**forecasting)
    refit.then(**published)
    refit.then(**exporting)
    on_any(*(widget.change for widget in curve_inputs.values())).then(**plotting)

    w["modules"].input(None, None, w["preset"], js=f"() => '{CUSTOM}'", show_progress="hidden", queue=False)
    w["alpha_rule"].change(
        lambda rule: gr.Number(visible=rule == "fixed"), w["alpha_rule"], w["alpha_fixed"], **quiet()
    )
    ranks.select(chosen_rank, None, w["r"], **quiet())
    tables.offer(ranks_file, partial(ranks_of, api), inputs)
    settable = {name: w[name] for name in APPLIED}

    # Closures, since Gradio finds gr.EventData by the function's own type hints and loses it in a partial.
    def apply(event: gr.EventData) -> dict[Any, Any]:
        return put(applied(event), settable)

    def set_price(prices: str, gpu: str, event: gr.EventData) -> dict[Any, Any]:
        return put(priced(prices, gpu, event)._asdict(), own_price)

    own_price = {name: w[name] for name in Priced._fields}
    for changeable in ("knobs", "cards"):
        decided[changeable].select(apply, None, list(settable.values()), **quiet())
    decided["cards"].input(set_price, [w["prices"], w["gpu"]], list(own_price.values()), **quiet())
    w["upload"].upload(**busy("model-busy", "Building the model of this config.json, without weights …"))
    upload = wire(partial(uploaded, api), inputs={"file": w["upload"]}, outputs={"model": w["model"]}, notice=notice)
    w["upload"].upload(**upload).then(**done("model-busy"))
    return Exploring(
        question=inputs,
        fit=fitting,
        answers=[answering, drawing, deciding, forecasting, published, plotting, probing, exporting],
        sweeps=sweep,
        curve=curve,
    )


def ranks_of(api: Api, **values: Any) -> Table:
    """The table of ranks with all numbers, for a file."""
    answer = api.estimates.estimate(question.ask(values))
    return ranks_table(answer.estimate, answer.basis)


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


FITTED_BY = ("model", "preset", "modules", "names", "framework", "precision", "unsloth_class", "parts")


class Fitted(NamedTuple):
    modules: Any
    moe_scheme: Any
    parts: Any
    unsloth_class: Any


def fitted(
    api: Api,
    *,
    model: str,
    preset: str,
    modules: list[str],
    names: str = "",
    framework: str,
    precision: str = "nf4-dq",
    unsloth_class: str = "FastLanguageModel",
    parts: list[str] | None = None,
) -> Fitted:
    """The widgets that depend on the model: its modules to tick, with what is targeted ticked, the experts, and under
    Unsloth the trained parts of a whole multimodal model, whose class is always FastVisionModel."""
    spec = api.models.get(model or "")
    unsloth = framework == "unsloth"
    has_parts = unsloth and spec.tower == "whole model"
    # What is hidden must not count.
    parts = (question.DEFAULTS["parts"] if parts is None else parts) if has_parts else question.DEFAULTS["parts"]
    own_class = unsloth and not has_parts
    unsloth_class = unsloth_class if own_class else question.DEFAULTS["unsloth_class"]
    choices = api.models.modules(spec)
    own = [choice.name for choice in choices]
    chosen = (*(modules or ()), *question.names_in(names))
    lora = LoraConfig(target_modules=preset, unsloth_class=unsloth_class, **question.flags_of(parts))
    training = TrainingSetup(framework=framework, precision=precision)
    wanted = chosen if preset == CUSTOM else api.models.preset_names(spec, lora, training)
    ticked = [name for name in own if name in wanted]  # experts are parameters, not modules to tick
    return Fitted(
        modules=gr.CheckboxGroup([(f"{c.name} × {c.count}", c.name) for c in choices], value=ticked),
        moe_scheme=gr.Dropdown(visible=spec.has_experts),
        parts=gr.CheckboxGroup(question.PARTS, value=parts, visible=has_parts),
        unsloth_class=gr.Dropdown(list(UNSLOTH_CLASSES), value=unsloth_class, visible=own_class),
    )


class Uploaded(NamedTuple):
    model: Any


def uploaded(api: Api, *, file: str) -> Uploaded:
    """The model of an uploaded config.json becomes the selected one."""
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
        newest = api.runs.newest_evaluated()
        shown = [newest] if newest else []
    else:
        shown = [api.runs.sweep(sweep)]
    price = _price(api, gpu, usd_per_hour, prices)
    drawn = points.tradeoff_chart(shown, x=x, y=y, usd_per_hour=price, height=TRADEOFF_HEIGHT)
    return Plotted(drawn.chart, html.paragraphs(drawn.caption))


def _price(api: Api, gpu: str, usd_per_hour: float | None, prices: str) -> float | None:
    """Price per hour; None for a wrong price or GPU, which the answer beside this chart reports."""
    try:
        own = usd_per_hour if usd_per_hour is not None else question.prices_of(prices).get(gpu)
        return api.estimates.usd_per_hour(None if gpu == question.NO_GPU else gpu, own)
    except UserError:
        return None
