"""Converts the question to query parameters of the page's address and back. Defaults are left out.

One table serves both directions. A wrong parameter leaves its default in place and gives a sentence.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from rankviz.core.bounds import UNPRINTABLE
from rankviz.core.cost.question import MAX_USD_PER_HOUR
from rankviz.core.cost.setup import (
    MAX_ACCUMULATION,
    MAX_BATCH,
    MAX_EPOCHS,
    MAX_EXAMPLE_TOKENS,
    MAX_EXAMPLES,
    MAX_LENGTH,
    MAX_TRAINING_TOKENS,
)
from rankviz.core.lora.config import EXPERT_RANKS, MAX_ALPHA, MAX_RANK, PRESETS, UNSLOTH_CLASSES
from rankviz.core.lora.targets import names_in
from rankviz.errors import InvalidSettingError
from rankviz.export.formats import FORMATS
from rankviz.ui.parts import question
from rankviz.ui.parts.question import CUSTOM, DEFAULTS, file_in

NO_PARTS = "none"
MAX_TEXT = 2000
"""Characters of a parameter, such as your own price of every GPU."""
MAX_DIGITS = 20
SHOWN = 40
"""Characters of a wrong parameter in its note."""
TABS = ("explore", "train", "runs", "adapter", "guide")
RENAMED_TABS = {"sweep": "runs"}
"""Of older addresses."""


class Param(NamedTuple):
    """widget: a name of DEFAULTS. read: the value of a text; a ValueError says what it must be."""

    widget: str
    read: Callable[[str], Any]


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > MAX_DIGITS or not low <= int(text) <= high:
            raise ValueError(f"a whole number from {low:,} to {high:,}")
        return int(text)

    return read


def _one_of(choices: list) -> Callable[[str], str]:
    values = [choice[1] if isinstance(choice, tuple) else choice for choice in choices]

    def read(text: str) -> str:
        if text not in values:
            raise ValueError("one of " + ", ".join(values))
        return text

    return read


def _expert_rank(text: str) -> str:
    try:
        return text if text in EXPERT_RANKS else str(_whole(1, MAX_RANK)(text))
    except ValueError as error:
        raise ValueError(f"one of {', '.join(EXPERT_RANKS)}, or {error}") from None


def _flag(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError("0 or 1")
    return text == "1"


def _price(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= MAX_USD_PER_HOUR:
        raise ValueError(f"a number of dollars from 0 to {MAX_USD_PER_HOUR:,}")
    return value


def _epochs(text: str) -> float | int:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= MAX_EPOCHS:
        raise ValueError(f"a number above 0 and at most {MAX_EPOCHS:,}")
    return int(value) if value.is_integer() else value


def _prices(text: str) -> str:
    try:
        question.prices_of(_text(text))
    except InvalidSettingError as error:
        raise ValueError("GPU ids with a price each, such as l4:0.75,t4:0.2") from error
    return text


def _file(text: str) -> str:
    try:
        file_in(text)
    except InvalidSettingError as error:
        raise ValueError("the form, longest example and name of a file, such as messages:1600:chats.jsonl") from error
    return text


def _text(text: str) -> str:
    if len(text) > 300:
        raise ValueError("at most 300 characters long")
    return text


def _parts(text: str) -> list[str]:
    known = [part for _, part in question.PARTS]
    parts = [] if text == NO_PARTS else text.split(",")
    if not set(parts) <= set(known):
        raise ValueError(f"some of {', '.join(known)}, separated by commas, or {NO_PARTS}")
    return [part for part in known if part in parts]


PARAMS = {
    "model": Param("model", _text),
    "r": Param("r", _whole(1, MAX_RANK)),
    "use_case": Param("use_case", _one_of(question.USE_CASES)),
    "examples": Param("examples", _whole(1, MAX_EXAMPLES)),
    "example_tokens": Param("example_tokens", _whole(1, MAX_EXAMPLE_TOKENS)),
    "longest": Param("longest_tokens", _whole(1, MAX_EXAMPLE_TOKENS)),
    "epochs": Param("epochs", _epochs),
    "file": Param("measured_file", _file),
    "forgetting": Param("forgetting", _flag),
    "save": Param("save", _text),
    "rslora": Param("use_rslora", _flag),
    "dora": Param("use_dora", _flag),
    "moe": Param("moe_scheme", _one_of(question.MOE_SCHEMES)),
    "expert_rank": Param("expert_rank", _expert_rank),
    "parts": Param("parts", _parts),
    "text_only": Param("text_only", _flag),
    "class": Param("unsloth_class", _one_of(list(UNSLOTH_CLASSES))),
    "framework": Param("framework", _one_of(question.FRAMEWORKS)),
    "precision": Param("precision", _one_of(question.PRECISIONS)),
    "batch": Param("batch", _whole(1, MAX_BATCH)),
    "accum": Param("accumulation", _whole(1, MAX_ACCUMULATION)),
    "max_length": Param("max_length", _whole(1, MAX_LENGTH)),
    "optim": Param("optim", _one_of(question.OPTIMS)),
    "checkpointing": Param("checkpointing", _one_of(question.CHECKPOINTING)),
    "loss_path": Param("loss_path", _one_of(question.LOSS_PATHS)),
    "gpu": Param("gpu", _text),
    "usd": Param("usd_per_hour", _price),
    "prices": Param("prices", _prices),
    "take": Param("take", _one_of([name for name in FORMATS if name != "colab"])),  # has a box of its own
}
LENGTHS = ("steps", "tokens")


def write(values: Mapping[str, Any]) -> dict[str, str | None]:
    """The parameters of these values; None for one that has its default and is removed from the address."""
    params = {name: _spell(values[p.widget], DEFAULTS[p.widget]) for name, p in PARAMS.items()}
    targets = question.targets_of(values)
    params["targets"] = _spell(targets if isinstance(targets, str) else ",".join(targets), DEFAULTS["preset"])
    params["alpha"] = _spell(question.alpha_of(values), DEFAULTS["alpha_rule"])
    for unit in LENGTHS:
        is_set = unit == values["length_unit"] and values["length"] is not None
        params[unit] = str(values["length"]) if is_set else None
    return params


def usual(name: str) -> str:
    """What a parameter stands for where the address leaves it out."""
    widget = {"targets": "preset", "alpha": "alpha_rule"}.get(name) or (PARAMS[name].widget if name in PARAMS else "")
    value = DEFAULTS.get(widget)
    return "not set" if value in (None, "", []) else ", ".join(value) if isinstance(value, list) else str(value)


def address(params: Mapping[str, str | None]) -> str:
    """As controls.address takes it."""
    return json.dumps(params)


def _spell(value: Any, default: Any) -> str | None:
    if value == default or value is None or value == "":
        return None
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, list):
        return ",".join(value) or NO_PARTS
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def read(params: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Values for the widgets, defaults where the address has none or a wrong one, and a sentence for each mistake."""
    values, notes = dict(DEFAULTS), []

    def use(name: str, reader: Callable[[str], Any], *widgets: str) -> None:
        if name not in params:
            return
        text = params[name]
        try:
            if len(text) > MAX_TEXT or UNPRINTABLE.search(text):
                raise ValueError(f"a text of at most {MAX_TEXT:,} characters on one line")
            read_values = reader(text)
        except ValueError as error:
            printable = UNPRINTABLE.sub("?", text[:SHOWN])
            notes.append(f"The address has {name}={printable}, but {name} must be {error}. The default is shown.")
            return
        values.update(zip(widgets, read_values if len(widgets) > 1 else [read_values], strict=True))

    for name, param in PARAMS.items():
        use(name, param.read, param.widget)
    use("targets", _targets, "preset", "modules", "names")
    use("alpha", _alpha, "alpha_rule", "alpha_fixed")
    for unit in LENGTHS:
        use(unit, lambda text, unit=unit: (_whole(1, MAX_TRAINING_TOKENS)(text), unit), "length", "length_unit")
    return values, notes


def changes(params: Mapping[str, str]) -> dict[str, Any]:
    """Only the widgets' values that these parameters set; none where one parameter is wrong."""
    values, notes = read(params)
    if notes:
        return {}
    widgets = {PARAMS[name].widget for name in params if name in PARAMS}
    if "targets" in params:
        widgets |= {"preset", "modules", "names"}
    if params.keys() & set(LENGTHS):
        widgets |= {"length", "length_unit"}
    return {name: values[name] for name in widgets}


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
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= MAX_ALPHA:
        raise ValueError(f"r, 2r or a number above 0 and at most {MAX_ALPHA:,}")
    return "fixed", value
