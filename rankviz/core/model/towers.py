"""Finds the part of a multimodal checkpoint that a program loads to train on text, and chat models by their names."""

import re
from dataclasses import replace
from functools import lru_cache

from rankviz.core.model.spec import ModelSpec
from rankviz.errors import InvalidSettingError

LOADED_WHOLE = ("gemma3_text", "gemma4_text", "ministral3")
"""model_types of text models whose own class in transformers 5.17 finds no weights in the multimodal checkpoint."""
HAVE_TEXT_DECODER = ("gemma3", "gemma4", "llama4", "qwen3_5", "qwen3_5_moe")
"""model_types of multimodal models whose text model Unsloth loads alone with text_only=True, because the text model has
a class of its own, named after the family (models/loader.py; models/_utils.py, _is_family_text_decoder)."""


def offers_text_only(model: ModelSpec) -> bool:
    """Return True where Unsloth can load this model's text part without vision and audio towers."""
    return (model.whole or model).model_type in HAVE_TEXT_DECODER


@lru_cache(maxsize=256)
def as_loaded(model: ModelSpec, *, text_only: bool, unsloth_on_gpu: bool) -> ModelSpec:
    """Return the model as the training program loads it; raise InvalidSettingError where Unsloth ignores text_only.
    Unsloth loads the whole checkpoint unless text_only is set (models/loader.py). TRL, PEFT and Unsloth's CPU backend
    do too where the text model's own class finds no weights; there vision and audio towers get no adapter."""
    if unsloth_on_gpu and text_only and (model.whole or model.is_whole):
        if not offers_text_only(model):
            raise InvalidSettingError(
                f"Unsloth loads {model.id or 'this model'} with its other towers, with or without text_only. "
                "Leave text_only out."
            )
        return text_model(model) if model.is_whole else model
    if model.whole is None or not (unsloth_on_gpu or model.model_type in LOADED_WHOLE):
        return model
    whole = model.whole if unsloth_on_gpu else text_part(model.whole)  # Unsloth's target names may match other towers
    own = ("id", "name", "unsloth_checkpoint", "verified", "gated", "licence", "aliases", "source", "note")
    return replace(whole, tower="whole for text", **{field: getattr(model, field) for field in own})


def second_towers(model: ModelSpec) -> tuple[str, ...]:
    """Return the shortest paths that contain a vision or audio tower or a projector, and nothing of the text model,
    each with a dot at its end."""
    text = {prefix for layer in model.layers if layer.part != "vision" for prefix in _prefixes(layer.path)}
    vision = (each.path for each in (*model.layers, *model.plain_modules) if each.part == "vision")
    return tuple(dict.fromkeys(next(p for p in _prefixes(path) if p not in text) + "." for path in vision))


def text_part(model: ModelSpec) -> ModelSpec:
    """Return the model without vision and audio towers for LoRA; its sizes stay those of the whole model."""
    towers = second_towers(model)
    return replace(
        model,
        tower="text tower",
        layers=tuple(layer for layer in model.layers if layer.part != "vision"),
        other_modules=tuple(path for path in model.other_modules if not f"{path}.".startswith(towers)),
        clippable_linears=tuple(path for path in model.clippable_linears if not f"{path}.".startswith(towers)),
    )


@lru_cache(maxsize=64)
def text_model(whole: ModelSpec) -> ModelSpec:
    """Return the text model as its own class builds it: with that class's paths, and sizes without other towers."""
    part, towers = text_part(whole), second_towers(whole)
    vision = [layer for layer in whole.layers if layer.part == "vision"]
    plain = [module for module in whole.plain_modules if f"{module.path}.".startswith(towers)]
    total = whole.total_parameters - sum((len(module.blocks) or 1) * module.parameters for module in plain)
    total -= sum(layer.parameters + (layer.count * layer.out_features if layer.bias else 0) for layer in vision)
    layers = tuple(replace(layer, path=_unwrapped(layer.path)) for layer in part.layers)
    quantized = sum(layer.parameters for layer in layers if layer.kind in ("linear", "conv1d") and not layer.subclass)
    return replace(
        part,
        model_type=f"{whole.model_type}_text",
        architecture=whole.architecture.replace("ForConditionalGeneration", "ForCausalLM"),
        total_parameters=total,
        unquantized_parameters=total - quantized,
        layers=layers,
        input_embedding=_unwrapped(whole.input_embedding),
        output_embedding=_unwrapped(whole.output_embedding),
        plain_modules=tuple(
            replace(module, path=_unwrapped(module.path)) for module in whole.plain_modules if module not in plain
        ),
        other_modules=tuple(dict.fromkeys(filter(None, map(_unwrapped, part.other_modules)))),
        clippable_linears=tuple(map(_unwrapped, part.clippable_linears)),
    )


def _unwrapped(path: str) -> str:
    """Return a path without the prefix of the multimodal model (models/_utils.py, _get_text_only_key_mapping)."""
    for wrapper, own in (("language_model.model", "model"), ("model.language_model", "model"), ("language_model", "")):
        if path == wrapper or path.startswith(f"{wrapper}."):
            return f"{own}{path.removeprefix(wrapper)}".removeprefix(".")
    return path


def _prefixes(path: str) -> tuple[str, ...]:
    """Return a, a.b and a.b.c for "a.b.c"."""
    parts = path.split(".")
    return tuple(".".join(parts[:end]) for end in range(1, len(parts) + 1))


CHAT_WORDS = frozenset({"instruct", "chat", "it", "thinking", "reasoning", "distill", "r1", "sft", "dpo"})
BASE_WORDS = frozenset({"base", "pt", "intermediate"})
POST_TRAINED = re.compile(r"ernie-4\.5-")
"""Pattern of model families in which "PT" means post-trained; in others it means pretrained."""
CHAT_FAMILIES = re.compile(
    r"qwen3|qwq|qvq|gpt[-_]oss|phi-?[34]|glm-?4|glm-z1|lfm2|smollm3|deepseek[-_]v3|nemotron|muse[-_]glimmer|granite-4"
    r"|ernie-4\.5|zephyr|hermes|magistral|devstral|vicuna|openchat|kimi-|minimax-m"
)
"""Pattern of families in which a name without a suffix is the chat model; their base models have "base" in the name."""
BASE_NAMES = re.compile(
    r"(meta-)?(llama|code-?llama|tinyllama|qwen|codeqwen|gemma|mistral|mixtral|smollm|olmo|falcon|pythia|gpt|distilgpt|opt"
    r"|bloom|yi|mpt|mamba|bert|roberta|starcoder|granite)"
    r"[-_ \d.]*((e|\d+x)?\d+[bmt])?([-_ ]a\d+b)?([-_ ]v?[\d.]+)?([-_ ](small|medium|large|xl))?"
)
"""Pattern of names with family, version and size alone, in families whose chat models have a suffix."""
COPY = re.compile(
    r"(?:[-_.](?:unsloth|bnb|gguf|ggml|awq|gptq|mlx|exl[23]|hqq|eetq|aqlm|dwq|qat|onnx|openvino|ov|marlin|mlc|ct2|i1"
    r"|auto-?round|imat(?:rix)?|(?:un)?quantized|dynamic|block|ud|iq|i?q\d+(?:f\d+)?(?:_[a-z0-9]+){0,2}|g\d+|\d+g|gs\d+"
    r"|h\d+|w\d+a\d+|(?:b?f|fp|mxfp|nvfp|nf|u?int)\d+|\d+(?:\.\d+)?-?(?:bits?|bpw)|\d{5}-of-\d{5}))+$",
    re.IGNORECASE,
)
"""Pattern of suffixes of copies in another format, such as quantized ones; a copy is a chat model if the
original is."""


def is_chat(name: str, model_type: str = "", *, listed: bool | None = None) -> bool | None:
    """Return True for a chat model, False for a base model; None where neither the name nor a list tells. name: A Hub
    id, a folder, or a name in a paper. model_type: From config.json, for folders with other names. listed: True where a
    list of models calls it a chat model; None where it is in no list."""
    name = last_part(name)
    words = set(re.split(r"[-_.]", name))
    if listed:
        return True
    if "base" in words or (words & BASE_WORDS and not POST_TRAINED.match(name)):
        return False
    if words & CHAT_WORDS or CHAT_FAMILIES.search(f"{name} {model_type}"):
        return True
    return False if listed is False or BASE_NAMES.fullmatch(COPY.sub("", name).removesuffix("-hf")) else None


def last_part(model_id: str) -> str:
    """Return the name without its owner or folders, in lower case."""
    return re.split(r"[/\\]", model_id.strip().removesuffix(":whole").rstrip("/\\"))[-1].lower()
