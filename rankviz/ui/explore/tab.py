"""The Explore tab has the settings on the left and the estimate on the right."""

from functools import partial
from typing import Any, NamedTuple

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.lora.config import UNSLOTH_CLASSES, LoraConfig
from rankviz.core.model.spec import WHOLE
from rankviz.core.model.towers import offers_text_only
from rankviz.core.runs.request import QUICK_RANKS, RATE_RANKS
from rankviz.core.studies.lines import RL
from rankviz.ui.explore import export as takeaway
from rankviz.ui.explore import frame, sections
from rankviz.ui.explore.routes import UNBROKEN
from rankviz.ui.explore.start import suitable
from rankviz.ui.parts import question
from rankviz.ui.parts.controls import busy, done, plain, slot
from rankviz.ui.parts.question import CUSTOM
from rankviz.ui.wiring import on_any, quiet, wire

MEASURE = {
    "rate": f"Rate first: {UNBROKEN}{RATE_RANKS[0]} at two learning rates",
    "quick": f"Quick look: {' and '.join(f'{UNBROKEN}{r}' for r in QUICK_RANKS)}, one repeat",
}
MEASURE_LOOKS = {"rate": {"elem_id": "measure-rate"}, "quick": {"elem_id": "measure", "variant": "primary"}}
"""Buttons that fill the form of Train, by the mode that they choose. The learning rate matters more than the rank."""
REFITS = ("preset", "framework", "unsloth_class", "precision")
"""Widgets that decide, with the model, which modules there are to tick."""
TYPED = ("modules", "parts", "length", *question.NAMES)
"""Only a person changes these; an empty number box reports a change whenever the page loads."""


class Exploring(NamedTuple):
    """What the rest of the page needs of this tab."""

    question: dict[str, Any]
    """The question's widgets, by the names of question.DEFAULTS."""
    fit: dict[str, Any]
    """The event that makes widgets follow the model, after they were set from elsewhere."""
    restored: dict[str, Any]
    """The event after it: from here on a change of a widget is a question."""
    curve: gr.HTML
    measure: dict[str, gr.Button]
    """By mode. None can be pressed before the page is restored: the widgets have other values until then."""
    data_file: gr.UploadButton


def build(api: Api) -> Exploring:
    with gr.Row(elem_classes="rv-split"):
        with gr.Column(elem_classes="rv-question rv-sticky"):
            w = question.question_widgets(model_choices(api), list(api.workspace.gpus))
        with gr.Column(elem_classes="rv-answer"):
            slot("notice")
            notice = plain(elem_id="notice")
            frame.figures()
            with gr.Row(elem_classes="rv-hero-row"):
                with gr.Column(scale=1, min_width=300):
                    curve = frame.hero()
                with gr.Column(scale=0, min_width=300, elem_classes="rv-beside"):
                    slot("advice")
                    measure = {
                        mode: gr.Button(words, size="md", interactive=False, **MEASURE_LOOKS[mode])
                        for mode, words in MEASURE.items()
                    }
                    slot("measure-note")
                    frame.tools()
            w["take"] = takeaway.choice()
            inputs = {name: w[name] for name in question.DEFAULTS}
            asking = _in_browser("asked", list(inputs.values()))
            sections.build(api, w, inputs, asking)

    fitting, following = (
        wire(
            partial(view, api),
            inputs={name: w[name] for name in FITTED_BY},
            outputs={name: w[name] for name in Fitted._fields},
            silent=True,
        )
        for view in (fitted, followed)
    )
    changes = [w[name].change for name in inputs if name not in ("r", *TYPED)] + [w[name].input for name in TYPED]
    gr.on(changes, **asking)
    w["use_case"].change(main_measure, w["use_case"], measure["quick"], **quiet())
    w["model"].change(**following).then(**asking)
    on_any(*(w[name].change for name in REFITS), w["parts"].input).then(**fitting).then(**asking)

    w["modules"].input(None, None, w["preset"], js=f"() => '{CUSTOM}'", show_progress="hidden", queue=False)
    w["alpha_rule"].change(
        lambda rule: gr.Number(visible=rule == "fixed"), w["alpha_rule"], w["alpha_fixed"], **quiet()
    )
    measuring = wire(
        partial(question.measured, api),
        inputs={"file": w["data_file"], "epochs": w["epochs"]},
        outputs={name: w[name] for name in question.Measured._fields},
        notice=notice,
    )
    w["data_file"].upload(**measuring).then(**asking)
    w["upload"].upload(**busy("model-busy", "Building the model of this config.json, without weights …"))
    upload = wire(partial(uploaded, api), inputs={"file": w["upload"]}, outputs={"model": w["model"]}, notice=notice)
    w["upload"].upload(**upload).then(**done("model-busy"))
    return Exploring(
        question=inputs,
        fit=fitting,
        restored=_in_browser("restored", list(inputs.values())),
        curve=curve,
        measure=measure,
        data_file=w["data_file"],
    )


def main_measure(use_case: str) -> Any:
    """The quick look is the main button, except where its held-out loss does not tell the reward."""
    return gr.Button(variant="secondary" if use_case == RL else "primary")


def _in_browser(function: str, inputs: list[Any]) -> dict[str, Any]:
    """An event without a server: a function of the page's script gets the question's values, as DEFAULTS has them."""
    script = f"(...values) => {{ RankVizExplore.{function}(values); return []; }}"
    return {"fn": None, "inputs": inputs, "outputs": None, "js": script, "queue": False, "show_progress": "hidden"}


def model_choices(api: Api) -> list[tuple[str, str]]:
    """The rows of the catalogue. Their other names can be typed: a list of all 583 would weigh on every event."""
    rows = {row.id: row for row in api.models.all()}
    return [(model_label(row, rows.get(row.id + WHOLE)), row.id) for row in rows.values()]


def model_label(row: Any, whole: Any = None) -> str:
    """whole: the row of a text tower with all that its checkpoint holds. The framework decides which of them is loaded
    and counted, so both sizes are there."""
    size = units.count(row.total_parameters)
    if whole:
        size = f"{units.count(whole.total_parameters)}, text alone {size}"
    elif row.tower != "text":
        size = f"{size}, {row.tower}"
    return f"{row.id} · {size}" + ("" if row.verified else ", total unverified")


FITTED_BY = (
    "model",
    "preset",
    "modules",
    "names",
    "framework",
    "precision",
    "unsloth_class",
    "text_only",
    "parts",
    "expert_rank",
)


class Fitted(NamedTuple):
    modules: Any
    moe_scheme: Any
    expert_rank: Any
    parts: Any
    unsloth_class: Any
    text_only: Any
    preset: Any = gr.skip()
    framework: Any = gr.skip()


def followed(api: Api, **values: Any) -> Fitted:
    """The same after another model was chosen: with targets and a framework that it can be trained with, where the
    chosen ones cannot train it."""
    model = api.models.get(values["model"] or "")
    chosen = LoraConfig(target_modules=values["preset"], unsloth_class=values["unsloth_class"])
    training = TrainingSetup(framework=values["framework"])
    if values["preset"] == CUSTOM or api.models.preset_names(model, chosen, training):
        return fitted(api, **values)
    suited = suitable(api, values)
    return fitted(api, **{**values, **suited})._replace(**suited)


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
    text_only: bool = False,
    parts: list[str] | None = None,
    expert_rank: str = "r",
) -> Fitted:
    """The widgets that depend on the model: its modules to tick, with what is targeted ticked, the experts, and under
    Unsloth the trained parts of a whole multimodal model, whose class is always FastVisionModel."""
    spec = api.models.get(model or "")
    unsloth = framework == "unsloth"
    has_towers = unsloth and offers_text_only(spec)
    text_only = text_only and has_towers
    has_parts = unsloth and spec.tower == "whole model" and not text_only
    # What is hidden must not count.
    parts = (question.DEFAULTS["parts"] if parts is None else parts) if has_parts else question.DEFAULTS["parts"]
    own_class = unsloth and not has_parts
    unsloth_class = unsloth_class if own_class else question.DEFAULTS["unsloth_class"]
    choices = api.models.modules(spec)
    own = [choice.name for choice in choices]
    chosen = (*(modules or ()), *question.names_in(names))
    lora = LoraConfig(
        target_modules=preset, unsloth_class=unsloth_class, text_only=text_only, **question.flags_of(parts)
    )
    training = TrainingSetup(framework=framework, precision=precision)
    wanted = chosen if preset == CUSTOM else api.models.preset_names(spec, lora, training)
    ticked = [name for name in own if name in wanted]  # experts are parameters, not modules to tick
    return Fitted(
        modules=gr.CheckboxGroup([(f"{c.name} × {c.count}", c.name) for c in choices], value=ticked),
        moe_scheme=gr.Dropdown(visible=spec.has_experts),
        expert_rank=gr.Dropdown(value=expert_rank if spec.has_experts else "r", visible=spec.has_experts),
        parts=gr.CheckboxGroup(question.PARTS, value=parts, visible=has_parts),
        unsloth_class=gr.Dropdown(list(UNSLOTH_CLASSES), value=unsloth_class, visible=own_class),
        text_only=gr.Checkbox(text_only, visible=has_towers),
    )


class Uploaded(NamedTuple):
    model: Any


def uploaded(api: Api, *, file: str) -> Uploaded:
    """The model of an uploaded config.json becomes the selected one."""
    spec = api.models.get(file)
    choices = [*model_choices(api), (f"{spec.name} (your config.json)", file)]
    return Uploaded(gr.Dropdown(choices=choices, value=file))
