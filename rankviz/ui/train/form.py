"""Builds the left column of Train (base model, data, settings), and reads its widgets into a request."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.core.lora.config import UNSLOTH_CLASSES, LoraConfig
from rankviz.core.lora.targets import names_in
from rankviz.core.preflight.checks import problems, warnings
from rankviz.core.runs.request import (
    FAST_RANKS,
    QUICK_RANKS,
    SHORT_TRAINING,
    SWEEP_RANKS,
    VERDICT_SEEDS,
    SweepRequest,
    fast_ranks,
    quick_look,
)
from rankviz.errors import InvalidSettingError, RankVizError
from rankviz.ui.parts import html
from rankviz.ui.parts.controls import STOPS, busy_line, plain
from rankviz.ui.parts.html import Cell, Row
from rankviz.ui.parts.question import CUSTOM, DEFAULT_PARTS, PARTS, TARGETS, flags_of
from rankviz.ui.wiring import notice_html
from rankviz.units import memory_span

OWN_FILE = "own"
BASES = [("SmolLM2-135M-Instruct (embedded)", "embedded")]
ALPHA_RULES = [("Fixed", "fixed"), ("α = r", "r"), ("α = 2r", "2r")]
PRECISIONS = [
    ("Automatic: NF4 on a GPU, fp32 on a CPU", "auto"),
    ("NF4, double quantization", "nf4-dq"),
    ("NF4", "nf4"),
    ("bf16", "bf16"),
    ("fp16", "fp16"),
    ("fp32", "fp32"),
]
OPTIMS = [("Automatic", "auto"), "adamw_8bit", "adamw_torch", "paged_adamw_8bit", "sgd"]
WHY_FIXED_ALPHA = (
    "Why fixed: with α = r and one learning rate, a short sweep measures the step size more than the rank. For your "
    "final adapter, use α = r or 2r and tune the learning rate."
)
WHAT_EXACT_MATCH_IS = (
    "Exact match: each evaluated adapter answers so many held-out prompts greedily. An answer counts if it is the "
    "reference. The estimated time includes this."
)
MODES = [
    ("Quick look: two runs", "quick"),
    ("Fast curve: one run, all ranks", "fast"),
    ("Sweep: runs at each rank", "sweep"),
    ("Single run", "single"),
]
MODE_RANKS = {"quick": QUICK_RANKS, "fast": FAST_RANKS, "sweep": SWEEP_RANKS, "single": (16,)}
MODE_NOTES = {
    "quick": "Trains a low and a high rank on the same data in the same order, and truncates the adapter of the high "
    "rank to every lower rank. The loss of runs at the ranks between is forecast, with a band. It costs two runs and "
    "the truncations: the estimated time below includes them. Both runs have the same alpha and one seed.",
    "fast": "Trains the highest rank once and truncates its adapter to the lower ranks. This shows quickly how much "
    "rank the learned update needs. It does not show what a run at a lower rank would learn: independent runs do.",
    "sweep": "Trains each rank with every learning rate and seed, on the same data in the same order. A verdict needs "
    "the noise between seeds: use three or more.",
    "single": "Trains one rank with one learning rate and one seed.",
}
FIRST_MODE = MODES[0][1]
ABOUT_UNSLOTH = (
    "Class and parts matter on a GPU: they decide which modules the target names reach. Without a GPU, Unsloth has one "
    "class and trains all that the target modules name."
)
DEFAULTS = SweepRequest()
NAMES = (
    "base", "data", "file", "mode", "ranks", "other_ranks", "independent", "alpha_rule", "alpha_fixed",
    "learning_rates", "seeds", "max_steps", "preset", "names", "use_rslora", "use_dora", "batch", "accumulation",
    "max_length", "held_out", "exact_match", "precision", "optim", "unsloth_class", "parts",
)  # fmt: skip
"""The widgets whose values make a request."""


def form_widgets(samples: list[tuple[str, str]]) -> dict[str, Any]:
    """Build the column; widgets by name."""
    w: dict[str, Any] = {}
    w["base"] = gr.Dropdown(
        BASES,
        value=DEFAULTS.base,
        label="Base model",
        info="Embedded model, or enter a Hub id or a folder",
        allow_custom_value=True,
        interactive=True,
        elem_classes="rv-search",
        elem_id="train-base",
    )
    busy_line("base-busy")
    w["data"] = gr.Radio([*samples, ("Own file", OWN_FILE)], value=DEFAULTS.data, label="Data", elem_id="train-data")
    w["file"] = gr.File(
        label="JSONL, CSV or Parquet: text, instruction/output, prompt/completion or messages",
        file_types=[".jsonl", ".json", ".csv", ".parquet"],
        visible=False,
        height=110,
        elem_id="train-file",
    )
    w["preview"] = plain(elem_id="train-preview")
    w["mode"] = gr.Radio(MODES, value=FIRST_MODE, label="Mode", elem_id="train-mode")
    w["mode_note"] = plain(html.paragraphs(MODE_NOTES[FIRST_MODE]))
    w["ranks"] = gr.CheckboxGroup(
        [str(r) for r in STOPS],
        value=[str(r) for r in MODE_RANKS[FIRST_MODE]],
        label=_ranks_label(FIRST_MODE),
        elem_id="train-ranks",
    )
    with gr.Row(elem_classes="rv-pair"):
        w["other_ranks"] = gr.Textbox("", label="Other ranks", placeholder="24, 512", max_lines=1, min_width=100)
        w["independent"] = gr.Textbox(
            "",
            label="Independent runs at",
            placeholder="2",
            max_lines=1,
            min_width=100,
            visible=FIRST_MODE == "fast",
            elem_id="train-independent",
        )
    with gr.Row(elem_classes="rv-pair"):
        w["alpha_rule"] = gr.Radio(ALPHA_RULES, value="fixed", label="Alpha", scale=3, min_width=180)
        w["alpha_fixed"] = gr.Number(float(DEFAULTS.alpha), label="Fixed alpha", scale=1, min_width=70)
    plain(f'<div class="rv-caption"><p>{WHY_FIXED_ALPHA}</p></div>')
    with gr.Row(elem_classes="rv-pair"):
        w["learning_rates"] = gr.Textbox("1e-3", label="Learning rates", max_lines=1, min_width=100)
        w["seeds"] = _whole("Seeds", 1, visible=FIRST_MODE != "quick")
        w["max_steps"] = _whole("Steps per run", SHORT_TRAINING.max_steps)
    with gr.Accordion("Targets, batch and precision", open=False):
        w["preset"] = gr.Dropdown(TARGETS, value=DEFAULTS.lora.target_modules, label="Target modules", interactive=True)
        w["names"] = gr.Textbox("", label="Other module names", placeholder="q_proj, v_proj", max_lines=1)
        with gr.Row(elem_classes="rv-pair"):
            w["use_rslora"] = gr.Checkbox(False, label="rsLoRA", min_width=100)
            w["use_dora"] = gr.Checkbox(False, label="DoRA", min_width=100)
        with gr.Row(elem_classes="rv-pair"):
            w["batch"] = _whole("Batch", SHORT_TRAINING.per_device_train_batch_size)
            w["accumulation"] = _whole("Accumulation", SHORT_TRAINING.gradient_accumulation_steps)
        with gr.Row(elem_classes="rv-pair"):
            w["max_length"] = _whole("Max length (tokens)", SHORT_TRAINING.max_length)
            w["held_out"] = _whole("Held-out examples", DEFAULTS.held_out_examples)
            w["exact_match"] = _whole("Exact match on (0: off)", DEFAULTS.exact_match_examples)
        plain(f'<div class="rv-caption"><p>{WHAT_EXACT_MATCH_IS}</p></div>')
        w["precision"] = gr.Dropdown(
            PRECISIONS, value=SHORT_TRAINING.precision, label="Base model precision", interactive=True
        )
        w["optim"] = gr.Dropdown(OPTIMS, value=SHORT_TRAINING.optim, label="Optimizer", interactive=True)
    with gr.Accordion("Unsloth", open=False):
        w["unsloth_class"] = gr.Dropdown(
            list(UNSLOTH_CLASSES), value=DEFAULTS.lora.unsloth_class, label="Unsloth class", interactive=True
        )
        w["parts"] = gr.CheckboxGroup(
            PARTS,
            value=DEFAULT_PARTS[DEFAULTS.lora.unsloth_class],
            label="Trained parts (Unsloth's finetune_ flags)",
        )
        plain(html.paragraphs(ABOUT_UNSLOTH))
    return w


def _whole(label: str, value: int, *, visible: bool = True) -> gr.Number:
    """Without a minimum: Gradio would refuse the event without a word where the core says what to change."""
    return gr.Number(value, label=label, precision=0, step=1, min_width=80, visible=visible)


def _ranks_label(mode: str) -> str:
    return "Ranks to train: two" if mode == "quick" else "Ranks"


class Mode(NamedTuple):
    """What a choice of mode sets."""

    ranks: Any
    independent: Any
    seeds: gr.Number
    mode_note: str


def mode_chosen(mode: str) -> Mode:
    """Ranks and seeds that suit the mode; both can be changed, except that a quick look has one seed."""
    return Mode(
        ranks=gr.CheckboxGroup(value=[str(r) for r in MODE_RANKS[mode]], label=_ranks_label(mode)),
        independent=gr.Textbox(visible=mode == "fast"),
        seeds=gr.Number(VERDICT_SEEDS if mode == "sweep" else 1, visible=mode != "quick"),
        mode_note=html.paragraphs(MODE_NOTES[mode]),
    )


def data_of(values: Mapping[str, Any]) -> str:
    """The sample's id or the uploaded file's path; empty as long as nothing was uploaded."""
    return (values["file"] or "") if values["data"] == OWN_FILE else values["data"]


def request_of(values: Mapping[str, Any]) -> SweepRequest:
    """The widgets' values as a request; the core checks what it says."""
    data = data_of(values)
    if not data:
        raise InvalidSettingError("Upload a file with your data, or choose one of the samples.")
    fixed = values["alpha_rule"] == "fixed"
    ranks, cut_ranks = _ranks_of(values)
    request = SweepRequest(
        base=(values["base"] or "").strip(),
        data=data,
        ranks=ranks,
        cut_ranks=cut_ranks,
        alpha=f"{values['alpha_fixed']:g}" if fixed and values["alpha_fixed"] is not None else values["alpha_rule"],
        learning_rates=numbers(values["learning_rates"], float, "Learning rates", "1e-3, 3e-4"),
        seeds=tuple(range(values["seeds"] or 0)),
        held_out_examples=values["held_out"],
        exact_match_examples=values["exact_match"],
        lora=LoraConfig(
            target_modules=values["preset"] if values["preset"] != CUSTOM else names_in(values["names"]),
            use_rslora=bool(values["use_rslora"]),
            use_dora=bool(values["use_dora"]),
            unsloth_class=values["unsloth_class"],
            **flags_of(values["parts"], values["unsloth_class"]),
        ),
        training=replace(
            SHORT_TRAINING,
            max_steps=values["max_steps"],
            per_device_train_batch_size=values["batch"],
            gradient_accumulation_steps=values["accumulation"],
            max_length=values["max_length"],
            precision=values["precision"],
            optim=values["optim"],
        ),
    )
    return quick_look(request, ranks) if values["mode"] == "quick" else request


def _ranks_of(values: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(ranks to train, ranks to cut the highest to)."""
    mode = values["mode"]
    ticked = {int(r) for r in values["ranks"] or ()} | set(numbers(values["other_ranks"], int, "Ranks", "24, 512"))
    ranks = tuple(sorted(ticked))
    if mode == "single" and len(ranks) > 1:
        raise InvalidSettingError(f"A single run takes one rank (got {len(ranks)}): clear the others, or choose Sweep.")
    if mode != "fast":
        return ranks, ()
    return fast_ranks(ranks, numbers(values["independent"], int, "Independent runs", "2, 8"))


def preview_html(api: Api, values: Mapping[str, Any]) -> str:
    """The first three examples of the data, with counts; or which row is wrong."""
    data = data_of(values)
    if not data:
        return html.paragraphs("Upload a file to see its first examples.")
    try:
        preview = api.runs.preview(data)
    except RankVizError as error:
        return notice_html(str(error), kind="error")
    rows = [
        Row(cells=[Cell(prompt, kind="wrap"), Cell(completion, kind="wrap")]) for prompt, completion in preview.examples
    ]
    lengths = f"{preview.mean_characters:.0f} characters on average, {preview.longest_characters:,} at most"
    about = f"{preview.title}: {units.counted(preview.rows, 'example')}, {lengths}."
    return html.paragraphs(about) + html.table(
        ["Prompt", "Completion (trained on)"], rows, label="First examples", left=2
    )


def expected_html(api: Api, values: Mapping[str, Any]) -> str:
    """Estimated memory and time, before the button."""
    request = request_of(values)
    expected = api.runs.expected(request)
    rows = [
        Row(
            cells=[
                f"r = {r}",
                Cell(f"{run.adapter_parameters:,}"),
                Cell(units.file_size(run.adapter_bytes), title=f"{run.adapter_bytes:,} bytes"),
                memory_span(run.memory_bytes),
            ]
        )
        for r, run in expected.ranks.items()
    ]
    return (
        machine_html(api, request)
        + html.paragraphs(*expected.sentences)
        + html.table(["Rank", "Parameters", "Adapter", "Memory"], rows, label="Estimate for each rank")
    )


def machine_html(api: Api, request: SweepRequest) -> str:
    """What on this machine stands in the way of this training; nothing where it is ready."""
    found = api.preflight.before(request.training, request.base)
    stop, note = ([check.sentence for check in some] for some in (problems(found), warnings(found)))
    return notice_html(*stop, kind="error") + notice_html(*note)


def numbers(text: str | None, kind: Callable[[str], Any], what: str, example: str) -> tuple[Any, ...]:
    """ "1e-3, 3e-4" as numbers."""
    try:
        return tuple(kind(part) for part in (text or "").replace(";", ",").split(",") if part.strip())
    except ValueError:
        raise InvalidSettingError(
            f"{what} must be numbers separated by commas, such as {example} (got {text!r})."
        ) from None
