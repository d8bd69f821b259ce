"""The pattern that Unsloth's FastModel makes of target names: which paths it hits.

For a name L (unsloth 2026.10.9, models/vision.py, get_peft_model; unsloth_zoo/peft_utils.py, get_peft_regex) it is

    .*?(TOWER).*?(COMPONENT).*?\\.L   or   model.layers.N, then (COMPONENT), then \\.L, outside experts.N

TOWER names vision or language modules, COMPONENT attention or MLP modules, each by its flag. If no linear layer matches
as a whole, the tower is dropped; if then none has a match anywhere in its path, Unsloth refuses. What the pattern hits
is PEFT's to wrap or to refuse. "all-linear" is the pattern of all last names, with all flags on.

Not covered: encoder-decoder models, Qwen's Omni wrappers, experts that are a module each (none in the catalogue but
gpt-oss in 4 bit, see route.py), and modules without parameters that a name hits by chance.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import lru_cache

from rankviz.core.lora.route import ALL_ON, Flags
from rankviz.core.model.spec import ModelSpec

VISION = ("vision", "image", "visual", "patch")
LANGUAGE = ("language", "text")
ATTENTION = ("self_attn", "attention", "attn", "mixer")
MLP = ("mlp", "feed_forward", "ffn", "dense", "mixer")
EXPERT_NAMES = ("gate_proj", "up_proj", "down_proj", "gate_up_proj")
"""Names that Unsloth also reads as a request for the experts."""
BLOCKS = "model.layers.{}."
ROUTER = "router"
"""Left out where Unsloth chooses the names."""
TUPLE_ROUTERS = ("llama4", "llama4_text", "phimoe")
"""model_types whose router is a linear layer that returns a tuple, which Unsloth does not take for one."""

_EMBEDDERS = {
    "embedding_projection": "embed_vision.embedding_projection",
    "patch_dense": "vision_embedder.patch_dense",
    "input_proj": "vision_tower.patch_embedder.input_proj",
}
"""Gemma's vision embedders, which lie outside attention and MLP."""
_AUDIO = frozenset(
    [
        "q_proj",
        "k_proj",
        "v_proj",
        "relative_k_proj",
        "pos_proj",
        "post",
        "ffw_layer_1",
        "ffw_layer_2",
        "linear_start",
        "linear_end",
        "input_proj_linear",
        "output_proj",
    ]
)
"""Leaves of Gemma 4's sound tower, which carry no name of attention or MLP."""


def refused(model: ModelSpec, names: tuple[str, ...], flags: Flags, *, experts: tuple[str, ...] = ()) -> bool:
    """Whether Unsloth finds no layer for these names (RuntimeError: "No layers to finetune?").

    experts: paths of linear layers inside experts, which the pattern itself passes by.
    """
    linear = _linear(model)
    return not any(_hit(path, names, flags) or _is_gemma_embedder(model, path, names, flags) for path in linear) and (
        not any(_anywhere(path, names, flags) for path in (*linear, *experts))
    )


def matcher(model: ModelSpec, names: tuple[str, ...], flags: Flags) -> Callable[[str], bool]:
    """Whether the pattern of these names hits a path, {} for the block's number."""
    linear = _linear(model)
    embedders = frozenset(path for path in linear if _is_gemma_embedder(model, path, names, flags))
    if embedders or any(_hit(path, names, flags) for path in linear):
        return lambda path: path in embedders or _hit(path, names, flags)
    components = _components(flags)
    return lambda path: any(part in before for before in _before(path, names) for part in components)


def all_linear(model: ModelSpec) -> Callable[[str], bool]:
    """As matcher, for "all-linear", which turns every flag and the sound tower on."""
    hits, skipped = matcher(model, chosen_names(model), ALL_ON), _router_gates(model)
    # Gemma's embedders exist once each, so they are not among the names, and in the pattern all the same.
    gemma = frozenset(
        path
        for path in _linear(model)
        if _is_gemma_embedder(model, path, _EMBEDDERS, ALL_ON)
        or ("gemma4" in model.model_type and _is_gemma_sound(path.removesuffix(".linear")))
    )
    return lambda path: path not in skipped and (path in gemma or hits(path))


@lru_cache(maxsize=256)
def chosen_names(model: ModelSpec) -> tuple[str, ...]:
    """Last names that Unsloth lists for "all-linear": those of several layers, or in a numbered block."""
    layers = [layer for layer in model.layers if layer.kind in ("linear", "lm_head")]
    counts: Counter[str] = Counter()
    for layer in layers:
        counts[layer.name] += layer.count
    listed = (layer.name for layer in layers if counts[layer.name] > 1 or layer.blocks)
    return tuple(dict.fromkeys(n for n in listed if n != ROUTER and n not in model.refused_names))


@lru_cache(maxsize=64)
def with_plain_linears(model: ModelSpec) -> ModelSpec:
    """The model with linear layers in place of transformers' Conv1D, as bitsandbytes quantizes them."""
    if not any(layer.kind == "conv1d" for layer in model.layers):
        return model
    layers = (replace(layer, kind="linear") if layer.kind == "conv1d" else layer for layer in model.layers)
    return replace(model, layers=tuple(layers))


def names_experts(names: Iterable[str], flags: Flags) -> tuple[str, ...]:
    """Which experts' projections the pattern's text asks for (models/_utils.py, _moe_target_set_from_string)."""
    text = "|".join((*(MLP if flags.mlp else ()), *names, *(("experts",) if flags.language else ())))
    if not any(tag in text for tag in ("mlp", "ffn", "feed_forward", "experts")):
        return ()
    if listed := tuple(name for name in EXPERT_NAMES if name in text):
        return listed
    return EXPERT_NAMES if flags.mlp or _has_other_projection(text) else ()


def _has_other_projection(text: str) -> bool:
    """A "proj" that ends none of q_, k_, v_, o_, in_ and out_proj."""
    pieces = text.split("proj")[:-1]
    return any(not piece.endswith(("q_", "k_", "v_", "o_", "out_", "in_")) for piece in pieces)


@lru_cache(maxsize=256)
def _linear(model: ModelSpec) -> tuple[str, ...]:
    """What Unsloth takes for a linear layer: nn.Linear, the head included, and not transformers' Conv1D."""
    linear = (layer for layer in model.layers if layer.kind in ("linear", "lm_head"))
    return tuple(each.path for each in linear if each.name != ROUTER or model.model_type not in TUPLE_ROUTERS)


def _components(flags: Flags) -> tuple[str, ...]:
    return (*(ATTENTION if flags.attention else ()), *(MLP if flags.mlp else ()))


def _before(path: str, names: Iterable[str]) -> Iterable[str]:
    """What precedes each name that ends the path."""
    return (path[: -len(name) - 1] for name in names if path.endswith("." + name))


def _hit(path: str, names: Iterable[str], flags: Flags) -> bool:
    """Whether the pattern matches the whole path, Gemma's additions aside."""
    towers = (*(VISION if flags.vision else ()), *(LANGUAGE if flags.language else ()))
    components = _components(flags)
    for before in _before(path, names):
        ends = [at + len(tag) for tag in towers if (at := before.find(tag)) >= 0]
        if ends and any(part in before[min(ends) :] for part in components):
            return True
        in_block = flags.language and before.startswith(BLOCKS) and not _in_one_expert(path)
        if in_block and any(part in before[len(BLOCKS) :] for part in components):
            return True
    return False


def _anywhere(path: str, names: tuple[str, ...], flags: Flags) -> bool:
    """Whether the path has a match that need not reach its end: "down_proj" in "mlp.experts.down_projs.0"."""
    for part in _components(flags):
        at = path.find(part)
        if at >= 0 and any("." + name in path[at + len(part) :] for name in names):
            return True
    return False


def _in_one_expert(path: str) -> bool:
    """ "…experts.3.up_proj": an expert that is a module of its own."""
    _, found, after = path.partition(".experts.")
    return bool(found) and after[:1].isdigit()


def _is_gemma_embedder(model: ModelSpec, path: str, names: Iterable[str], flags: Flags) -> bool:
    if not (flags.vision and flags.mlp) or not ("gemma4" in model.model_type or "gemma3n" in model.model_type):
        return False
    return any(name in names and path.removesuffix(".linear").endswith(end) for name, end in _EMBEDDERS.items())


def _is_gemma_sound(path: str) -> bool:
    if path.endswith("embed_audio.embedding_projection"):
        return True
    return "audio_tower." in path and path.rsplit(".", 1)[-1] in _AUDIO


def _router_gates(model: ModelSpec) -> frozenset[str]:
    """Linear layers named "gate" beside experts, which Unsloth doesn't train unless they are named."""
    holders = {path.partition(".experts")[0] for path in _all_paths(model) if ".experts" in path}
    gates = (layer for layer in model.layers if layer.kind == "linear" and layer.name == "gate")
    return frozenset(layer.path for layer in gates if layer.path.rpartition(".")[0] in holders)


def _all_paths(model: ModelSpec) -> Iterable[str]:
    return (*(layer.path for layer in model.layers), *model.other_modules)
