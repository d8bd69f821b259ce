"""The left column of settings (model, rank, training, data, GPU), and the question that its values make."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import permutations
from typing import Any

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.core.bounds import whole
from rankviz.core.cost.notes import data_cautions
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import Gpu, TrainingData
from rankviz.core.images import ASSUMED_SIZE
from rankviz.core.lora.config import MAX_RANK
from rankviz.dataset import SUFFIXES
from rankviz.dataset.rows import columns_text
from rankviz.errors import RankVizError
from rankviz.options import question_of
from rankviz.ui.link import DEFAULTS, NO_GPU, file_in, file_text, options_of
from rankviz.ui.parts import html
from rankviz.ui.parts.widgets import (
    CHECK,
    CHOICE,
    EXPERT_RANK,
    NUMBER,
    PAIR,
    PARTS_LABEL,
    STOPS,
    busy_line,
    field,
    hidden,
    plain,
    scripted,
    slot,
)
from rankviz.ui.wiring import View

MORE = """
<button type="button" class="rv-button rv-more" data-more aria-expanded="false">
Use case, targets, GPU, your data</button>
"""
"""Button that unfolds the rest of the question on a phone, where the figures come first."""
OFFERED = 8
"""Most columns of a file of which all pairs are offered."""
COLUMN_LOOKS = {"visible": False, "allow_custom_value": True, "elem_classes": "rv-search"}
COLUMNS = partial(CHOICE, [], value="", label="Columns: question → answer", **COLUMN_LOOKS)
"""Choice of a file's columns, which is shown where their names do not tell what they hold."""


def question_widgets(models: list[tuple[str, str]], gpus: list[Gpu]) -> dict[str, Any]:
    """Build the column; return its widgets by the names of link.DEFAULTS, and `upload`, `data_file`, `columns`
    and `file_note`.
    Settings that most users change are visible, the others are folded."""
    w: dict[str, Any] = {}
    add = partial(field, w, DEFAULTS)
    search = {"allow_custom_value": True, "elem_classes": ["rv-search", "rv-any"], "elem_id": "model"}
    add(CHOICE, "model", "Base model or Hub id", choices=models, **search)
    slot("model-note")
    busy_line("model-busy")
    # One widget for the rank: a slider with stops at powers of two, and a number box for any rank. Two Gradio widgets
    # that set each other would need a round trip and could loop.
    stops = "".join(f'<button type="button" data-r="{r}" tabindex="-1">{r}</button>' for r in STOPS)
    script = "RankViz.rank(element, props, trigger, watch)"
    w["r"] = scripted(html.markup("rank").format(stops=stops), script, elem_id="rank", value=DEFAULTS["r"])
    plain(MORE)
    with gr.Column(elem_classes="rv-rest"):
        add(CHOICE, "use_case", "Use case")
        add(CHOICE, "preset", "Target modules")
        places = [*((gpu_label(gpu), gpu.id) for gpu in gpus), ("No GPU", NO_GPU)]
        add(CHOICE, "gpu", "GPU", choices=places, elem_classes="rv-search")
        w["measured_file"] = hidden(value=DEFAULTS["measured_file"])
        plain('<h2 class="rv-hint">Your data</h2>')
        with gr.Row(**PAIR):
            add(NUMBER, "examples", "Examples", placeholder="e.g. 5,000")
            looks = {"step": 1, "min_width": 120, "placeholder": "1 if empty", "interactive": True}
            add(gr.Number, "epochs", "Epochs", **looks)
        with gr.Row(**PAIR):
            add(NUMBER, "example_tokens", "Tokens per example", placeholder="e.g. 400")
            add(NUMBER, "longest_tokens", "Longest example", placeholder="e.g. 1,600")
        add(NUMBER, "images", "Images per example", placeholder="e.g. 1", visible=False)
        add(gr.Textbox, "image_size", "Image size (pixels)", placeholder=ASSUMED_SIZE, max_lines=1, visible=False)
        types = list(SUFFIXES)
        w["data_file"] = gr.UploadButton("Read lengths from a file", file_types=types, size="sm")
        w["file_note"] = plain(elem_id="file-note")
        w["columns"] = COLUMNS()
        slot("length-note")
        with gr.Accordion("Modules, alpha, DoRA", open=False):
            w["modules"] = gr.CheckboxGroup([], label="Modules of this model (× copies)", elem_id="modules")
            with gr.Row(**PAIR):
                add(gr.Radio, "alpha_rule", "Alpha", scale=3, min_width=180)
                add(gr.Number, "alpha_fixed", "Fixed alpha", visible=False, scale=1, min_width=70)
            with gr.Row(**PAIR):
                add(CHECK, "rslora", "rsLoRA")
                add(CHECK, "dora", "DoRA")
            slot("scale")
            add(gr.Checkbox, "forgetting", "Must not forget (prefers lower ranks)")
            add(CHOICE, "moe", "Experts", visible=False)
            add(CHOICE, "expert_rank", **EXPERT_RANK, visible=False)
            add(gr.CheckboxGroup, "parts", PARTS_LABEL, visible=False)
            add(gr.Textbox, "names", "Other module names", placeholder="q_proj, experts.gate_up_proj")
            add(gr.Textbox, "modules_to_save", "modules_to_save", placeholder="lm_head, embed_tokens")
            w["upload"] = gr.UploadButton("Upload a config.json", file_types=[".json"], size="sm")
        with gr.Accordion("Training setup and price", open=False):
            add(gr.Number, "usd_per_hour", "Price, $ per hour", placeholder="Price from the table")
            slot("gpu-note")
            add(gr.Radio, "framework", "Framework")
            add(CHOICE, "unsloth_class", "Unsloth class", info="FastModel reaches layers outside attention and MLP too")
            towers = "Unsloth's text_only: vision and audio towers are not loaded"
            add(gr.Checkbox, "text_only", "Text model only", info=towers, visible=False)
            add(CHOICE, "precision", "Base model precision")
            with gr.Row(**PAIR):
                add(NUMBER, "batch", "Batch")
                add(NUMBER, "accumulation", "Accumulation")
            with gr.Row(**PAIR):
                add(NUMBER, "max_length", "Max length (tokens)")
                add(CHOICE, "optim", "Optimizer", min_width=120)
            with gr.Row(**PAIR):
                add(CHOICE, "checkpointing", "Checkpointing", min_width=120)
                add(CHOICE, "loss_path", "Loss", min_width=120)
            with gr.Row(**PAIR):
                add(NUMBER, "length", "Training length", placeholder="Epochs of your data")
                add(gr.Radio, "length_unit", "Unit", min_width=120)
    return w


def gpu_label(gpu: Gpu) -> str:
    """Return the name of a GPU with its nominal memory, which is known of all, and its price."""
    price, size = gpu.price, "MLX" if gpu.is_mac else f"{gpu.memory_bytes / units.GB:g} GB"
    return f"{gpu.name} · {size}" + (f" · ${price.usd_per_hour:.2f}/h, {price.provider}" if price else "")


def choice_after(columns: str) -> Any:
    """Return the update of COLUMNS after a file was read: chosen columns stay, without them it is hidden."""
    return gr.skip() if columns else gr.Dropdown(value="", visible=False, allow_custom_value=True)


def unread(error: RankVizError, place: str) -> View:
    """Return the error of a file in the place next to its button; of unknown columns also their choice, as pairs."""
    shown = View(**{place: html.notice_html(str(error), kind="error")})
    if columns := getattr(error, "columns", ()):
        pairs = permutations(columns[:OFFERED], 2)
        choices = [
            (" → ".join(pair), columns_text(dict(zip(("instruction", "output"), pair, strict=True)))) for pair in pairs
        ]
        shown.columns = gr.Dropdown(choices, value="", visible=bool(choices), allow_custom_value=True)
    return shown


def measured(
    api: Api, *, file: str | None, epochs: float | None = None, columns: str = "", measured_file: str = ""
) -> View:
    """Measure an uploaded file; return values of DATA, the remembered file and a note. The length is then in epochs.
    An error stands in the note, next to the button. columns: Those that were chosen. measured_file: The file before,
    whose numbers stay shown with an error."""
    try:
        held = api.data.measure(file or "", columns)
    except RankVizError as error:
        view = unread(error, "file_note")
        if measured_file:
            view.file_note += html.paragraphs(f"Shown: {file_in(measured_file).file_name}, as before.")
        return view
    data = held.training
    return View(
        examples=data.examples,
        example_tokens=data.mean_tokens,
        longest_tokens=data.longest_tokens,
        epochs=epochs or 1,
        length=None,
        measured_file=file_text(data),
        columns=choice_after(columns),
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
        num_train_epochs=values["epochs"] if values["length"] is None else None,
        longest_is_upper=as_measured,
        lengths=file.lengths if as_measured else (),
    )
    return None if data == TrainingData() else data


def length_note(question: Question) -> str:
    """Return a paragraph on the training length that time and cost are for. question: must have a length."""
    training, data = question.training, question.training.data
    steps = f"{units.counted(training.total_steps, 'step')} of {training.rows_per_step} examples"
    if data is None:
        text = f"Without data: {steps} with {training.max_length:,} tokens."
    elif training.data_steps is None:
        text = f"Time and cost are for {steps}."
    else:
        seen = f"{units.counted(data.examples, 'example')} × {units.counted(data.num_train_epochs, 'epoch')}"
        text = f"Time and cost are for {seen}: {steps}."
    if data is not None and data.mean_tokens is None:
        longest = min(training.max_length, data.longest_tokens or training.max_length)
        text += f" Each example counts as {longest:,} tokens, because tokens per example are not given."
    return html.notice_html(*data_cautions(training)) + html.paragraphs(text)


def rank_of(values: Mapping[str, Any]) -> int:
    whole(values["r"], "Rank", 1, MAX_RANK)
    return values["r"]


def ask(values: Mapping[str, Any]) -> Question:
    """Return the widgets' values as a question for the slider's stops, the chosen rank, half of it and twice it.
    Without a length, it has the assumed length, which length_note states. Values arrive from a browser or from anyone's
    HTTP call, and the core checks them. Only the rank is checked here, because other ranks are computed from it."""
    r = rank_of(values)
    ranks = tuple(sorted({*STOPS, r, max(1, r // 2), min(MAX_RANK, 2 * r)}))
    return question_of(options_of(values) | {"ranks": ranks}, data_of(values)).with_assumed_length()[0]
