"""Builds the left column (model, rank, training, data, GPU), and reads its widgets into a question."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, get_args

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.core.advice import use_case
from rankviz.core.bounds import one_of, whole
from rankviz.core.cost.notes import truncation
from rankviz.core.cost.question import ASSUMED_RANK, Question, validate_price
from rankviz.core.cost.setup import LENGTH_SHARES, Form, Gpu, TrainingData, TrainingSetup, Trait, is_file_name
from rankviz.core.lora.config import FLAGS, MAX_RANK, UNSLOTH_CLASSES, LoraConfig
from rankviz.core.lora.targets import names_in
from rankviz.dataset import SUFFIXES
from rankviz.errors import InvalidSettingError
from rankviz.ui.parts import html
from rankviz.ui.parts.controls import STOPS, busy_line, plain, rank_picker, remembered, slot
from rankviz.ui.wiring import notice_html
from rankviz.units import memory_size

NAMES = ("examples", "example_tokens", "longest_tokens", "epochs")
"""Widgets of the question."""


class Measured(NamedTuple):
    """What a file sets. The length is then in epochs."""

    examples: int
    example_tokens: int
    longest_tokens: int
    epochs: float
    length: None
    measured_file: str
    file_note: str


class MeasuredFile(NamedTuple):
    """What the page keeps of a measured file beside its numbers: what an export needs to read it."""

    form: Form
    longest_tokens: int
    """The upper estimate. Another number in the box was typed."""
    name: str
    lengths: tuple[int, ...] = ()
    """As TrainingData has them; empty in addresses of before."""
    traits: tuple[Trait, ...] = ()
    """As TrainingData has them."""


def data_widgets(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The widgets by NAMES, the button `data_file`, and `file_note`, which says what it measured."""
    w: dict[str, Any] = {"measured_file": remembered(defaults["measured_file"])}
    plain('<h2 class="rv-hint">Your data</h2>')
    with gr.Row(elem_classes="rv-pair"):
        w["examples"] = box("Examples", defaults["examples"], placeholder="e.g. 5,000")
        w["epochs"] = gr.Number(
            defaults["epochs"], label="Epochs", step=1, min_width=120, placeholder="1 if empty", interactive=True
        )
    with gr.Row(elem_classes="rv-pair"):
        w["example_tokens"] = box("Tokens per example", defaults["example_tokens"], placeholder="e.g. 400")
        w["longest_tokens"] = box("Longest example", defaults["longest_tokens"], placeholder="e.g. 1,600")
    w["data_file"] = gr.UploadButton("Measure a file (JSONL, CSV, Parquet)", file_types=list(SUFFIXES), size="sm")
    w["file_note"] = plain(elem_id="file-note")
    slot("length-note")
    return w


def box(label: str, value: int | None, placeholder: str | None = None) -> gr.Number:
    """A box for a whole number. Without a minimum: Gradio would refuse the event without a word where the core says
    what to change."""
    return gr.Number(value, label=label, precision=0, step=1, min_width=120, placeholder=placeholder, interactive=True)


def measured(api: Api, *, file: str, epochs: float | None = None) -> Measured:
    """What an uploaded file says of the data."""
    held = api.data.measure(file)
    data = held.training_data()
    return Measured(
        examples=data.examples,
        example_tokens=data.mean_tokens,
        longest_tokens=data.longest_tokens,
        epochs=epochs or 1,
        length=None,
        measured_file=file_text(
            MeasuredFile(data.form, data.longest_tokens, data.file_name, data.lengths, data.traits)
        ),
        file_note=html.paragraphs(held.in_words),
    )


def file_text(file: MeasuredFile) -> str:
    """As `file_in` reads it: "messages.role.user:1600:chats.jsonl:12.300.1550", with more lengths."""
    return ":".join(
        (".".join((file.form, *file.traits)), str(file.longest_tokens), file.name, ".".join(map(str, file.lengths)))
    )


def file_in(text: str) -> MeasuredFile:
    """InvalidSettingError for another text."""
    form, _, rest = text.partition(":")
    longest, _, rest = rest.partition(":")
    name, _, lengths = rest.partition(":")
    form, *traits = form.split(".")
    one_of(form, "Form of the data", get_args(Form))
    for trait in traits:
        one_of(trait, "Trait of the data", get_args(Trait))
    readable = is_file_name(name) and name.lower().endswith(SUFFIXES)
    numbers = [longest, *(lengths.split(".") if lengths else ())]
    whole = all(each.isascii() and each.isdigit() and len(each) < 10 for each in numbers)
    if not (whole and readable and len(numbers) in (1, 1 + len(LENGTH_SHARES))):
        raise InvalidSettingError("The measured file must be form:longest:name, such as messages:1600:chats.jsonl.")
    return MeasuredFile(form, int(longest), name, tuple(map(int, numbers[1:])), tuple(traits))


def data_of(values: Mapping[str, Any]) -> TrainingData | None:
    """The data of the widgets; None where all are empty. Steps or tokens come before epochs. A measured file counts as
    long as there is a number of examples."""
    with_file = values["measured_file"] and values["examples"] is not None
    file = file_in(values["measured_file"]) if with_file else None
    is_as_measured = file is not None and file.longest_tokens == values["longest_tokens"]
    data = TrainingData(
        examples=values["examples"],
        mean_tokens=values["example_tokens"],
        longest_tokens=values["longest_tokens"],
        epochs=values["epochs"] if values["length"] is None else None,
        form=file.form if file else None,
        traits=file.traits if file else (),
        file_name=file.name if file else None,
        longest_is_upper=is_as_measured,
        lengths=file.lengths if is_as_measured else (),
    )
    return None if data == TrainingData() else data


def length_note(question: Question) -> str:
    """What length of training time and cost are for, as a paragraph. question: with a length."""
    training, data = question.training, question.training.data
    steps = f"{units.counted(training.total_steps, 'step')} of {training.rows_per_step} examples"
    if data is None:
        text = f"No data given: time and cost assume {steps} with {training.max_length:,} tokens each."
    elif training.data_steps is None:
        text = f"Time and cost are for {steps}."
    else:
        text = (
            f"Time and cost are for {units.counted(data.examples, 'example')} × "
            f"{units.counted(data.epochs, 'epoch')}: {steps}."
        )
    cut = truncation(training)
    return (notice_html(cut) if cut else "") + html.paragraphs(text, *_lengths(training, data))


def _lengths(training: TrainingSetup, data: TrainingData | None) -> Iterator[str]:
    """What is assumed or estimated about the lengths of given examples, and that a measured file is remembered."""
    if data is None:
        return
    if data.mean_tokens is None:
        longest = min(training.max_length, data.longest_tokens or training.max_length)
        yield f"Each example counts as {longest:,} tokens, because tokens per example are not given."
    if data.longest_is_upper:
        yield f"Longest example: {data.longest_tokens:,} tokens is the upper estimate."
    if data.file_name:
        yield f"The exported script reads {data.file_name} ({data.form})."


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
