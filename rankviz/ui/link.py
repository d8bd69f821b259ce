"""Settings of Explore's question: defaults, choices, and their spelling in the page's address, which leaves defaults
out. A wrong parameter keeps its default and gives a sentence."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from rankviz.core.advice import use_case
from rankviz.core.bounds import UNPRINTABLE
from rankviz.core.cost.question import ASSUMED_RANK
from rankviz.core.cost.setup import LENGTH_SHARES, TrainingData
from rankviz.core.lora.config import FLAGS, MAX_ALPHA, PRESETS
from rankviz.core.lora.targets import names_in
from rankviz.dataset import SUFFIXES
from rankviz.dataset.rows import columns_of
from rankviz.errors import InvalidSettingError
from rankviz.exports import FORMATS
from rankviz.options import DATA, OPTIONS, Option

CUSTOM, NO_GPU, NO_PARTS = "custom", "none", "none"
MAX_TEXT = 2000
"""Maximum characters of an address parameter."""
SHOWN = 40
"""Maximum characters of a wrong parameter that its notice quotes."""
TABS = ("explore", "train", "runs", "adapter", "guide")
PARTS = [
    ("Vision layers", "vision"),
    ("Language layers", "language"),
    ("Attention modules", "attention"),
    ("MLP modules", "mlp"),
]
"""Labels and names of Unsloth's flags, in the order of FLAGS."""
DEFAULT_PARTS = {"FastLanguageModel": ["language", "attention", "mlp"], "FastModel": [part for _, part in PARTS]}
"""Parts of the model that each Unsloth class trains without flags, by class."""


def file_text(data: TrainingData) -> str:
    """Return a measured file as text for `file_in`, such as
    "instruction:1600:faq.csv:12.300.1550:instruction=Question,output=Answer"."""
    lengths = ".".join(map(str, data.lengths))
    parts = ".".join((data.form, *data.traits)), str(data.longest_tokens), data.file_name, lengths, data.columns
    return ":".join(parts).rstrip(":")


def file_in(text: str) -> TrainingData:
    """Parse the text of a measured file: form, traits, upper estimate of its longest example in tokens, name,
    lengths and columns (empty in older addresses). Raise InvalidSettingError where the text has another form."""
    form, longest, name, lengths, columns, *_ = [*text.split(":", 4), "", "", "", "", ""]
    columns_of(columns)
    form, *traits = form.split(".")
    numbers = [longest, *(lengths.split(".") if lengths else ())]
    whole = all(each.isascii() and each.isdigit() and len(each) < 10 for each in numbers)
    if not (whole and name.lower().endswith(SUFFIXES) and len(numbers) in (1, 1 + len(LENGTH_SHARES))):
        raise InvalidSettingError("The measured file must be form:longest:name, such as messages:1600:chats.jsonl.")
    longest, *shares = map(int, numbers)
    data = TrainingData(form=form, traits=tuple(traits), longest_tokens=longest, lengths=tuple(shares))
    data = replace(data, file_name=name, columns=columns)
    data.validate()
    return data


CHOICES: dict[str, list[tuple[str, str]]] = {
    "use_case": [(case.label, case.name) for case in use_case.USE_CASES],
    "preset": [
        ("Unsloth's seven projections", "unsloth"),
        ("All linear layers", "all-linear"),
        ("Attention", "attention"),
        ("MLP", "mlp"),
        ("q and v (LoRA paper)", "qv"),
        ("Custom (below)", CUSTOM),
    ],
    "alpha_rule": [("α = r", "r"), ("α = 2r", "2r"), ("Fixed", "fixed")],
    "moe": [
        ("Framework default", "default"),
        ("Attention and dense layers only", "linear-only"),
        ("PEFT's automatic remap of the experts", "peft-remap"),
        ("Unsloth, without the remap", "unsloth"),
        ("Per expert, target_parameters", "target-parameters"),
    ],
    "expert_rank": [("r", "r"), ("r / experts per token", "r/active"), ("r / all experts", "r/all")],
    "parts": PARTS,
    **{option: [(name, name) for name in OPTIONS[option].choices] for option in ("unsloth_class", "optim")},
    "framework": [("Unsloth", "unsloth"), ("TRL", "trl"), ("PEFT (k-bit)", "peft")],
    "precision": [
        ("NF4, double quantization (QLoRA)", "nf4-dq"),
        ("NF4", "nf4"),
        ("8 bit", "int8"),
        ("bf16", "bf16"),
        ("fp16", "fp16"),
        ("fp32", "fp32"),
    ],
    "checkpointing": [("Unsloth (offloaded)", "unsloth"), ("Hugging Face", "hf"), ("none", "none")],
    "loss_path": [("fused, in chunks", "fused"), ("Triton", "triton"), ("full logits", "full")],
    "length_unit": [("steps", "steps"), ("tokens", "tokens")],
    "take": [(form.label, name) for name, form in FORMATS.items() if name != "colab"],
}
"""(label, value) pairs by widget name. "colab" is not among the export formats, since it has a code box of its own."""


DEFAULTS: dict[str, Any] = {
    "model": "unsloth/Llama-3.1-8B",
    "r": ASSUMED_RANK,
    "use_case": "instruction",
    **dict.fromkeys(("examples", "example_tokens", "longest_tokens", "epochs")),
    "measured_file": "",
    "images": None,
    "image_size": "",
    "forgetting": False,
    "preset": OPTIONS["targets"].default,
    "modules": [],
    "names": "",
    "modules_to_save": "",
    "alpha_rule": "r",
    "alpha_fixed": 32,
    "rslora": False,
    "dora": False,
    **{name: OPTIONS[name].default for name in ("moe", "expert_rank")},
    "parts": DEFAULT_PARTS["FastLanguageModel"],
    **{name: OPTIONS[name].default for name in ("unsloth_class", "text_only", "framework", "precision", "batch")},
    **{name: OPTIONS[name].default for name in ("accumulation", "max_length", "optim", "checkpointing", "loss_path")},
    "length": None,
    "length_unit": "steps",
    "gpu": OPTIONS["gpu"].default,
    "usd_per_hour": None,
    "take": "script",
}
"""Initial values of Explore's widgets by name (r: the recommended rank), in the order of the page's script. Widgets of
one option have its name."""
SPELLED = {
    "longest_tokens": "longest",
    "measured_file": "file",
    "modules_to_save": "save",
    "unsloth_class": "class",
    "accumulation": "accum",
    "usd_per_hour": "usd",
}
"""Names of address parameters where they differ from the widget's name."""


def targets_of(values: Mapping[str, Any]) -> str | tuple[str, ...]:
    """Return the preset, or the module names for a custom choice."""
    if values["preset"] != CUSTOM:
        return values["preset"]
    return tuple(dict.fromkeys([*(values["modules"] or ()), *names_in(values["names"])]))


def alpha_of(values: Mapping[str, Any]) -> str:
    """Return the alpha rule ("r" or "2r"), or the fixed alpha as text."""
    if values["alpha_rule"] != "fixed":
        return values["alpha_rule"]
    alpha = values["alpha_fixed"]
    return f"{alpha:.12g}" if isinstance(alpha, int | float) else str(alpha)


def flags_of(parts: Sequence[str] | None, unsloth_class: str = "FastLanguageModel") -> dict[str, bool]:
    """Return Unsloth's flags by name; empty where the ticked parts are the default of the class."""
    ticked = set(parts or ())
    if ticked == set(DEFAULT_PARTS.get(unsloth_class, ())):
        return {}
    return {flag: part in ticked for flag, (_, part) in zip(FLAGS, PARTS, strict=True)}


def options_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of rankviz.options for the widgets' values, all but the rank and the data."""
    values = DEFAULTS | values
    own = {name: value for name, value in values.items() if name in OPTIONS and name not in (*DATA, "r")}
    return {
        **own,
        "model": (values["model"] or "").strip(),
        "targets": targets_of(values),
        "alpha": alpha_of(values),
        "expert_rank": values["expert_rank"] or DEFAULTS["expert_rank"],
        "tokens" if values["length_unit"] == "tokens" else "steps": values["length"],
        "gpu": None if values["gpu"] == NO_GPU else values["gpu"],
        **flags_of(values["parts"]),
    }


def _targets(text: str) -> tuple[str, list[str], str]:
    """Parse targets as (preset, ticked modules, other names); modules are ticked only once the model is read."""
    if text in PRESETS:
        return text, [], ""
    names = names_in(OPTIONS["targets"].read(text))
    if not names:
        raise ValueError("one of " + ", ".join(PRESETS) + ", or module names separated by commas")
    return CUSTOM, [], ", ".join(names)


def _alpha(text: str) -> tuple[str, float]:
    if text in ("r", "2r"):
        return text, DEFAULTS["alpha_fixed"]
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= MAX_ALPHA:
        raise ValueError(f"r, 2r or a number above 0 and at most {MAX_ALPHA:,}")
    return "fixed", value


def _parts(text: str) -> list[str]:
    known = [part for _, part in PARTS]
    parts = [] if text == NO_PARTS else text.split(",")
    if not set(parts) <= set(known):
        raise ValueError(f"some of {', '.join(known)}, separated by commas, or {NO_PARTS}")
    return [part for part in known if part in parts]


def _file(text: str) -> str:
    with suppress(InvalidSettingError):
        file_in(text)
        return text
    raise ValueError("the form, longest example and name of a file, such as messages:1600:chats.jsonl")


SHARED = {
    "targets": (("preset", "modules", "names"), _targets),
    "alpha": (("alpha_rule", "alpha_fixed"), _alpha),
    "steps": (("length", "length_unit"), lambda text: (OPTIONS["steps"].read(text), "steps")),
    "tokens": (("length", "length_unit"), lambda text: (OPTIONS["tokens"].read(text), "tokens")),
}
"""Widgets and parser of each address parameter that sets several widgets."""


def _reader(name: str) -> Callable[[str], Any]:
    if name in CHOICES and name != "expert_rank":  # for which a number can be typed too
        return Option("", str, "", "", choices=tuple(dict(CHOICES[name]).values())).read
    return OPTIONS["dora" if name == "forgetting" else name].read


OWN = {"parts": _parts, "measured_file": _file}
PARAMS: dict[str, tuple[tuple[str, ...], Callable[[str], Any]]] = {
    SPELLED.get(name, name): ((name,), OWN.get(name) or _reader(name))
    for name in DEFAULTS
    if not any(name in widgets for widgets, _ in SHARED.values())
} | SHARED
"""Widgets and parser of each address parameter; the parser's ValueError says what the value must be."""


def write(values: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the address parameters of these values; None removes a parameter (a default) from the address."""
    params = {param: _spell(values[names[0]], DEFAULTS[names[0]]) for param, (names, _) in PARAMS.items()}
    targets, length = targets_of(values), _spell(values["length"], None)
    params["targets"] = _spell(targets if isinstance(targets, str) else ",".join(targets), DEFAULTS["preset"])
    params["alpha"] = _spell(alpha_of(values), DEFAULTS["alpha_rule"])
    return params | {unit: length if unit == values["length_unit"] else None for unit in ("steps", "tokens")}


def _spell(value: Any, default: Any) -> str | None:
    if value == default or value is None or value == "":
        return None
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, list):
        return ",".join(value) or NO_PARTS
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def usual(param: str) -> str:
    """Return the value that applies where the address leaves out this parameter, as text, or "not set"."""
    value = DEFAULTS[PARAMS[param][0][0]] if param in PARAMS else None
    return "not set" if value in (None, "", []) else ", ".join(value) if isinstance(value, list) else str(value)


def read(params: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Return the values of those widgets that the parameters set, and a sentence for each mistake."""
    values, notes = {}, []
    for param, (names, reader) in PARAMS.items():
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
    """Return the sentence for a wrong address parameter. must: the expected value, such as "one of a, b"."""
    return f"The address has {param}={text[:SHOWN]}, but {param} must be {must}. The default is shown."
