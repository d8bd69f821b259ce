"""Holds the settings of Explore's question: defaults, choices, and how each stands in the page's address.

One table serves form, script and address. An address leaves defaults out; a wrong parameter leaves its default in place
and gives a sentence.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, get_args

from rankviz.core.advice import use_case
from rankviz.core.bounds import UNPRINTABLE, one_of
from rankviz.core.cost.data import (
    LENGTH_SHARES,
    MAX_EPOCHS,
    MAX_EXAMPLE_TOKENS,
    MAX_EXAMPLES,
    Form,
    Trait,
    is_file_name,
)
from rankviz.core.cost.question import ASSUMED_RANK, MAX_USD_PER_HOUR, validate_price
from rankviz.core.cost.setup import MAX_ACCUMULATION, MAX_BATCH, MAX_LENGTH, MAX_TRAINING_TOKENS
from rankviz.core.lora.config import EXPERT_RANKS, FLAGS, MAX_ALPHA, MAX_RANK, PRESETS, UNSLOTH_CLASSES
from rankviz.core.lora.targets import names_in
from rankviz.dataset import SUFFIXES
from rankviz.errors import InvalidSettingError
from rankviz.export.formats import FORMATS

CUSTOM, NO_GPU, NO_PARTS = "custom", "none", "none"
MAX_TEXT = 2000
"""Characters of a parameter, such as your own price of every GPU."""
MAX_NAMES = 300
MAX_DIGITS = 20
SHOWN = 40
"""Characters of a wrong parameter in its note."""
TABS = ("explore", "train", "runs", "adapter", "guide")
RENAMED_TABS = {"sweep": "runs"}
"""Of older addresses."""
PARTS = [
    ("Vision layers", "vision"),
    ("Language layers", "language"),
    ("Attention modules", "attention"),
    ("MLP modules", "mlp"),
]
"""Unsloth's flags, in the order of FLAGS."""
DEFAULT_PARTS = {"FastLanguageModel": ["language", "attention", "mlp"], "FastModel": [part for _, part in PARTS]}
"""What each class trains where it is given no flag."""


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


def file_text(file: MeasuredFile) -> str:
    """As `file_in` reads it: "messages.role.user:1600:chats.jsonl:12.300.1550", with more lengths."""
    lengths = ".".join(map(str, file.lengths))
    return ":".join((".".join((file.form, *file.traits)), str(file.longest_tokens), file.name, lengths))


def file_in(text: str) -> MeasuredFile:
    """InvalidSettingError for another text."""
    form, longest, name, lengths, *_ = [*text.split(":", 3), "", "", "", ""]
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


def _text(text: str) -> str:
    if len(text) > MAX_NAMES:
        raise ValueError(f"at most {MAX_NAMES} characters long")
    return text


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > MAX_DIGITS or not low <= int(text) <= high:
            raise ValueError(f"a whole number from {low:,} to {high:,}")
        return int(text)

    return read


def _number(fits: Callable[[float], bool], must: str) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not fits(value):
            raise ValueError(must)
        return int(value) if value.is_integer() else value

    return read


def _one_of(choices: Sequence) -> Callable[[str], str]:
    values = [choice[1] if isinstance(choice, tuple) else choice for choice in choices]

    def read(text: str) -> str:
        if text not in values:
            raise ValueError("one of " + ", ".join(values))
        return text

    return read


def _flag(text: str) -> bool:
    return _one_of(("0", "1"))(text) == "1"


def _expert_rank(text: str) -> str:
    try:
        return text if text in EXPERT_RANKS else str(_whole(1, MAX_RANK)(text))
    except ValueError as error:
        raise ValueError(f"one of {', '.join(EXPERT_RANKS)}, or {error}") from None


def _checked(check: Callable[[str], Any], must: str) -> Callable[[str], str]:
    """The text itself, where a function of this module can read it."""

    def read(text: str) -> str:
        try:
            check(text)
        except InvalidSettingError as error:
            raise ValueError(must) from error
        return text

    return read


def _parts(text: str) -> list[str]:
    known = [part for _, part in PARTS]
    parts = [] if text == NO_PARTS else text.split(",")
    if not set(parts) <= set(known):
        raise ValueError(f"some of {', '.join(known)}, separated by commas, or {NO_PARTS}")
    return [part for part in known if part in parts]


class Option(NamedTuple):
    """A setting of the question, by the name of its widget."""

    default: Any
    param: str = ""
    """Its name in an address; empty where several settings share a parameter."""
    read: Callable[[str], Any] | None = None
    """The value of a text in an address; a ValueError says what it must be."""
    choices: Sequence = ()
    """(label, value) pairs or values."""


def _choice(default: str, param: str, choices: Sequence) -> Option:
    return Option(default, param, _one_of(choices), choices)


TARGETS = [
    ("Unsloth's seven projections", "unsloth"),
    ("All linear layers", "all-linear"),
    ("Attention", "attention"),
    ("MLP", "mlp"),
    ("q and v (LoRA paper)", "qv"),
    ("Custom (below)", CUSTOM),
]
USE_CASES = [(case.label, case.name) for case in use_case.USE_CASES]
MOE_SCHEMES = [
    ("Framework default", "default"),
    ("Attention and dense layers only", "linear-only"),
    ("PEFT's automatic remap of the experts", "peft-remap"),
    ("Unsloth, without the remap", "unsloth"),
    ("Per expert, target_parameters", "target-parameters"),
]
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
LENGTHS = ("steps", "tokens")

OPTIONS = {
    "model": Option("unsloth/Llama-3.1-8B", "model", _text),
    "r": Option(ASSUMED_RANK, "r", _whole(1, MAX_RANK)),
    "use_case": _choice("instruction", "use_case", USE_CASES),
    "examples": Option(None, "examples", _whole(1, MAX_EXAMPLES)),
    "example_tokens": Option(None, "example_tokens", _whole(1, MAX_EXAMPLE_TOKENS)),
    "longest_tokens": Option(None, "longest", _whole(1, MAX_EXAMPLE_TOKENS)),
    "epochs": Option(
        None, "epochs", _number(lambda n: 0 < n <= MAX_EPOCHS, f"a number above 0 and at most {MAX_EPOCHS:,}")
    ),
    "measured_file": Option(
        "",
        "file",
        _checked(file_in, "the form, longest example and name of a file, such as messages:1600:chats.jsonl"),
    ),
    "forgetting": Option(False, "forgetting", _flag),
    "preset": Option("unsloth", choices=TARGETS),
    "modules": Option([]),
    "names": Option(""),
    "save": Option("", "save", _text),
    "alpha_rule": Option("r", choices=[("α = r", "r"), ("α = 2r", "2r"), ("Fixed", "fixed")]),
    "alpha_fixed": Option(32),
    "use_rslora": Option(False, "rslora", _flag),
    "use_dora": Option(False, "dora", _flag),
    "moe_scheme": _choice("default", "moe", MOE_SCHEMES),
    "expert_rank": Option(
        "r",
        "expert_rank",
        _expert_rank,
        [("r", "r"), ("r / experts per token", "r/active"), ("r / all experts", "r/all")],
    ),
    "parts": Option(DEFAULT_PARTS["FastLanguageModel"], "parts", _parts, PARTS),
    "unsloth_class": _choice("FastLanguageModel", "class", UNSLOTH_CLASSES),
    "text_only": Option(False, "text_only", _flag),
    "framework": _choice("unsloth", "framework", FRAMEWORKS),
    "precision": _choice("nf4-dq", "precision", PRECISIONS),
    "batch": Option(2, "batch", _whole(1, MAX_BATCH)),
    "accumulation": Option(4, "accum", _whole(1, MAX_ACCUMULATION)),
    "max_length": Option(2048, "max_length", _whole(1, MAX_LENGTH)),
    "optim": _choice("adamw_8bit", "optim", OPTIMS),
    "checkpointing": _choice("unsloth", "checkpointing", CHECKPOINTING),
    "loss_path": _choice("fused", "loss_path", LOSS_PATHS),
    "length": Option(None),
    "length_unit": Option("steps", choices=LENGTHS),
    "gpu": Option("l4", "gpu", _text),
    "usd_per_hour": Option(
        None,
        "usd",
        _number(lambda n: 0 <= n <= MAX_USD_PER_HOUR, f"a number of dollars from 0 to {MAX_USD_PER_HOUR:,}"),
    ),
    "prices": Option("", "prices", _checked(prices_of, "GPU ids with a price each, such as l4:0.75,t4:0.2")),
    "take": _choice("script", "take", [(form.label, name) for name, form in FORMATS.items() if name != "colab"]),
}
"""In the order in which the page's script gets their values. colab has a box of its own."""
DEFAULTS: dict[str, Any] = {name: option.default for name, option in OPTIONS.items()}
"""The page when it opens, at the recommended rank."""
WIDGETS = {option.param: name for name, option in OPTIONS.items() if option.param}
"""By the names of parameters."""


def targets_of(values: Mapping[str, Any]) -> str | tuple[str, ...]:
    """A preset, or the names of modules."""
    if values["preset"] != CUSTOM:
        return values["preset"]
    return tuple(dict.fromkeys([*(values["modules"] or ()), *names_in(values["names"])]))


def alpha_of(values: Mapping[str, Any]) -> str:
    """A rule, or a number as text."""
    if values["alpha_rule"] != "fixed":
        return values["alpha_rule"]
    alpha = values["alpha_fixed"]
    return f"{alpha:.12g}" if isinstance(alpha, int | float) else str(alpha)


def flags_of(parts: Sequence[str] | None, unsloth_class: str = "FastLanguageModel") -> dict[str, bool]:
    """Unsloth's flags; none where the ticked parts are the class's own default."""
    ticked = set(parts or ())
    if ticked == set(DEFAULT_PARTS.get(unsloth_class, ())):
        return {}
    return {flag: part in ticked for flag, (_, part) in zip(FLAGS, PARTS, strict=True)}


def _targets(text: str) -> tuple[str, list[str], str]:
    """Preset, ticked modules and other names. The names of the model's own modules are ticked once it is read."""
    if text in PRESETS:
        return text, [], ""
    names = names_in(_text(text))
    if not names:
        raise ValueError("one of " + ", ".join(PRESETS) + ", or module names separated by commas")
    return CUSTOM, [], ", ".join(names)


def _alpha(text: str) -> tuple[str, float]:
    if text in ("r", "2r"):
        return text, DEFAULTS["alpha_fixed"]
    must = f"r, 2r or a number above 0 and at most {MAX_ALPHA:,}"
    return "fixed", float(_number(lambda n: 0 < n <= MAX_ALPHA, must)(text))


SHARED = {
    "targets": (("preset", "modules", "names"), _targets),
    "alpha": (("alpha_rule", "alpha_fixed"), _alpha),
    "steps": (("length", "length_unit"), lambda text: (_whole(1, MAX_TRAINING_TOKENS)(text), "steps")),
    "tokens": (("length", "length_unit"), lambda text: (_whole(1, MAX_TRAINING_TOKENS)(text), "tokens")),
}
"""Parameters that set several widgets."""


def write(values: Mapping[str, Any]) -> dict[str, str | None]:
    """The parameters of these values; None for one that has its default and is removed from the address."""
    params = {param: _spell(values[name], DEFAULTS[name]) for param, name in WIDGETS.items()}
    targets = targets_of(values)
    params["targets"] = _spell(targets if isinstance(targets, str) else ",".join(targets), DEFAULTS["preset"])
    params["alpha"] = _spell(alpha_of(values), DEFAULTS["alpha_rule"])
    for unit in LENGTHS:
        is_set = unit == values["length_unit"] and values["length"] is not None
        params[unit] = str(values["length"]) if is_set else None
    return params


def _spell(value: Any, default: Any) -> str | None:
    if value == default or value is None or value == "":
        return None
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, list):
        return ",".join(value) or NO_PARTS
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def usual(param: str) -> str:
    """What a parameter stands for where the address leaves it out."""
    name = WIDGETS.get(param) or {"targets": "preset", "alpha": "alpha_rule"}.get(param, "")
    value = DEFAULTS.get(name)
    return "not set" if value in (None, "", []) else ", ".join(value) if isinstance(value, list) else str(value)


def read(params: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Values for the widgets, defaults where the address has none or a wrong one, and a sentence for each mistake."""
    given, notes = _given(params)
    return DEFAULTS | given, notes


def changes(params: Mapping[str, str]) -> dict[str, Any]:
    """Only the widgets' values that these parameters set; none where one parameter is wrong."""
    given, notes = _given(params)
    return {} if notes else given


def _given(params: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    values, notes = {}, []
    known = {param: ((name,), OPTIONS[name].read) for param, name in WIDGETS.items()} | SHARED
    for param, (names, reader) in known.items():
        if param not in params:
            continue
        text = params[param]
        try:
            if len(text) > MAX_TEXT or UNPRINTABLE.search(text):
                raise ValueError(f"a text of at most {MAX_TEXT:,} characters on one line")
            read_values = reader(text)
        except ValueError as error:
            notes.append(wrong(param, UNPRINTABLE.sub("?", text[:SHOWN]), error))
            continue
        values.update(zip(names, read_values if len(names) > 1 else [read_values], strict=True))
    return values, notes


def wrong(param: str, text: str, must: object) -> str:
    """The sentence for a wrong parameter of the page's address. must: what it must be."""
    return f"The address has {param}={text[:SHOWN]}, but {param} must be {must}. The default is shown."


def address(params: Mapping[str, str | None]) -> str:
    """As controls.address takes it."""
    return json.dumps(params)
