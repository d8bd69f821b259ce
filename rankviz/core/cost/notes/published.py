"""Says how a checkpoint that is published already quantized is loaded by transformers for training.

transformers 5.17 takes no second quantization on top (quantizers/auto.py, merge_quantization_configs), and trains such
a checkpoint only once it is dequantized as it is loaded. tests/export/test_published.py loads small ones so.
"""

import re
from typing import NamedTuple

from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.model.spec import ModelSpec
from rankviz.units import memory_size

CLASSES = {"mxfp4": "Mxfp4Config", "fp8": "FineGrainedFP8Config"}
"""quant_method of config.json: the class of transformers that dequantizes it with dequantize=True."""
FAMILIES = (
    (r"(openai|unsloth)/gpt-oss(-safeguard)?-\d+b", "mxfp4"),
    (r"(deepseek-ai|unsloth)/deepseek-(v3(\.\d)?|r1)(-base|-0324|-0528|-zero|-terminus|-exp)?", "fp8"),
    (r"mistralai/ministral-3-\d+b-instruct-2512", "fp8"),
    (r"unsloth/ministral-3-\d+b-instruct-2512-fp8", "fp8"),
    (r"(qwen|unsloth)/qwen3[^/]*-fp8", "fp8"),
)
"""The whole Hub id in lower case: quant_method, for checkpoints whose names don't always tell. Sources: for gpt-oss and
Ministral 3 the scales in the published totals (assets/models, "note" and "source"), for Ministral 3 and Qwen3 also the
8-bit rows of Unsloth's models/mapper.py, for DeepSeek transformers' page on fine-grained FP8. Checked 2026-11-26."""
_OTHER = re.compile(r"(^|[-_.])(fp8|awq|gptq|nvfp4|mxfp4|w4a16|w8a8)([-_.]|$)")
"""Parts of names of checkpoints quantized by another tool."""


class Published(NamedTuple):
    """How the checkpoint is stored."""

    name: str
    """"MXFP4"."""
    config_class: str
    """Of transformers, to be given dequantize=True; empty where RankViz knows none."""


def by_name(model_id: str) -> Published | None:
    """How a checkpoint is stored that is quantized already; None for one in 16 or 32 bit, or of bitsandbytes.

    model_id: Hub id.
    """
    name = model_id.lower()
    for pattern, method in FAMILIES:
        if re.fullmatch(pattern, name):
            return Published(method.upper(), CLASSES[method])
    match = _OTHER.search(name.split("/")[-1])
    return Published(match[2].upper(), "") if match else None


def by_method(method: str) -> Published | None:
    """The same by quant_method of config.json, empty where it has none."""
    return None if method in ("", "bitsandbytes") else Published(method.upper(), CLASSES.get(method, ""))


def in_16_bit(model_id: str) -> str:
    """The same model published in 16 bit, which can be quantized as it is loaded; empty where RankViz knows none."""
    match = re.fullmatch(r"(?:mistralai|unsloth)/(ministral-3-\d+b-instruct-2512)(?:-fp8)?", model_id, re.IGNORECASE)
    return f"unsloth/{match[1]}" if match else ""


def as_stored(model: ModelSpec, model_id: str, stored: Published | None, training: TrainingSetup) -> tuple[str, ...]:
    """A sentence on a checkpoint that is published quantized."""
    if stored is None:
        return ()
    if not stored.config_class:
        return (
            f"{model_id} is published in {stored.name}. RankViz does not know how transformers loads it for training. "
            "Choose the 16-bit checkpoint of this model instead.",
        )
    size = memory_size(2 * model.total_parameters)
    text = f"{model_id} is published in {stored.name}. Training loads it dequantized to 16 bit: {size} of weights."
    if training.quantized:
        bits = "8" if training.precision == "int8" else "4"
        text += f" transformers cannot load it in {bits} bit, so the estimate of memory does not apply."
        other = in_16_bit(model_id)
        text += f" For {bits} bit, choose {other}." if other else ""
    return (text,)
