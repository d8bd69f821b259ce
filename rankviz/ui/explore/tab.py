"""The Explore tab: settings on the left, the estimate on the right, and sections below.

The page's script fills figures, chart, recommendation and table of ranks, so a change of the rank only replaces texts.
A section is computed when it is opened, and again when the question changes.
"""

from contextlib import suppress
from functools import partial
from html import escape
from typing import Any

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.core.accuracy.report import in_words
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.lora.config import UNSLOTH_CLASSES, LoraConfig
from rankviz.core.lora.targets import module_counts, names_in
from rankviz.core.model.towers import offers_text_only
from rankviz.core.runs.request import QUICK_RANKS, RATE_RANKS
from rankviz.errors import RankVizError
from rankviz.exports.recipe import FRAMEWORKS
from rankviz.exports.script import OPEN_IN_COLAB
from rankviz.exports.tables import Table, ranks_table
from rankviz.figures import X_LABELS, memory_figure, parameters_figure
from rankviz.options import DATA, IMAGES
from rankviz.ui.explore import sections
from rankviz.ui.explore.answer import FIGURES, FORECAST, HERO_HEIGHT, UNBROKEN, goal_of, suitable
from rankviz.ui.link import CHOICES, CUSTOM, DEFAULTS, PARTS, flags_of
from rankviz.ui.parts import html, question, widgets
from rankviz.ui.parts.html import notice_html, written_html
from rankviz.ui.parts.widgets import (
    MENU,
    busy,
    chart,
    chart_value,
    copyable,
    done,
    hidden,
    pickable,
    plain,
    scripted,
    slot,
)
from rankviz.ui.wiring import CLICKED, QUIET, View, of_click, on_any, put, wire

REFITS = ("preset", "framework", "unsloth_class", "precision")
"""Widgets that, besides the model, decide which modules can be ticked."""
TYPED = ("modules", "parts", "length", *DATA, "images")
"""Widgets whose event is `input`: an empty number box reports a `change` whenever the page loads."""
FITTED = ("modules", "moe", "expert_rank", "parts", "unsloth_class", "text_only", "preset", "framework", *IMAGES)
SECTION_HEIGHT = 340
OPEN_COLAB = (
    '<a class="rv-button" href="https://colab.research.google.com/#upload=true" target="_blank" rel="noopener">'
    "Open Colab</a>"
)

RANK_HEADERS = ("r", "Trainable parameters", "Share", "Adapter file", "GPU memory", "Time", "Cost", "Fit", FORECAST)


def build(api: Api) -> View:
    """Build the tab; return `question`, its widgets by the names of link.DEFAULTS; the widgets `data_file` and
    `curve`; the buttons `measure` by mode; and two events. `fit` adapts widgets to a model that was set elsewhere.
    After `restored` the buttons can be pressed, and a change of a widget sends the question."""
    take = {"label": "Export as", "interactive": True, "min_width": 220, "elem_id": "take", "render": False}
    with gr.Row(elem_classes="rv-split"):
        with gr.Column(elem_classes="rv-question rv-sticky"):
            w = question.question_widgets(model_choices(api), list(api.workspace.gpus))
        with gr.Column(elem_classes="rv-answer"):
            slot("notice")
            notice = plain(elem_id="notice")
            cards = "".join(html.markup("figure").format(escape(name)) for name in FIGURES)
            figures = f'<div class="rv-figures" data-waiting>{cards}</div>'
            scripted(figures, "RankVizExplore.figures(element)", elem_id="figures")
            slot("message")
            with gr.Row(elem_classes="rv-hero-row"):
                with gr.Column(scale=1, min_width=300):
                    axes = "".join(
                        f'<button type="button" data-x="{key}" aria-pressed="false">{escape(label)}</button>'
                        for key, label in X_LABELS.items()
                    )
                    title = "Cost and quality by rank"
                    shown = {"title": title, "menu": MENU.format(title=title), "axes": axes, "height": HERO_HEIGHT}
                    hero = html.markup("hero").format(**shown)
                    curve = scripted(hero, "RankVizHero.chart(element, trigger); // 'select'", elem_id="tradeoff")
                with gr.Column(scale=0, min_width=300, elem_classes="rv-beside"):
                    slot("advice")
                    looks = {"size": "md", "interactive": False}
                    rate = f"Rate first: train {UNBROKEN}{RATE_RANKS[0]} at two rates"
                    quick = f"Quick look: train {UNBROKEN}{' and '.join(map(str, QUICK_RANKS))}"
                    # These fill the form of Train. The learning rate matters most, so it is first.
                    measure = {
                        "rate": gr.Button(rate, elem_id="measure-rate", **looks),
                        "quick": gr.Button(quick, elem_id="measure", variant="primary", **looks),
                    }
                    slot("measure-note")
                    scripted(html.markup("tools"), "", elem_id="tools")
            slot("why")
            w["take"] = gr.Dropdown(CHOICES["take"], value=DEFAULTS["take"], **take)
            inputs = {name: w[name] for name in DEFAULTS}
            asking = _in_browser("asked", list(inputs.values()))
            _sections(api, w, inputs, asking)

    fit = {"inputs": inputs, "outputs": {name: w[name] for name in FITTED}, "silent": True}
    fitting, following = (wire(partial(fitted, api, is_new=is_new), **fit) for is_new in (False, True))
    changes = [w[name].change for name in inputs if name not in ("r", *TYPED)] + [w[name].input for name in TYPED]
    gr.on(changes, **asking)
    w["model"].change(**following).then(**asking)
    on_any(*(w[name].change for name in REFITS), w["parts"].input).then(**fitting).then(**asking)
    w["modules"].input(None, None, w["preset"], js=f"() => '{CUSTOM}'", show_progress="hidden", queue=False)
    fixed = {"inputs": w["alpha_rule"], "outputs": w["alpha_fixed"], **QUIET}
    w["alpha_rule"].change(lambda rule: gr.Number(visible=rule == "fixed"), **fixed)
    filled = {name: w[name] for name in (*DATA, "length", "measured_file", "file_note", "columns")}
    from_file = {"file": w["data_file"], "epochs": w["epochs"], "measured_file": w["measured_file"]}
    measuring = wire(partial(question.measured, api), inputs=from_file, outputs=filled)
    w["data_file"].upload(**measuring).then(**asking)
    again = wire(partial(question.measured, api), inputs=from_file | {"columns": w["columns"]}, outputs=filled)
    w["columns"].input(**again).then(**asking)
    w["upload"].upload(**busy("model-busy", "Building the model of this config.json, without weights …"))
    upload = wire(partial(uploaded, api), inputs={"file": w["upload"]}, outputs={"model": w["model"]}, notice=notice)
    w["upload"].upload(**upload).then(**done("model-busy"))
    return View(
        question=inputs,
        fit=fitting,
        restored=_in_browser("restored", list(inputs.values())),
        curve=curve,
        measure=measure,
        data_file=w["data_file"],
    )


def _in_browser(function: str, inputs: list[Any]) -> dict[str, Any]:
    """Return an event that runs only in the browser: a function of the page's script gets the question's values."""
    script = f"(...values) => {{ RankVizExplore.{function}(values); return []; }}"
    return {"fn": None, "inputs": inputs, "outputs": None, "js": script, "queue": False, "show_progress": "hidden"}


def _sections(api: Api, w: dict[str, Any], inputs: dict[str, Any], asking: dict[str, Any]) -> None:
    """Build the sections. w: all widgets of the question. inputs: widgets whose values make the question. asking: the
    event that sends the current question."""

    def tab(label: str, name: str) -> gr.Tab:
        """Return a tab whose name is in the address while it is open."""
        return gr.Tab(label, id=name, elem_id=f"section-{name}")

    def view(function: Any, **outputs: Any) -> dict[str, Any]:
        return wire(partial(function, api), inputs=inputs, outputs=outputs, silent=True)

    def ranks_of(**values: Any) -> Table:
        answer = api.estimates.estimate(question.ask(values))
        return ranks_table(answer.estimate, answer.basis)

    with gr.Tabs(elem_id="sections", overflow_behavior="wrap"):
        with tab("All ranks", "ranks") as ranks_tab:
            heads = (f'<th scope="col" class="{"" if i else "rv-left"}">{h}</th>' for i, h in enumerate(RANK_HEADERS))
            ranks = html.markup("ranks").format(headers="".join(heads))
            scripted(ranks, "RankVizExplore.ranks(element)", elem_id="ranks")
            widgets.table_download(api, ranks_of, inputs, label="all ranks", elem_id="ranks-download")
            with gr.Accordion("Modules", open=False, elem_id="module-fold") as fold:
                modules = chart("Adapter parameters by module and block", height=SECTION_HEIGHT, elem_id="module-map")
        with tab("Compare", "compare"):
            widgets.panels("RankVizPresent.compare(element)", elem_id="compare")
        with tab("Fit and memory", "fit") as fit_tab:
            decided = pickable(elem_id="decisions")
            apply = of_click(lambda change: put(sections.applied(change), inputs))
            # Asks once more when all widgets are set: the first that changes asks before the others are.
            decided.select(apply, None, list(inputs.values()), **CLICKED).then(**asking)
            memory = chart("Memory by component and rank, estimated", height=SECTION_HEIGHT, elem_id="memory")
            rests_on = plain(elem_id="rests-on")
        with tab("Studies", "studies") as studies_tab:
            published = sections.build_studies(api, inputs)
        with tab("Measure here", "probe") as probe_tab:
            probing = sections.build_probe(api, inputs)
        with tab("Export and serving", "export") as export_tab:
            colab = copyable(elem_id="colab")
            with gr.Row(elem_classes="rv-bar"):
                w["take"].render()
            code, served = copyable(elem_id="script"), copyable(elem_id="serving")
            exporting = view(takeaway, colab=colab, code=code, served=served)
    for section, drawing in (
        (ranks_tab, view(modules_picture, chart=modules)),
        (fit_tab, view(fit_section, decisions=decided, chart=memory, words=rests_on)),
        (studies_tab, published),
        (probe_tab, probing),
        (export_tab, exporting),
    ):
        is_open = "document.querySelector('#module-map')?.offsetParent && " if section is ranks_tab else ""
        redraw = hidden(f"RankVizExplore.section({section.label!r}, () => {is_open}trigger('submit'))")
        gr.on([fold.expand if section is ranks_tab else section.select, redraw.submit], **drawing)
    w["take"].change(**exporting)


def model_choices(api: Api) -> list[tuple[str, str]]:
    """Return label and id of each released model; other names can be typed, as a list of all 583 slows every event."""

    rows = [row for row in api.models.all() if "hypothetical" not in row.id]
    towers = ["" if row.tower == "text" else f", {row.tower}" for row in rows]
    sizes = [units.count(row.total_parameters) for row in rows]
    return [(f"{row.id} · {size}{tower}", row.id) for row, size, tower in zip(rows, sizes, towers, strict=True)]


def fitted(api: Api, *, is_new: bool = False, **values: Any) -> View:
    """Return updates of the widgets that depend on the model: modules with the targeted ones ticked, experts, and
    under Unsloth the trained parts of a whole multimodal model, whose class is always FastVisionModel. is_new: True
    changes targets and framework too, where this model cannot be trained with the chosen ones."""
    spec, suited = api.models.get(values["model"] or ""), {}
    if is_new and values["preset"] != CUSTOM:
        chosen = LoraConfig(target_modules=values["preset"], unsloth_class=values["unsloth_class"])
        if not api.models.preset_names(spec, chosen, TrainingSetup(framework=values["framework"])):
            suited = suitable(api, values)
            values |= suited
    unsloth = values["framework"] == "unsloth"
    has_towers = unsloth and offers_text_only(spec)
    text_only = values["text_only"] and has_towers
    has_parts = unsloth and spec.tower == "whole model" and not text_only
    own_class, sees = unsloth and not has_parts, spec.image_processor is not None and not text_only
    # What is hidden must not count.
    parts = values["parts"] if has_parts and values["parts"] is not None else DEFAULTS["parts"]
    unsloth_class = (values if own_class else DEFAULTS)["unsloth_class"]
    targeting = {"target_modules": values["preset"], "unsloth_class": unsloth_class, "text_only": text_only}
    training = TrainingSetup(framework=values["framework"], precision=values["precision"])
    wanted = (*(values["modules"] or ()), *names_in(values["names"]))
    if values["preset"] != CUSTOM:
        wanted = api.models.preset_names(spec, LoraConfig(**targeting, **flags_of(parts)), training)
    counts = module_counts(spec)
    ticked = [name for name in counts if name in wanted]  # experts are parameters, not modules
    expert_rank = values["expert_rank"] if spec.has_experts else "r"
    return View(
        **suited,
        modules=gr.CheckboxGroup([(f"{name} × {n}", name) for name, n in counts.items()], value=ticked),
        moe=gr.Dropdown(visible=spec.has_experts),
        expert_rank=gr.Dropdown(value=expert_rank, visible=spec.has_experts),
        parts=gr.CheckboxGroup(PARTS, value=parts, visible=has_parts),
        unsloth_class=gr.Dropdown(list(UNSLOTH_CLASSES), value=unsloth_class, visible=own_class),
        text_only=gr.Checkbox(text_only, visible=has_towers),
        images=gr.Number(values["images"] if sees else None, visible=sees),
        image_size=gr.Textbox(values["image_size"] if sees else "", visible=sees),
    )


def uploaded(api: Api, *, file: str) -> View:
    """Return a model dropdown in which the model of an uploaded config.json is selected."""
    spec = api.models.get(file)
    choices = [*model_choices(api), (f"{spec.name} (your config.json)", file)]
    return View(model=gr.Dropdown(choices=choices, value=file))


def fit_section(api: Api, **values: Any) -> View:
    """Return what fits, the figure of memory by component at each rank, what it rests on, and the estimate's notes."""
    answer = api.estimates.estimate(question.ask(values))
    estimate, words = answer.estimate, in_words(answer.basis)
    drawing = memory_figure(estimate, chosen_r=values["r"], height=SECTION_HEIGHT)
    basis = f"{drawing.source} Framework: {FRAMEWORKS[estimate.question.training.framework]}. {words}"
    notes = html.titled("Notes", html.bullet_list(estimate.notes)) if estimate.notes else ""
    return View(
        decisions=sections.decisions(api, **values).decisions,
        chart=chart_value(drawing, file="memory", source=basis),
        words=html.paragraphs(words) + notes,
    )


def modules_picture(api: Api, **values: Any) -> View:
    """Return the figure of adapter parameters by module and block, at the chosen rank."""
    plan = api.estimates.estimate(question.ask(values)).estimate.plan
    return View(chart=chart_value(parameters_figure(plan, values["r"], height=SECTION_HEIGHT), file="modules"))


def takeaway(api: Api, **values: Any) -> View:
    """Return a notebook for Colab and the chosen file, with the recommended learning rate, and serving. A file that
    cannot express the settings is replaced by the reason, shown once."""
    chosen = question.ask(values)
    chosen.validate()  # what is wrong there is said above, once

    def boxes(form: str, *about: str, title: str = "", tools: str = "") -> str:
        try:
            written = api.advice.export(chosen, values["r"], form, goal=goal_of(values))
        except RankVizError as error:
            return notice_html(str(error), kind="error")
        return written_html(written, *about, title=title, tools=tools)

    how = f"Download the notebook and open Colab. {OPEN_IN_COLAB}"
    colab, code = boxes("colab", how, title="Google Colab", tools=OPEN_COLAB), boxes(values["take"])
    served = ""
    with suppress(RankVizError):
        served = sections.serving(api, **values).served
    return View(colab=colab, code="" if code == colab else code, served=served)
