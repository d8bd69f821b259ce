"""Builds the left column of Train: base model, data and settings. Reading them is in request.py."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import gradio as gr

from rankviz.core.lora.config import UNSLOTH_CLASSES
from rankviz.core.runs.request import usual_seeds
from rankviz.core.runs.words import data_name
from rankviz.dataset import SUFFIXES
from rankviz.ui.parts import html
from rankviz.ui.parts.controls import STOPS, busy_line, plain
from rankviz.ui.parts.question import PARTS, TARGETS, expert_rank_picker
from rankviz.ui.train.request import DEFAULTS, FORM_RANKS, KEPT_FILE, OWN_FILE

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
    ("Quick look: two ranks and a repeat", "quick"),
    ("Rate first: one rank, two learning rates", "rate"),
    ("Fast curve: one run, all ranks", "fast"),
    ("Sweep: runs at each rank", "sweep"),
    ("Single run", "single"),
]
MODE_NOTES = {
    "quick": "Trains a low and a high rank on the same data, and forecasts the loss of the ranks between. A repeat of "
    "the low rank, with another seed, measures the noise of a run: without it there is no band.",
    "rate": "Trains one rank at the given learning rate and at three times as much: what the rate is worth, before you "
    "ask for the rank.",
    "fast": "Trains the highest rank once and truncates its adapter to the lower ranks. A run at a lower rank may "
    "learn something else.",
    "sweep": "Trains each rank with every learning rate and seed. A verdict needs three or more seeds.",
    "single": "Trains one rank with one learning rate and one seed.",
}
ABOUT_UNSLOTH = (
    "Class and parts matter on a GPU: they decide which modules the target names reach. Without a GPU, Unsloth has one "
    "class and trains all that the target modules name."
)
NOTED = ("base", "data", "ranks", "alpha", "numbers")
"""The fields with a line under them for what is wrong there."""


def form_widgets(samples: list[tuple[str, str]], *, shared: bool = False) -> dict[str, Any]:
    """Build the column; widgets by the names of DEFAULTS, and what belongs to them. shared: where no folder is read."""
    w: dict[str, Any] = {"kept": gr.State(DEFAULTS["kept"])}
    w["base"] = gr.Dropdown(
        BASES,
        value=DEFAULTS["base"],
        label="Base model",
        info=f"Embedded model, or enter a Hub id{'' if shared else ' or a folder'}",
        allow_custom_value=True,
        interactive=True,
        elem_classes=["rv-search", "rv-any"],
        elem_id="train-base",
    )
    busy_line("base-busy")
    w["base_problem"] = plain(elem_id="train-problem-base")
    w["data"] = gr.Radio(data_choices(samples), value=DEFAULTS["data"], label="Data", elem_id="train-data")
    w["file"] = gr.File(
        label="JSONL, JSON, CSV or Parquet",
        file_types=list(SUFFIXES),
        visible=False,
        height=110,
        elem_id="train-file",
    )
    w["data_problem"] = plain(elem_id="train-problem-data")
    w["preview"] = plain(elem_id="train-preview")
    w["mode"] = gr.Radio(MODES, value=DEFAULTS["mode"], label="Mode", elem_id="train-mode")
    w["mode_note"] = plain(html.paragraphs(MODE_NOTES[DEFAULTS["mode"]]))
    w["ranks"] = gr.CheckboxGroup(
        [str(r) for r in STOPS],
        value=DEFAULTS["ranks"],
        label=_ranks_label(DEFAULTS["mode"]),
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
            visible=False,
            elem_id="train-independent",
        )
    w["repeat"] = gr.Checkbox(DEFAULTS["repeat"], label="Repeat the lower rank once", elem_id="train-repeat")
    w["ranks_problem"] = plain(elem_id="train-problem-ranks")
    with gr.Row(elem_classes="rv-pair"):
        w["alpha_rule"] = gr.Radio(
            ALPHA_RULES, value=DEFAULTS["alpha_rule"], label="Alpha", scale=3, min_width=180, elem_id="train-alpha"
        )
        w["alpha_fixed"] = gr.Number(DEFAULTS["alpha_fixed"], label="Fixed alpha", scale=1, min_width=70)
    w["alpha_problem"] = plain(elem_id="train-problem-alpha")
    with gr.Row(elem_classes="rv-pair"):
        w["learning_rates"] = gr.Textbox(DEFAULTS["learning_rates"], label="Learning rates", max_lines=1, min_width=100)
        w["seeds"] = _whole("Seeds", DEFAULTS["seeds"], visible=False)
        w["max_steps"] = _whole("Steps per run", DEFAULTS["max_steps"], elem_id="train-steps")
    w["numbers_problem"] = plain(elem_id="train-problem-numbers")
    with gr.Accordion("Targets, batch, precision and more", open=False):
        plain(html.paragraphs(WHY_FIXED_ALPHA))
        w["preset"] = gr.Dropdown(TARGETS, value=DEFAULTS["preset"], label="Target modules", interactive=True)
        w["names"] = gr.Textbox("", label="Other module names", placeholder="q_proj, v_proj", max_lines=1)
        with gr.Row(elem_classes="rv-pair"):
            w["use_rslora"] = gr.Checkbox(False, label="rsLoRA", min_width=100)
            w["use_dora"] = gr.Checkbox(False, label="DoRA", min_width=100)
        with gr.Row(elem_classes="rv-pair"):
            w["batch"] = _whole("Batch", DEFAULTS["batch"])
            w["accumulation"] = _whole("Accumulation", DEFAULTS["accumulation"])
        with gr.Row(elem_classes="rv-pair"):
            w["max_length"] = _whole("Max length (tokens)", DEFAULTS["max_length"])
            w["held_out"] = _whole("Held-out examples", DEFAULTS["held_out"])
        with gr.Row(elem_classes="rv-pair"):
            w["shown_answers"] = _whole("Answers to show (0: off)", DEFAULTS["shown_answers"])
            w["exact_match"] = _whole("Exact match on (0: off)", DEFAULTS["exact_match"])
        plain(html.paragraphs(WHAT_EXACT_MATCH_IS))
        w["precision"] = gr.Dropdown(
            PRECISIONS, value=DEFAULTS["precision"], label="Base model precision", interactive=True
        )
        w["optim"] = gr.Dropdown(OPTIMS, value=DEFAULTS["optim"], label="Optimizer", interactive=True)
        w["unsloth_class"] = gr.Dropdown(
            list(UNSLOTH_CLASSES), value=DEFAULTS["unsloth_class"], label="Unsloth class", interactive=True
        )
        w["expert_rank"] = expert_rank_picker(visible=True)
        w["text_only"] = gr.Checkbox(DEFAULTS["text_only"], label="Text model only (Unsloth's text_only)")
        w["parts"] = gr.CheckboxGroup(PARTS, value=DEFAULTS["parts"], label="Trained parts (Unsloth's finetune_ flags)")
        plain(html.paragraphs(ABOUT_UNSLOTH))
    return w


def data_choices(samples: Sequence[tuple[str, str]], kept: str = "") -> list[tuple[str, str]]:
    """The samples, the file that the form was filled with, and a file of one's own."""
    return [*samples, *([(data_name(kept), KEPT_FILE)] if kept else []), ("Own file", OWN_FILE)]


def _whole(label: str, value: int, **more: Any) -> gr.Number:
    """Without a minimum: Gradio would refuse the event without a word where the core says what to change."""
    return gr.Number(value, label=label, precision=0, step=1, min_width=80, **more)


def _ranks_label(mode: str) -> str:
    return {"quick": "Ranks to train: two", "rate": "Rank to train: one"}.get(mode, "Ranks")


class Mode(NamedTuple):
    """What a choice of mode sets."""

    ranks: Any
    independent: Any
    repeat: gr.Checkbox
    seeds: gr.Number
    mode_note: str


def mode_chosen(mode: str, ranks: Sequence[str] | None = None) -> Mode:
    """Ranks and seeds that suit the mode; both can be changed, except that a quick look has one seed. Ranks that are
    the default of no mode were chosen by someone, and stay."""
    usual = [[str(r) for r in each] for each in FORM_RANKS.values()]
    chosen = {} if ranks and sorted(ranks, key=int) not in usual else {"value": [str(r) for r in FORM_RANKS[mode]]}
    return Mode(
        ranks=gr.CheckboxGroup(label=_ranks_label(mode), **chosen),
        independent=gr.Textbox(visible=mode == "fast"),
        repeat=gr.Checkbox(visible=mode == "quick"),
        seeds=gr.Number(usual_seeds(mode), visible=mode != "quick"),
        mode_note=html.paragraphs(MODE_NOTES[mode]),
    )


def filled(values: Mapping[str, Any], samples: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Updates that put these values into the form, by name; with the mode's widgets shown as the mode has them."""
    mode, fixed = values["mode"], values["alpha_rule"] == "fixed"
    return {
        **values,
        "data": gr.Radio(choices=data_choices(samples, values["kept"]), value=values["data"]),
        "file": gr.File(value=None, visible=values["data"] == OWN_FILE),
        "ranks": gr.CheckboxGroup(value=values["ranks"], label=_ranks_label(mode)),
        "independent": gr.Textbox(values["independent"], visible=mode == "fast"),
        "repeat": gr.Checkbox(values["repeat"], visible=mode == "quick"),
        "seeds": gr.Number(values["seeds"], visible=mode != "quick"),
        "alpha_fixed": gr.Number(values["alpha_fixed"], visible=fixed),
        "mode_note": html.paragraphs(MODE_NOTES[mode]),
    }
