"""The left column of Train: what to train on what, and what its widgets' values ask for."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.core.lora.config import LoraConfig
from rankviz.core.runs.request import SHORT_TRAINING, VERDICT_SEEDS, SweepRequest, fast_ranks
from rankviz.errors import InvalidSettingError, RankVizError
from rankviz.ui.explore.answer import span, time_span
from rankviz.ui.parts import html
from rankviz.ui.parts.controls import STOPS, busy_line, plain
from rankviz.ui.parts.html import Cell, Row
from rankviz.ui.parts.question import CUSTOM, TARGETS, names_in
from rankviz.ui.wiring import notice_html

OWN_FILE = "own"
BASES = [("SmolLM2-135M-Instruct (embedded)", "embedded")]
ALPHA_RULES = [("fixed", "fixed"), ("α = r", "r"), ("α = 2r", "2r")]
PRECISIONS = [
    ("Automatic: NF4 on a GPU, fp32 without", "auto"),
    ("NF4, double quantization", "nf4-dq"),
    ("NF4", "nf4"),
    ("bf16", "bf16"),
    ("fp16", "fp16"),
    ("fp32", "fp32"),
]
OPTIMS = [("Automatic", "auto"), "adamw_8bit", "adamw_torch", "paged_adamw_8bit", "sgd"]
WHY_FIXED_ALPHA = (
    "Why fixed? With α = r and one learning rate a short sweep measures step size more than rank: in one trial r = 2 "
    "went from a loss of 3.33 to 1.85 by α alone. α = r or 2r stays the rule for the adapter you take away, whose "
    "learning rate you tune."
)
MODES = [("Fast curve: one run, every rank", "fast"), ("Sweep: runs of each rank", "sweep"), ("One run", "single")]
FAST_RANKS, SWEEP_RANKS = (1, 2, 4, 8, 16, 32, 64), (4, 16, 64)
WHAT_MODES_SAY = {
    "fast": "The highest rank is trained once and cut to the lower ones: how much rank the learned update needs, a "
    "quick first look. It doesn't say what a run of a lower rank would learn; anchors do, and a sweep.",
    "sweep": "Each rank is trained by itself, with every learning rate and seed, on the same data in the same order. "
    "Ranks can be told apart only against the noise between seeds: three or more give a verdict.",
    "single": "One rank, one learning rate, one seed.",
}
DEFAULTS = SweepRequest()
NAMES = (
    "base", "data", "file", "mode", "ranks", "other_ranks", "anchors", "alpha_rule", "alpha_fixed",
    "learning_rates", "seeds", "max_steps", "preset", "names", "use_rslora", "use_dora", "batch", "accumulation",
    "max_length", "held_out", "precision", "optim",
)  # fmt: skip
"""The widgets whose values make a request."""


def form_widgets(samples: list[tuple[str, str]]) -> dict[str, Any]:
    """Build the column; widgets by name."""
    w: dict[str, Any] = {}
    w["base"] = gr.Dropdown(
        BASES,
        value=DEFAULTS.base,
        label="Base model",
        info="Embedded, or type a Hub id or a folder and press Enter",
        allow_custom_value=True,
        interactive=True,
        elem_classes="rv-search",
        elem_id="train-base",
    )
    busy_line("base-busy")
    w["data"] = gr.Radio([*samples, ("My own file", OWN_FILE)], value=DEFAULTS.data, label="Data", elem_id="train-data")
    w["file"] = gr.File(
        label="JSONL, CSV or Parquet: text, instruction/output, prompt/completion or messages",
        file_types=[".jsonl", ".json", ".csv", ".parquet"],
        visible=False,
        height=110,
        elem_id="train-file",
    )
    w["preview"] = plain(elem_id="train-preview")
    w["mode"] = gr.Radio(MODES, value="fast", label="What to run", elem_id="train-mode")
    w["mode_says"] = plain(html.paragraphs(WHAT_MODES_SAY["fast"]))
    w["ranks"] = gr.CheckboxGroup(
        [str(r) for r in STOPS], value=[str(r) for r in FAST_RANKS], label="Ranks", elem_id="train-ranks"
    )
    with gr.Row(elem_classes="rv-pair"):
        w["other_ranks"] = gr.Textbox("", label="Other ranks", placeholder="24, 512", max_lines=1, min_width=100)
        w["anchors"] = gr.Textbox(
            "", label="Anchors: also run alone", placeholder="2", max_lines=1, min_width=100, elem_id="train-anchors"
        )
    with gr.Row(elem_classes="rv-pair"):
        w["alpha_rule"] = gr.Radio(ALPHA_RULES, value="fixed", label="Alpha", scale=3, min_width=180)
        w["alpha_fixed"] = gr.Number(float(DEFAULTS.alpha), label="fixed at", scale=1, min_width=70)
    plain(f'<div class="rv-caption"><p>{WHY_FIXED_ALPHA}</p></div>')
    with gr.Row(elem_classes="rv-pair"):
        w["learning_rates"] = gr.Textbox("1e-3", label="Learning rates", max_lines=1, min_width=100)
        w["seeds"] = _whole("Seeds", 1)
        w["max_steps"] = _whole("Steps a run", SHORT_TRAINING.max_steps)
    with gr.Accordion("Targets, batch and precision", open=False):
        w["preset"] = gr.Dropdown(TARGETS, value=DEFAULTS.lora.target_modules, label="Target modules", interactive=True)
        w["names"] = gr.Textbox("", label="Module names of your own", placeholder="q_proj, v_proj", max_lines=1)
        with gr.Row(elem_classes="rv-pair"):
            w["use_rslora"] = gr.Checkbox(False, label="rsLoRA", min_width=100)
            w["use_dora"] = gr.Checkbox(False, label="DoRA", min_width=100)
        with gr.Row(elem_classes="rv-pair"):
            w["batch"] = _whole("Batch", SHORT_TRAINING.per_device_train_batch_size)
            w["accumulation"] = _whole("Accumulation", SHORT_TRAINING.gradient_accumulation_steps)
        with gr.Row(elem_classes="rv-pair"):
            w["max_length"] = _whole("Tokens a row at most", SHORT_TRAINING.max_length)
            w["held_out"] = _whole("Held-out examples", DEFAULTS.held_out_examples)
        w["precision"] = gr.Dropdown(
            PRECISIONS, value=SHORT_TRAINING.precision, label="Base model held in", interactive=True
        )
        w["optim"] = gr.Dropdown(OPTIMS, value=SHORT_TRAINING.optim, label="Optimizer", interactive=True)
    return w


def _whole(label: str, value: int) -> gr.Number:
    """Without a minimum: Gradio would refuse the event without a word where the core says what to change."""
    return gr.Number(value, label=label, precision=0, step=1, min_width=80)


class Mode(NamedTuple):
    """What a choice of mode sets."""

    ranks: Any
    anchors: Any
    seeds: Any
    mode_says: str


def mode_chosen(mode: str) -> Mode:
    """Ranks and seeds that suit it; both can be changed after."""
    ranks = {"fast": FAST_RANKS, "sweep": SWEEP_RANKS}.get(mode, (16,))
    return Mode(
        ranks=gr.CheckboxGroup(value=[str(r) for r in ranks]),
        anchors=gr.Textbox(visible=mode == "fast"),
        seeds=VERDICT_SEEDS if mode == "sweep" else 1,
        mode_says=html.paragraphs(WHAT_MODES_SAY[mode]),
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
    return SweepRequest(
        base=(values["base"] or "").strip(),
        data=data,
        ranks=ranks,
        cut_ranks=cut_ranks,
        alpha=f"{values['alpha_fixed']:g}" if fixed and values["alpha_fixed"] is not None else values["alpha_rule"],
        learning_rates=numbers(values["learning_rates"], float, "Learning rates", "1e-3, 3e-4"),
        seeds=tuple(range(values["seeds"] or 0)),
        held_out_examples=values["held_out"],
        lora=LoraConfig(
            target_modules=values["preset"] if values["preset"] != CUSTOM else names_in(values["names"]),
            use_rslora=bool(values["use_rslora"]),
            use_dora=bool(values["use_dora"]),
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


def _ranks_of(values: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(ranks to train, ranks to cut the highest to)."""
    mode = values["mode"]
    ticked = {int(r) for r in values["ranks"] or ()} | set(numbers(values["other_ranks"], int, "Ranks", "24, 512"))
    ranks = tuple(sorted(ticked))
    if mode == "single" and len(ranks) > 1:
        raise InvalidSettingError(f"One run takes one rank, not {len(ranks)}: untick the others, or choose Sweep.")
    if mode != "fast":
        return ranks, ()
    return fast_ranks(ranks, numbers(values["anchors"], int, "Anchors", "2, 8"))


def preview_html(api: Api, values: Mapping[str, Any]) -> str:
    """Three rows of the data as they will be learned, with counts; a bad row is named."""
    data = data_of(values)
    if not data:
        return html.paragraphs("Upload a file to see its first rows.")
    try:
        seen = api.preview(data)
    except RankVizError as error:
        return notice_html(str(error), kind="error")
    rows = [
        Row(cells=[Cell(prompt, kind="wrap"), Cell(completion, kind="wrap")]) for prompt, completion in seen.examples
    ]
    lengths = f"{seen.mean_characters:.0f} characters each on average, {seen.longest_characters:,} at most"
    about = f"{seen.title}: {seen.rows:,} rows, {lengths}."
    return html.paragraphs(about) + html.table(["Prompt", "Completion, learned"], rows, label="First rows", left=2)


def expected_html(api: Api, values: Mapping[str, Any]) -> str:
    """What the sweep will take, before the button."""
    request = request_of(values)
    expected = api.expected(request)
    rows = [
        Row(
            cells=[
                f"r = {r}",
                Cell(f"{run.adapter_parameters:,}"),
                Cell(units.file_size(run.adapter_bytes), title=f"{run.adapter_bytes:,} bytes"),
                span(run.memory_bytes.as_json(), units.memory_size),
            ]
        )
        for r, run in expected.ranks.items()
    ]
    runs = "1 run" if expected.runs == 1 else f"{expected.runs} runs"
    if cuts := len(request.cut_ranks):
        runs += f", the highest rank cut to {cuts} lower,"
    time = time_span(expected.seconds.as_json()) if expected.seconds else "a time that is not known"
    said = [f"{runs} on {expected.device_name}, estimated to take {time} in all."]
    if any(run.calibrated_by for run in expected.ranks.values()):
        said.append("Memory and time are calibrated on this machine, by probes of this base.")
    if expected.warning:
        said.append(expected.warning)
    return html.paragraphs(*said) + html.table(
        ["Rank", "Parameters", "Adapter", "Memory"], rows, label="What each rank will take"
    )


def numbers(text: str | None, kind: Callable[[str], Any], what: str, example: str) -> tuple[Any, ...]:
    """ "1e-3, 3e-4" as numbers."""
    try:
        return tuple(kind(part) for part in (text or "").replace(";", ",").split(",") if part.strip())
    except ValueError:
        raise InvalidSettingError(f"{what} are numbers with commas between, such as {example}; not {text!r}.") from None
