"""Builds the left column (model, rank, training, GPU), and reads its widgets into a question."""

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from rankviz.core.advice import use_case
from rankviz.core.bounds import whole
from rankviz.core.cost.device import Gpu
from rankviz.core.cost.question import ASSUMED_RANK, Question, validate_price
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.lora.config import FLAGS, MAX_RANK, UNSLOTH_CLASSES, LoraConfig
from rankviz.core.lora.targets import names_in
from rankviz.ui.parts.controls import STOPS, busy_line, plain, rank_picker, remembered, slot
from rankviz.ui.parts.own_data import box, data_of, data_widgets
from rankviz.units import memory_size

CUSTOM = "custom"
NO_GPU = "none"

TARGETS = [
    ("Unsloth's seven projections", "unsloth"),
    ("All linear layers", "all-linear"),
    ("Attention", "attention"),
    ("MLP", "mlp"),
    ("q and v (LoRA paper)", "qv"),
    ("Custom (below)", CUSTOM),
]
USE_CASES = [(case.label, case.name) for case in use_case.USE_CASES]
ALPHA_RULES = [("α = r", "r"), ("α = 2r", "2r"), ("Fixed", "fixed")]
PRECISIONS = [
    ("NF4, double quantization (QLoRA)", "nf4-dq"),
    ("NF4", "nf4"),
    ("8 bit", "int8"),
    ("bf16", "bf16"),
    ("fp16", "fp16"),
    ("fp32", "fp32"),
]
FRAMEWORKS = [("Unsloth", "unsloth"), ("TRL", "trl"), ("PEFT (k-bit)", "peft")]
OPTIMS = ["adamw_8bit", "adamw_torch", "paged_adamw_8bit", "sgd"]
CHECKPOINTING = [("Unsloth (offloaded)", "unsloth"), ("Hugging Face", "hf"), ("none", "none")]
LOSS_PATHS = [("fused, in chunks", "fused"), ("Triton", "triton"), ("full logits", "full")]
MOE_SCHEMES = [
    ("Framework default", "default"),
    ("Attention and dense layers only", "linear-only"),
    ("PEFT's automatic remap of the experts", "peft-remap"),
    ("Unsloth, without the remap", "unsloth"),
    ("Per expert, target_parameters", "target-parameters"),
]
EXPERT_RANKS = [("r", "r"), ("r / experts per token", "r/active"), ("r / all experts", "r/all")]
PARTS = [
    ("Vision layers", "vision"),
    ("Language layers", "language"),
    ("Attention modules", "attention"),
    ("MLP modules", "mlp"),
]
"""Unsloth's flags, in the order of FLAGS."""
DEFAULT_PARTS = {"FastLanguageModel": ["language", "attention", "mlp"], "FastModel": [part for _, part in PARTS]}
"""What each class trains where it is given no flag."""

DEFAULTS: dict[str, Any] = {
    "model": "unsloth/Llama-3.1-8B",
    "r": ASSUMED_RANK,
    "use_case": "instruction",
    "examples": None,
    "example_tokens": None,
    "longest_tokens": None,
    "epochs": None,
    "measured_file": "",
    "forgetting": False,
    "preset": "unsloth",
    "modules": [],
    "names": "",
    "save": "",
    "alpha_rule": "r",
    "alpha_fixed": 32,
    "use_rslora": False,
    "use_dora": False,
    "moe_scheme": "default",
    "expert_rank": "r",
    "parts": DEFAULT_PARTS["FastLanguageModel"],
    "unsloth_class": "FastLanguageModel",
    "text_only": False,
    "framework": "unsloth",
    "precision": "nf4-dq",
    "batch": 2,
    "accumulation": 4,
    "max_length": 2048,
    "optim": "adamw_8bit",
    "checkpointing": "unsloth",
    "loss_path": "fused",
    "length": None,
    "length_unit": "steps",
    "gpu": "l4",
    "usd_per_hour": None,
    "prices": "",
    "take": "script",
}
"""The page when it opens, at the recommended rank."""


MORE = """
<button type="button" class="rv-button rv-more" data-more aria-expanded="false">
Use case, targets, GPU, your data</button>
"""
"""Opens the rest of the question on a phone, where the figures come first."""


def question_widgets(models: list[tuple[str, str]], gpus: list[Gpu]) -> dict[str, Any]:
    """Build the column; widgets by the names of DEFAULTS. In sight is what most people change, the rest is folded."""
    w: dict[str, Any] = {}
    w["model"] = gr.Dropdown(
        models,
        value=DEFAULTS["model"],
        label="Base model: search, or enter any Hub id",
        allow_custom_value=True,
        interactive=True,
        elem_classes=["rv-search", "rv-any"],
        elem_id="model",
    )
    busy_line("model-busy")
    w["r"] = rank_picker(DEFAULTS["r"])
    plain(MORE)
    with gr.Column(elem_classes="rv-rest"):
        w["use_case"] = gr.Dropdown(USE_CASES, value=DEFAULTS["use_case"], label="Use case", interactive=True)
        w["preset"] = gr.Dropdown(TARGETS, value=DEFAULTS["preset"], label="Target modules", interactive=True)
        w["gpu"] = gr.Dropdown(
            [*((gpu_label(g), g.id) for g in gpus), ("No GPU", NO_GPU)],
            value=DEFAULTS["gpu"],
            label="GPU",
            interactive=True,
            elem_classes="rv-search",
        )
        w |= data_widgets(DEFAULTS)
        with gr.Accordion("Modules, alpha, DoRA", open=False):
            _adapter_widgets(w)
        with gr.Accordion("Training setup and price", open=False):
            _training_widgets(w)
    return w


def _adapter_widgets(w: dict[str, Any]) -> None:
    w["modules"] = gr.CheckboxGroup([], label="Modules of this model (× copies)", elem_id="modules")
    with gr.Row(elem_classes="rv-pair"):
        w["alpha_rule"] = gr.Radio(ALPHA_RULES, value=DEFAULTS["alpha_rule"], label="Alpha", scale=3, min_width=180)
        w["alpha_fixed"] = gr.Number(DEFAULTS["alpha_fixed"], label="Fixed alpha", visible=False, scale=1, min_width=70)
    with gr.Row(elem_classes="rv-pair"):
        w["use_rslora"] = gr.Checkbox(DEFAULTS["use_rslora"], label="rsLoRA", min_width=100)
        w["use_dora"] = gr.Checkbox(DEFAULTS["use_dora"], label="DoRA", min_width=100)
    slot("scale")
    w["forgetting"] = gr.Checkbox(DEFAULTS["forgetting"], label="The base model must keep its abilities")
    w["moe_scheme"] = gr.Dropdown(
        MOE_SCHEMES, value=DEFAULTS["moe_scheme"], label="Experts", visible=False, interactive=True
    )
    w["expert_rank"] = expert_rank_picker(visible=False)
    w["parts"] = gr.CheckboxGroup(
        PARTS, value=DEFAULTS["parts"], label="Trained parts (Unsloth's finetune_ flags)", visible=False
    )
    w["names"] = gr.Textbox(DEFAULTS["names"], label="Other module names", placeholder="q_proj, experts.gate_up_proj")
    w["save"] = gr.Textbox(DEFAULTS["save"], label="modules_to_save", placeholder="lm_head, embed_tokens")
    w["upload"] = gr.UploadButton("Upload a config.json", file_types=[".json"], size="sm")


def _training_widgets(w: dict[str, Any]) -> None:
    w["usd_per_hour"] = gr.Number(None, label="Price, $ per hour", placeholder="Price from the table")
    slot("gpu-note")
    w["prices"] = remembered(DEFAULTS["prices"])
    w["framework"] = gr.Radio(FRAMEWORKS, value=DEFAULTS["framework"], label="Framework")
    w["unsloth_class"] = gr.Dropdown(
        list(UNSLOTH_CLASSES),
        value=DEFAULTS["unsloth_class"],
        label="Unsloth class",
        info="FastModel reaches layers outside attention and MLP too",
        interactive=True,
    )
    w["text_only"] = gr.Checkbox(
        DEFAULTS["text_only"],
        label="Text model only",
        info="Unsloth's text_only: vision and audio towers are not loaded",
        visible=False,
    )
    w["precision"] = gr.Dropdown(
        PRECISIONS, value=DEFAULTS["precision"], label="Base model precision", interactive=True
    )
    with gr.Row(elem_classes="rv-pair"):
        w["batch"] = box("Batch", DEFAULTS["batch"])
        w["accumulation"] = box("Accumulation", DEFAULTS["accumulation"])
    with gr.Row(elem_classes="rv-pair"):
        w["max_length"] = box("Max length (tokens)", DEFAULTS["max_length"])
        w["optim"] = gr.Dropdown(OPTIMS, value=DEFAULTS["optim"], label="Optimizer", interactive=True, min_width=120)
    with gr.Row(elem_classes="rv-pair"):
        w["checkpointing"] = gr.Dropdown(
            CHECKPOINTING, value=DEFAULTS["checkpointing"], label="Checkpointing", interactive=True, min_width=120
        )
        w["loss_path"] = gr.Dropdown(
            LOSS_PATHS, value=DEFAULTS["loss_path"], label="Loss", interactive=True, min_width=120
        )
    with gr.Row(elem_classes="rv-pair"):
        w["length"] = box("Training length", DEFAULTS["length"], placeholder="Epochs of your data")
        w["length_unit"] = gr.Radio(["steps", "tokens"], value=DEFAULTS["length_unit"], label="Unit", min_width=120)


def expert_rank_picker(*, visible: bool) -> gr.Dropdown:
    """PEFT's rank_pattern of mixtures of experts: a rule, or a number that is typed."""
    return gr.Dropdown(
        EXPERT_RANKS,
        value=DEFAULTS["expert_rank"],
        label="Rank of each expert: choose, or enter a number",
        allow_custom_value=True,
        interactive=True,
        visible=visible,
    )


def gpu_label(gpu: Gpu) -> str:
    usable = memory_size(gpu.usable_bytes) + " usable" if gpu.usable_bytes else f"{gpu.memory_bytes / 1e9:g} GB nominal"
    price = gpu.price
    return f"{gpu.name} · {usable}" + (f" · ${price.usd_per_hour:.2f}/h, {price.provider}" if price else "")


def ranks_shown(r: int) -> tuple[int, ...]:
    """The stops, with the chosen rank, half of it and twice it among them."""
    return tuple(sorted({*STOPS, r, max(1, r // 2), min(MAX_RANK, 2 * r)}))


def targets_of(values: Mapping[str, Any]) -> str | tuple[str, ...]:
    extra = names_in(values["names"])
    if values["preset"] != CUSTOM:
        return values["preset"]
    return tuple(dict.fromkeys([*(values["modules"] or ()), *extra]))


def rank_of(values: Mapping[str, Any]) -> int:
    whole(values["r"], "Rank", 1, MAX_RANK)
    return values["r"]


def lora_of(values: Mapping[str, Any]) -> LoraConfig:
    """The adapter, rank and alpha aside."""
    return LoraConfig(
        target_modules=targets_of(values),
        use_rslora=bool(values["use_rslora"]),
        use_dora=bool(values["use_dora"]),
        modules_to_save=names_in(values["save"]),
        moe_scheme=values["moe_scheme"],
        expert_rank=values["expert_rank"] or DEFAULTS["expert_rank"],
        unsloth_class=values["unsloth_class"],
        text_only=bool(values["text_only"]),
        **flags_of(values["parts"]),
    )


def flags_of(parts: Sequence[str] | None, unsloth_class: str = "FastLanguageModel") -> dict[str, bool]:
    """Unsloth's flags; none where the ticked parts are the class's own default."""
    ticked = set(parts or ())
    if ticked == set(DEFAULT_PARTS.get(unsloth_class, ())):
        return {}
    return {flag: part in ticked for flag, (_, part) in zip(FLAGS, PARTS, strict=True)}


def alpha_of(values: Mapping[str, Any]) -> str:
    if values["alpha_rule"] != "fixed":
        return values["alpha_rule"]
    alpha = values["alpha_fixed"]
    return f"{alpha:.12g}" if isinstance(alpha, int | float) else str(alpha)


def price_texts(prices: str) -> list[tuple[str, str]]:
    """ "l4:0.75,t4:0.2" as pairs of GPU id and price, as written."""
    pairs = (part.partition(":") for part in prices.split(",") if part)
    return [(gpu, price) for gpu, _, price in pairs]


def price_text(prices: Mapping[str, str]) -> str:
    """As price_texts reads it. A price cannot contain the two separators."""
    return ",".join(f"{gpu}:{price.replace(',', ' ').replace(':', ' ')}" for gpu, price in prices.items())


def prices_of(prices: str) -> dict[str, float]:
    """Your own prices by GPU id; InvalidSettingError for a wrong one."""
    own = {}
    for gpu, text in price_texts(prices):
        try:
            own[gpu] = float(text)
        except ValueError:
            own[gpu] = text
        validate_price(own[gpu], of=gpu)
    return own


def ask(values: Mapping[str, Any]) -> Question:
    """The widgets' values as a question to the core, for every rank that the page shows. Where they say no length of
    training, it is the assumed one, which own_data.length_note says.

    Values arrive from a browser or from anyone's HTTP call; the core checks them all. Only the rank is checked here,
    because the ranks to show are made from it.
    """
    prices = prices_of(values["prices"])
    question = Question(
        model_id=(values["model"] or "").strip(),
        ranks=ranks_shown(rank_of(values)),
        lora=lora_of(values),
        alpha=alpha_of(values),
        training=TrainingSetup(
            framework=values["framework"],
            precision=values["precision"],
            optim=values["optim"],
            per_device_train_batch_size=values["batch"],
            gradient_accumulation_steps=values["accumulation"],
            max_length=values["max_length"],
            gradient_checkpointing=values["checkpointing"],
            loss_path=values["loss_path"],
            **{"tokens" if values["length_unit"] == "tokens" else "max_steps": values["length"]},
            data=data_of(values),
        ),
        gpu=None if values["gpu"] in (None, NO_GPU) else values["gpu"],
        usd_per_hour=prices.get(values["gpu"]) if values["usd_per_hour"] is None else values["usd_per_hour"],
    )
    return question.with_assumed_length()[0]
