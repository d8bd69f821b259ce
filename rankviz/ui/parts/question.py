"""The left column of settings (model, rank, training, data, GPU), and the question that its values make."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.core.bounds import whole
from rankviz.core.cost.notes import truncation
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import Gpu, TrainingData
from rankviz.core.lora.config import MAX_RANK
from rankviz.dataset import SUFFIXES
from rankviz.options import question_of
from rankviz.ui.link import CHOICES, DEFAULTS, NO_GPU, file_in, file_text, options_of
from rankviz.ui.parts import html
from rankviz.ui.parts.controls import STOPS, box, busy_line, hidden, pair, plain, rank_picker, slot
from rankviz.ui.wiring import View

MORE = """
<button type="button" class="rv-button rv-more" data-more aria-expanded="false">
Use case, targets, GPU, your data</button>
"""
"""Button that unfolds the rest of the question on a phone, where the figures come first."""


def dropdown(name: str, label: str, **more: Any) -> gr.Dropdown:
    """Return a dropdown for a setting of link.DEFAULTS, with its choices and default."""
    return gr.Dropdown(
        **{"choices": CHOICES.get(name), "value": DEFAULTS[name], "interactive": True, **more}, label=label
    )


def expert_rank_picker(*, visible: bool) -> gr.Dropdown:
    """Return a dropdown for the rank of experts (PEFT's rank_pattern): a rule, or a number that the user types."""
    label = "Rank of each expert: choose, or enter a number"
    return dropdown("expert_rank", label, allow_custom_value=True, visible=visible)


def question_widgets(models: list[tuple[str, str]], gpus: list[Gpu]) -> dict[str, Any]:
    """Build the column; return its widgets by the names of link.DEFAULTS, and `upload`, `data_file` and `file_note`.
    Settings that most users change are visible, the others are folded."""
    w: dict[str, Any] = {}

    def number(name: str, label: str, placeholder: str | None = None) -> Any:
        return lambda: box(label, DEFAULTS[name], placeholder=placeholder)

    label = "Base model: search, or enter any Hub id"
    search = {"allow_custom_value": True, "elem_classes": ["rv-search", "rv-any"], "elem_id": "model"}
    w["model"] = dropdown("model", label, choices=models, **search)
    busy_line("model-busy")
    w["r"] = rank_picker(DEFAULTS["r"])
    plain(MORE)
    with gr.Column(elem_classes="rv-rest"):
        w["use_case"] = dropdown("use_case", "Use case")
        w["preset"] = dropdown("preset", "Target modules")
        places = [*((gpu_label(gpu), gpu.id) for gpu in gpus), ("No GPU", NO_GPU)]
        w["gpu"] = dropdown("gpu", "GPU", choices=places, elem_classes="rv-search")
        w["measured_file"] = hidden(value=DEFAULTS["measured_file"])
        plain('<h2 class="rv-hint">Your data</h2>')
        epochs = {"label": "Epochs", "step": 1, "min_width": 120, "placeholder": "1 if empty", "interactive": True}
        pair(
            w,
            examples=number("examples", "Examples", "e.g. 5,000"),
            epochs=lambda: gr.Number(DEFAULTS["epochs"], **epochs),
        )
        pair(
            w,
            example_tokens=number("example_tokens", "Tokens per example", "e.g. 400"),
            longest_tokens=number("longest_tokens", "Longest example", "e.g. 1,600"),
        )
        types = list(SUFFIXES)
        w["data_file"] = gr.UploadButton("Measure a file (JSONL, CSV, Parquet)", file_types=types, size="sm")
        w["file_note"] = plain(elem_id="file-note")
        slot("length-note")
        with gr.Accordion("Modules, alpha, DoRA", open=False):
            w["modules"] = gr.CheckboxGroup([], label="Modules of this model (× copies)", elem_id="modules")
            rules = CHOICES["alpha_rule"]
            pair(
                w,
                alpha_rule=lambda: gr.Radio(rules, value=DEFAULTS["alpha_rule"], label="Alpha", scale=3, min_width=180),
                alpha_fixed=lambda: gr.Number(
                    DEFAULTS["alpha_fixed"], label="Fixed alpha", visible=False, scale=1, min_width=70
                ),
            )
            pair(
                w,
                rslora=lambda: gr.Checkbox(False, label="rsLoRA", min_width=100),
                dora=lambda: gr.Checkbox(False, label="DoRA", min_width=100),
            )
            slot("scale")
            w["forgetting"] = gr.Checkbox(False, label="The base model must keep its abilities")
            w["moe"] = dropdown("moe", "Experts", visible=False)
            w["expert_rank"] = expert_rank_picker(visible=False)
            w["parts"] = parts_picker(visible=False)
            w["names"] = gr.Textbox("", label="Other module names", placeholder="q_proj, experts.gate_up_proj")
            w["modules_to_save"] = gr.Textbox("", label="modules_to_save", placeholder="lm_head, embed_tokens")
            w["upload"] = gr.UploadButton("Upload a config.json", file_types=[".json"], size="sm")
        with gr.Accordion("Training setup and price", open=False):
            w["usd_per_hour"] = gr.Number(None, label="Price, $ per hour", placeholder="Price from the table")
            slot("gpu-note")
            frameworks = CHOICES["framework"]
            w["framework"] = gr.Radio(frameworks, value=DEFAULTS["framework"], label="Framework")
            reach = "FastModel reaches layers outside attention and MLP too"
            w["unsloth_class"] = dropdown("unsloth_class", "Unsloth class", info=reach)
            towers = "Unsloth's text_only: vision and audio towers are not loaded"
            w["text_only"] = gr.Checkbox(False, label="Text model only", info=towers, visible=False)
            w["precision"] = dropdown("precision", "Base model precision")
            pair(w, batch=number("batch", "Batch"), accumulation=number("accumulation", "Accumulation"))
            pair(
                w,
                max_length=number("max_length", "Max length (tokens)"),
                optim=lambda: dropdown("optim", "Optimizer", min_width=120),
            )
            pair(
                w,
                checkpointing=lambda: dropdown("checkpointing", "Checkpointing", min_width=120),
                loss_path=lambda: dropdown("loss_path", "Loss", min_width=120),
            )
            units_of = {"value": DEFAULTS["length_unit"], "label": "Unit", "min_width": 120}
            pair(
                w,
                length=number("length", "Training length", "Epochs of your data"),
                length_unit=lambda: gr.Radio(CHOICES["length_unit"], **units_of),
            )
    return w


def parts_picker(*, visible: bool) -> gr.CheckboxGroup:
    """Return checkboxes for Unsloth's flags of the trained parts."""
    label = "Trained parts (Unsloth's finetune_ flags)"
    return gr.CheckboxGroup(CHOICES["parts"], value=DEFAULTS["parts"], label=label, visible=visible)


def gpu_label(gpu: Gpu) -> str:
    usable = (
        f"{units.memory_size(gpu.usable_bytes)} usable"
        if gpu.usable_bytes
        else f"{gpu.memory_bytes / 1e9:g} GB nominal"
    )
    price = gpu.price
    return f"{gpu.name} · {usable}" + (f" · ${price.usd_per_hour:.2f}/h, {price.provider}" if price else "")


def measured(api: Api, *, file: str, epochs: float | None = None) -> View:
    """Measure an uploaded file; return values of DATA, the remembered file and a note. The length is then in epochs."""
    held = api.data.measure(file)
    data = held.training_data()
    return View(
        examples=data.examples,
        example_tokens=data.mean_tokens,
        longest_tokens=data.longest_tokens,
        epochs=epochs or 1,
        length=None,
        measured_file=file_text(data),
        file_note=html.paragraphs(held.in_words),
    )


def data_of(values: Mapping[str, Any]) -> TrainingData | None:
    """Return the data that the widgets describe; None where all are empty. Steps or tokens have priority over epochs.
    A measured file counts while a number of examples is set."""
    file = TrainingData()
    if values["measured_file"] and values["examples"] is not None:
        file = file_in(values["measured_file"])
    as_measured = file.file_name is not None and file.longest_tokens == values["longest_tokens"]
    data = replace(
        file,
        examples=values["examples"],
        mean_tokens=values["example_tokens"],
        longest_tokens=values["longest_tokens"],
        epochs=values["epochs"] if values["length"] is None else None,
        longest_is_upper=as_measured,
        lengths=file.lengths if as_measured else (),
    )
    return None if data == TrainingData() else data


def length_note(question: Question) -> str:
    """Return a paragraph on the training length that time and cost are for. question: must have a length."""
    training, data = question.training, question.training.data
    steps = f"{units.counted(training.total_steps, 'step')} of {training.rows_per_step} examples"
    if data is None:
        text = f"No data given: time and cost assume {steps} with {training.max_length:,} tokens each."
    elif training.data_steps is None:
        text = f"Time and cost are for {steps}."
    else:
        seen = f"{units.counted(data.examples, 'example')} × {units.counted(data.epochs, 'epoch')}"
        text = f"Time and cost are for {seen}: {steps}."
    if data is not None and data.mean_tokens is None:
        longest = min(training.max_length, data.longest_tokens or training.max_length)
        text += f" Each example counts as {longest:,} tokens, because tokens per example are not given."
    return html.notice_html(truncation(training)) + html.paragraphs(text)


def rank_of(values: Mapping[str, Any]) -> int:
    whole(values["r"], "Rank", 1, MAX_RANK)
    return values["r"]


def ranks_shown(r: int) -> tuple[int, ...]:
    """Return the ranks of a table: the slider's stops, the chosen rank, half of it and twice it."""
    return tuple(sorted({*STOPS, r, max(1, r // 2), min(MAX_RANK, 2 * r)}))


def ask(values: Mapping[str, Any]) -> Question:
    """Return the widgets' values as a question for every rank of ranks_shown. Without a length, it has the assumed
    length, which length_note states. Values arrive from a browser or from anyone's HTTP call, and the core checks
    them. Only the rank is checked here, because ranks_shown uses it."""
    asked = options_of(values) | {"ranks": ranks_shown(rank_of(values))}
    return question_of(asked, data_of(values)).with_assumed_length()[0]
