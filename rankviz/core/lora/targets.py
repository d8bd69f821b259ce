"""Finds the modules that target names match, by PEFT's or Unsloth's rules, and the names of each preset.
Paths have {} in place of the block's number: "model.layers.{}.self_attn.q_proj"."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, NamedTuple

from rankviz.core.lora.config import FLAGS, NO_TARGETS, PRESETS, UNSLOTH_SEVEN, Framework, LoraConfig, UnslothClass
from rankviz.core.model.spec import LayerPart, ModelSpec
from rankviz.errors import InvalidSettingError

ALL_LINEAR = "all-linear"
LINEAR_KINDS = ("linear", "conv1d")
FUSED_QKV = ("qkv_proj", "query_key_value", "c_attn", "qkv", "Wqkv")
MLA_QKV = ("q_proj", "q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj")
"""Projections of DeepSeek's multi-head latent attention that stand for q_proj and v_proj."""


def names_in(text: str | None) -> tuple[str, ...]:
    """Split a text such as "q_proj, v_proj" into names."""
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def listed(names: Iterable[str]) -> str:
    """Join names to a phrase: "a, b and c"."""
    names = list(names)
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def targets_in(text: str) -> str | tuple[str, ...]:
    """Parse target modules as a user types them: a preset's name, or module names with commas between them."""
    return text.strip() if text.strip() in PRESETS else names_in(text)


def module_counts(model: ModelSpec) -> Counter[str]:
    """Return the module names that target_modules can match in this model, with the number of modules of each."""
    counts: Counter[str] = Counter()
    for layer in model.layers:
        if layer.kind not in ("experts", "router"):
            counts[layer.name] += layer.count
    return counts


def names_that_exist(model: ModelSpec) -> tuple[str, ...]:
    """Return the names of the model's linear layers, to list them in a message."""
    linear = {layer.name for layer in model.layers if layer.kind in LINEAR_KINDS}
    return tuple(name for name in module_counts(model) if name in linear)


def _match(path: str, target: str) -> tuple[bool, int | None]:
    """Return whether a target equals the last parts of a path, and the block number it has in place of {}, if any."""
    have, want, block = path.split("."), target.split("."), None
    for mine, theirs in zip(reversed(have), reversed(want), strict=False):
        if mine == "{}" and theirs.isdecimal():
            block = int(theirs)
        elif mine != theirs:
            return False, None
    return len(want) <= len(have), block


def hit_blocks(path: str, blocks: tuple[int, ...], target: str) -> tuple[int, ...] | None:
    """Return the numbers of the blocks in which the target matches this path; None for no match, () for a match on a
    path without blocks. blocks: Numbers of all blocks with this layer."""
    hit, block = _match(path, target)
    if not hit or block is None:
        return blocks if hit else None
    return (block,) if block in blocks else None


class Matcher:
    """Target names prepared for comparing many paths. A name with {} is a whole path, in all its blocks. pattern: A
    function used in place of the names; it returns True for a path that matches, in all its blocks."""

    def __init__(self, targets: Iterable[str], pattern: Callable[[str], bool] | None = None):
        self.targets, self.pattern = tuple(targets), pattern
        self.bare = frozenset(target for target in self.targets if "." not in target)
        self.numbers = tuple(target for target in self.bare if target.isdecimal())
        self.paths = frozenset(target for target in self.targets if "{}" in target)
        self.dotted = tuple(target for target in self.targets if "." in target and target not in self.paths)

    def blocks(self, path: str, blocks: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return those of `blocks` in which any target matches the layer at this path; None for no match, empty for a
        match outside blocks. blocks: Numbers of the blocks that have this layer."""
        if self.pattern:
            return blocks if self.pattern(path) else None
        if path.rpartition(".")[2] in self.bare or path in self.paths:
            return blocks
        hits = [hit for target in self.dotted if (hit := hit_blocks(path, blocks, target)) is not None]
        if not hits:
            return None
        return blocks if blocks in hits else tuple(sorted({block for hit in hits for block in hit}))

    def hits_path(self, path: str) -> bool:
        """Return True where a target matches this path in some block."""
        if self.pattern:
            return self.pattern(path)
        if path.rpartition(".")[2] in self.bare:
            return True
        return any(_match(path, target)[0] for target in (*self.dotted, *self.numbers))


def expand(
    model: ModelSpec, targets: str | tuple[str, ...], *, expert_names: tuple[str, ...], bare: bool = False
) -> tuple[str, ...] | str:
    """Return the module names of a preset; "all-linear" and lists are returned unchanged. expert_names: Names that
    select experts under the MoE scheme; the preset "mlp" includes them. bare: True for names without a dot, as
    Unsloth's pattern needs them, since it checks the path before the name itself."""
    if not targets:
        raise InvalidSettingError(NO_TARGETS)
    match targets:
        case tuple():
            return tuple(dict.fromkeys(targets))
        case "all-linear":
            return ALL_LINEAR
        case "unsloth":
            return UNSLOTH_SEVEN
        case "attention" | "mlp":
            names = (*minimal_names(model, targets), *(expert_names if targets == "mlp" else ()))
            return tuple(dict.fromkeys(name.rpartition(".")[2] if bare else name for name in names))
        case "qv":
            return query_value_names(model)
    raise InvalidSettingError(f"Target modules must be one of {', '.join(PRESETS)}, or module names (got {targets!r}).")


def minimal_names(model: ModelSpec, part: LayerPart) -> tuple[str, ...]:
    """Return the shortest names that match all linear layers of one part, and no others in the text model: "q_proj",
    but "attn.c_proj" on GPT-2. Layers of a second tower that have these names match too."""
    linear, clippable = [layer for layer in model.layers if layer.kind in LINEAR_KINDS], set(model.clippable_linears)
    others = [layer.path for layer in linear if layer.part not in (part, "vision")]
    others += [path for path in model.other_modules if path not in clippable]

    def shortest(path: str) -> str:
        """Return the shortest end of a path, without a block number, with which no path of `others` ends."""
        parts = path.rpartition("{}.")[2].split(".")
        names = (".".join(parts[-length:]) for length in range(1, len(parts) + 1))
        free = (name for name in names if not any(_match(other, name)[0] for other in others))
        return next(free, ".".join(parts))

    return tuple(dict.fromkeys(shortest(layer.path) for layer in linear if layer.part == part))


def query_value_names(model: ModelSpec) -> tuple[str, ...]:
    """Return q_proj and v_proj, the LoRA paper's targets, or the projections that contain them."""
    linear = [layer for layer in model.layers if layer.kind in LINEAR_KINDS]
    text = {layer.name for layer in linear if layer.part != "vision"}
    if "kv_b_proj" in text:
        return tuple(name for name in MLA_QKV if name in text)
    if {"q_proj", "v_proj"} <= text:
        return ("q_proj", "v_proj")
    if fused := next((name for name in FUSED_QKV if name in text), ""):
        return (fused,)
    exist = ", ".join(sorted({layer.name for layer in linear}))
    raise InvalidSettingError(f"This model has neither q_proj and v_proj nor a fused one; it has {exist}.")


OWN_FAMILIES = ("llama", "mistral", "gemma", "gemma2", "qwen2", "qwen3")
"""model_types that Unsloth loads with FastLlamaModel or a subclass of it (models/loader.py)."""
SPLIT_FAMILIES = ("gpt_oss",)
"""model_types whose 4-bit checkpoint stores each expert's projections as linear layers (models/mapper.py)."""


class Flags(NamedTuple):
    """Values of Unsloth's four flags, defaults filled in."""

    vision: bool = True
    language: bool = True
    attention: bool = True
    mlp: bool = True


ALL_ON = Flags()


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """The rule by which target names select modules. kind: "peft" for plain PEFT; for Unsloth "own" for its own
    families, "model" for FastModel, "cpu" without a GPU."""

    framework: Framework
    kind: Literal["peft", "own", "model", "cpu"]
    unsloth_class: UnslothClass = "FastLanguageModel"
    flags: Flags = ALL_ON
    flags_given: bool = False
    """True where the configuration sets at least one flag, instead of the class's defaults."""
    split_experts: bool = False
    """True where each expert is a module of its own, instead of a part of one fused parameter."""

    @property
    def scoped(self) -> bool:
        """True where Unsloth turns a list of names into a pattern of paths."""
        return self.kind == "model" and not all(self.flags)

    @property
    def unsloth_on_gpu(self) -> bool:
        return self.kind in ("own", "model")


def route_of(model: ModelSpec, lora: LoraConfig, framework: Framework, *, precision: str, cuda: bool) -> Route:
    """Return the rule for this model and configuration; raise InvalidSettingError for flags that Unsloth ignores.
    precision: Precision of the base, not "auto". cuda: True for training on a GPU."""
    if framework != "unsloth":
        return Route(framework=framework, kind="peft")
    if not cuda:
        if off := flags_not_followed(lora, "unsloth", cuda=False):
            raise InvalidSettingError(
                f"{listed(off)} cannot be off here: without a GPU, Unsloth trains all that the target modules name. "
                "Choose other target modules instead, such as attention or mlp."
            )
        return Route(framework=framework, kind="cpu")
    fast = lora.unsloth_class == "FastLanguageModel"
    given = [flag for flag, value in zip(FLAGS, lora.flags, strict=True) if value is not None]
    if fast and model.model_type in OWN_FAMILIES and precision != "int8":
        if given:
            raise InvalidSettingError(
                f"FastLanguageModel takes no {given[0]} for {model.model_type}: leave it out, or choose FastModel."
            )
        return Route(framework=framework, kind="own")
    defaults = Flags(vision=not fast)
    flags = Flags(*(own if own is not None else default for own, default in zip(lora.flags, defaults, strict=True)))
    for pair in (slice(2), slice(2, 4)):
        if not any(flags[pair]):
            raise InvalidSettingError(f"{' and '.join(FLAGS[pair])} are both off, so nothing would train.")
    return Route(
        framework=framework,
        kind="model",
        unsloth_class=lora.unsloth_class,
        flags=flags,
        flags_given=bool(given),
        split_experts=has_split_file(model) and precision in ("nf4", "nf4-dq"),
    )


def has_split_file(model: ModelSpec) -> bool:
    """Return True where a 4-bit load of this model fetches a checkpoint with a linear layer for each expert. Other
    checkpoints of the family store experts as fused parameters, and are loaded so (models/loader.py)."""
    checkpoint = model.unsloth_checkpoint
    return model.model_type in SPLIT_FAMILIES and model.has_experts and bool(checkpoint and checkpoint.quantized)


def flags_not_followed(lora: LoraConfig, framework: Framework, *, cuda: bool) -> tuple[str, ...]:
    """Return the flags that are off, although the training program cannot turn these layers off. Without a GPU
    finetune_vision_layers may be off, since only text models are trained there."""
    if framework == "unsloth" and cuda:
        return ()
    off = (flag for flag, value in zip(FLAGS, lora.flags, strict=True) if value is False)
    return tuple(flag for flag in off if cuda or flag != "finetune_vision_layers")


VISION = ("vision", "image", "visual", "patch")
LANGUAGE = ("language", "text")
ATTENTION = ("self_attn", "attention", "attn", "mixer")
MLP = ("mlp", "feed_forward", "ffn", "dense", "mixer")
EXPERT_NAMES = ("gate_proj", "up_proj", "down_proj", "gate_up_proj")
"""Module names that Unsloth also takes as a request to train the experts."""
BLOCKS = "model.layers.{}."
ROUTER = "router"
"""Module name that Unsloth leaves out when it chooses the targets itself."""
TUPLE_ROUTERS = ("llama4", "llama4_text", "phimoe")
"""model_types whose router is a linear layer that returns a tuple; Unsloth does not count it as linear."""

_EMBEDDERS = {
    "embedding_projection": "embed_vision.embedding_projection",
    "patch_dense": "vision_embedder.patch_dense",
    "input_proj": "vision_tower.patch_embedder.input_proj",
}
"""Path ends of Gemma's vision embedders, which are in neither attention nor MLP, by the last part of the path."""
_AUDIO = (
    *("q_proj", "k_proj", "v_proj", "relative_k_proj", "pos_proj", "post", "ffw_layer_1", "ffw_layer_2"),
    *("linear_start", "linear_end", "input_proj_linear", "output_proj"),
)
"""Module names in Gemma 4's audio tower, whose paths contain no name of attention or MLP."""


def refused(model: ModelSpec, names: tuple[str, ...], flags: Flags, *, experts: tuple[str, ...] = ()) -> bool:
    """Return True where Unsloth finds no layer for these names (RuntimeError: "No layers to finetune?"). experts: Paths
    of linear layers inside experts, which Unsloth counts here although its pattern does not match them."""
    linear = _linear(model)
    hit = (_hit(path, names, flags) or _is_gemma_embedder(model, path, names, flags) for path in linear)
    # Here a name counts after an attention or MLP part anywhere in the path, not only at its end.
    behind = (path.partition(part)[2] for path in (*linear, *experts) for part in _components(flags))
    return not any(hit) and not any("." + name in rest for rest in behind for name in names)


def matcher(model: ModelSpec, names: tuple[str, ...], flags: Flags) -> Callable[[str], bool]:
    """Return a function that tells whether Unsloth's pattern of these names matches a path."""
    linear = _linear(model)
    embedders = frozenset(path for path in linear if _is_gemma_embedder(model, path, names, flags))
    if embedders or any(_hit(path, names, flags) for path in linear):
        return lambda path: path in embedders or _hit(path, names, flags)
    components = _components(flags)
    return lambda path: any(part in before for before in _before(path, names) for part in components)


def all_linear(model: ModelSpec) -> Callable[[str], bool]:
    """Return the function of `matcher` for "all-linear", with every flag and Gemma 4's audio tower on."""
    hits = matcher(model, chosen_names(model), ALL_ON)
    # Linear layers named "gate" beside experts, which Unsloth trains only if they are named.
    paths = (*(layer.path for layer in model.layers), *model.other_modules)
    holders = {path.partition(".experts")[0] for path in paths if ".experts" in path}
    gates = (layer.path for layer in model.layers if layer.kind == "linear" and layer.name == "gate")
    skipped = frozenset(path for path in gates if path.rpartition(".")[0] in holders)
    # Gemma's embedders exist once each, so they are not among the names, and in the pattern all the same.

    def is_sound(path: str) -> bool:
        in_tower = "audio_tower." in path and path.rpartition(".")[2] in _AUDIO
        return "gemma4" in model.model_type and (in_tower or path.endswith("embed_audio.embedding_projection"))

    gemma = frozenset(
        path
        for path in _linear(model)
        if _is_gemma_embedder(model, path, _EMBEDDERS, ALL_ON) or is_sound(path.removesuffix(".linear"))
    )
    return lambda path: path not in skipped and (path in gemma or hits(path))


@lru_cache(maxsize=256)
def chosen_names(model: ModelSpec) -> tuple[str, ...]:
    """Return the module names that Unsloth lists for "all-linear": those of several layers, or of a numbered block."""
    layers = [layer for layer in model.layers if layer.kind in ("linear", "lm_head")]
    several = Counter(layer.name for layer in layers)
    listed = (layer.name for layer in layers if several[layer.name] > 1 or layer.blocks)
    return tuple(dict.fromkeys(n for n in listed if n != ROUTER and n not in model.refused_names))


@lru_cache(maxsize=64)
def with_plain_linears(model: ModelSpec) -> ModelSpec:
    """Return the model with linear layers in place of transformers' Conv1D, as bitsandbytes quantizes it."""
    if not any(layer.kind == "conv1d" for layer in model.layers):
        return model
    layers = (replace(layer, kind="linear") if layer.kind == "conv1d" else layer for layer in model.layers)
    return replace(model, layers=tuple(layers))


def names_experts(names: Iterable[str], flags: Flags) -> tuple[str, ...]:
    """Return the expert projections that the text of Unsloth's pattern requests (_moe_target_set_from_string)."""
    text = "|".join((*(MLP if flags.mlp else ()), *names, *(("experts",) if flags.language else ())))
    if not any(tag in text for tag in ("mlp", "ffn", "feed_forward", "experts")):
        return ()
    if listed := tuple(name for name in EXPERT_NAMES if name in text):
        return listed
    own = ("q_", "k_", "v_", "o_", "out_", "in_")
    other_projection = any(not piece.endswith(own) for piece in text.split("proj")[:-1])
    return EXPERT_NAMES if flags.mlp or other_projection else ()


@lru_cache(maxsize=256)
def _linear(model: ModelSpec) -> tuple[str, ...]:
    """Return the paths of layers that Unsloth counts as linear: nn.Linear and the head, without
    transformers' Conv1D and routers that return a tuple."""
    linear = (layer for layer in model.layers if layer.kind in ("linear", "lm_head"))
    return tuple(each.path for each in linear if each.name != ROUTER or model.model_type not in TUPLE_ROUTERS)


def _components(flags: Flags) -> tuple[str, ...]:
    return (*(ATTENTION if flags.attention else ()), *(MLP if flags.mlp else ()))


def _before(path: str, names: Iterable[str]) -> Iterable[str]:
    """Yield, for each name that ends the path, the part of the path before it."""
    return (path[: -len(name) - 1] for name in names if path.endswith("." + name))


def _hit(path: str, names: Iterable[str], flags: Flags) -> bool:
    """Return True where Unsloth's pattern matches the path, not counting the additions for Gemma."""
    towers = (*(VISION if flags.vision else ()), *(LANGUAGE if flags.language else ()))
    components = _components(flags)
    for before in _before(path, names):
        ends = [at + len(tag) for tag in towers if (at := before.find(tag)) >= 0]
        if ends and any(part in before[min(ends) :] for part in components):
            return True
        in_one_expert = path.partition(".experts.")[2][:1].isdigit()  # an expert that is a module of its own
        in_block = flags.language and before.startswith(BLOCKS) and not in_one_expert
        if in_block and any(part in before[len(BLOCKS) :] for part in components):
            return True
    return False


def _is_gemma_embedder(model: ModelSpec, path: str, names: Iterable[str], flags: Flags) -> bool:
    if not (flags.vision and flags.mlp) or not ("gemma4" in model.model_type or "gemma3n" in model.model_type):
        return False
    return any(name in names and path.removesuffix(".linear").endswith(end) for name, end in _EMBEDDERS.items())
