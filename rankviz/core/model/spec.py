"""Describes a base model as LoRA sees it: linear layers by block, what a block holds, and how blocks repeat."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rankviz.core.quantity import brief


@dataclass(frozen=True, kw_only=True, slots=True)
class ActivationBytes:
    """Bytes per token that one block holds in training without an adapter."""

    kept: int
    """Bytes that autograd saves for the backward pass, without the block's own input."""
    gradients: int
    """Peak bytes of gradients in the backward pass, in addition to `kept`."""
    own_input: int = 0
    """Bytes of the block's input, if autograd saves it; with checkpointing the checkpoint already holds it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockActivations:
    """Bytes that a group of equal blocks holds in training, by dtype of activations."""

    blocks: tuple[int, ...]
    bf16: ActivationBytes
    fp32: ActivationBytes
    autocast: ActivationBytes | None = None
    """Bytes in bf16 under autocast, which runs layer norms and powers in fp32; None if equal to `bf16`."""

    def held(self, width: int, *, autocast: bool) -> ActivationBytes:
        """Return the bytes for this dtype of activations. width: Bytes of one activation."""
        if width == 4:
            return self.fp32
        return self.autocast if autocast and self.autocast else self.bf16


LayerKind = Literal["linear", "conv1d", "conv", "experts", "router", "embedding", "lm_head"]
LayerPart = Literal["attention", "mlp", "vision", "embedding", "head", "other"]
"""Part of the model that a layer belongs to. "vision" is any second tower, also audio, with its projectors; "other" is
routers, Mamba mixers, short convolutions and per-layer inputs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearLayer:
    """A weight with one module path and one shape, in all blocks that have it."""

    path: str
    """Module path with {} for the block's number: "model.layers.{}.self_attn.q_proj". Without {} it exists once."""
    in_features: int
    out_features: int
    blocks: tuple[int, ...] = ()
    """Blocks that have the layer; empty for a path without {}."""
    kind: LayerKind = "linear"
    """"experts" is a fused 3-D parameter and "router" a 2-D one; neither is an nn.Linear for PEFT. "conv1d" is
    transformers' Conv1D, a transposed linear layer. "conv" is torch's convolution without groups, with in_features =
    channels × kernel."""
    part: LayerPart = "other"
    num_experts: int = 1
    bias: bool = False
    kernel: tuple[int, ...] = ()
    subclass: bool = False
    """True for a subclass of nn.Linear (FalconLinear), which bitsandbytes does not quantize."""

    @property
    def name(self) -> str:
        """Name that target_modules matches ("q_proj"), or for a router target_parameters ("gate.weight")."""
        return ".".join(self.path.split(".")[-2:]) if self.kind == "router" else self.path.rsplit(".", 1)[-1]

    @property
    def count(self) -> int:
        return len(self.blocks) or 1

    @property
    def parameters(self) -> int:
        """Number of weights in all blocks together, without biases."""
        return self.count * self.num_experts * self.in_features * self.out_features


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnTensor:
    """A tensor of a module itself, not of a submodule: a parameter, or a buffer that is saved with it."""

    name: str
    shape: tuple[int, ...]
    buffer: bool = False
    fp32: bool = False
    """True for a tensor that is loaded in fp32 with any dtype of the base."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainModule:
    """A module with tensors that is not a linear layer, embedding or convolution, in all blocks: norms, routers, fused
    experts, activations with parameters. It gets no adapter."""

    path: str
    tensors: tuple[OwnTensor, ...]
    part: LayerPart = "other"
    blocks: tuple[int, ...] = ()
    is_norm: bool = False
    """True for a module that Unsloth counts as a normalization layer: its class has "Norm" in its name."""

    @property
    def parameters(self) -> int:
        """Number of parameters in one block, without buffers."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors if not tensor.buffer)

    @property
    def has_weight(self) -> bool:
        """True with a tensor named "weight"; Unsloth's FastModel freezes modules without one."""
        return any(tensor.name == "weight" for tensor in self.tensors)


@dataclass(frozen=True, kw_only=True, slots=True)
class UnslothCheckpoint:
    """Repository that Unsloth loads in place of a model when 4 bit is requested."""

    repository: str
    file_bytes: int | None = None
    """Bytes of the repository's weight files; None where not known."""
    at_most_bytes: int | None = None
    """Upper limit of the weights' bytes, from a measured load; None where `file_bytes` is known."""

    @property
    def dynamic(self) -> bool:
        """True for a dynamic 4-bit checkpoint, which keeps some layers in 16 bit."""
        return self.repository.lower().endswith("-unsloth-bnb-4bit")

    @property
    def quantized(self) -> bool:
        """True for files in 4 bit; Unsloth quantizes other files while it loads them."""
        return self.repository.lower().endswith("-bnb-4bit")

    @property
    def stays_16_bit(self) -> bool:
        """True for a checkpoint that Unsloth loads in 16 bit with any setting (models/loader.py)."""
        return self.repository.lower().endswith("-bf16")


WHOLE = ":whole"
"""Suffix of the id of a whole multimodal model whose text model has a row of its own. No library knows this suffix."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """Shapes of a base model, with their sources."""

    __repr__ = brief

    id: str
    """Hub id; WHOLE is appended for a whole multimodal model whose text model has a row of its own."""
    name: str
    architecture: str
    """Class of transformers that was built, such as "LlamaForCausalLM"."""
    model_type: str
    tower: Literal["text", "text tower", "whole for text", "whole model"]
    """Kind of model: "text" is text-only, the others multimodal. "text tower" is the text model alone. "whole for text"
    is a text model whose program loads the whole checkpoint (towers.py)."""
    total_parameters: int
    unquantized_parameters: int
    """Parameters that 4-bit and 8-bit quantizers leave in 16 bit: embeddings, head, norms, biases, some experts."""
    num_hidden_layers: int
    hidden_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    tie_word_embeddings: bool
    config_ties: bool = False
    """True where the top level of config.json says that embedding and head are tied, which PEFT and Unsloth rely on.
    Wrappers such as BLIP-2 tie them in an inner config alone."""
    num_experts: int = 0
    num_experts_per_tok: int = 0
    layer_types: tuple[str, ...] = ()
    """Kind of each block, where config.json states it (full_attention, sliding_attention, linear_attention, ...)."""
    sliding_window: int | None = None
    max_position_embeddings: int | None = None
    """Most tokens of a sequence; None where config.json does not say it."""
    layers: tuple[LinearLayer, ...] = ()
    input_embedding: str = ""
    """Path of the module that get_input_embeddings() returns."""
    output_embedding: str = ""
    """Path of the module that get_output_embeddings() returns; empty if there is none."""
    plain_modules: tuple[PlainModule, ...] = ()
    other_modules: tuple[str, ...] = ()
    """Paths of all modules that are not listed above. PEFT refuses a target name that matches one of them."""
    clippable_linears: tuple[str, ...] = ()
    """Paths in other_modules of wrappers of an nn.Linear "linear" (Gemma 4): PEFT refuses them, Unsloth does not."""
    refused_names: tuple[str, ...] = ()
    """Module names on which PEFT refuses LoRA for this model_type (out_proj and conv1d of Mamba families)."""
    peft_remap: Literal["", "mixtral", "qwen2_moe"] = ""
    """Rules by which PEFT silently rewrites a LoRA config for this model_type on transformers 5; empty for none."""
    activation_bytes_per_token: tuple[BlockActivations, ...] = ()
    """Bytes that blocks hold in training, measured on transformers' classes; empty where these could not be run."""
    unsloth_checkpoint: UnslothCheckpoint | None = None
    """Checkpoint that Unsloth loads instead of this model in 4 bit. None where Unsloth quantizes the model's own files,
    and for models outside the catalogue."""
    whole: "ModelSpec | None" = None
    """For a text model of a multimodal checkpoint, the whole model; None for other models."""
    image_processor: Mapping[str, Any] | None = None
    """Rule by which images become tokens (core.images), a row of image_processors.json; None for a model that takes no
    images, or whose rule is not known."""
    aliases: tuple[str, ...] = ()
    """Other names of models with these shapes, such as Unsloth's copies."""
    verified: bool = False
    """True where total_parameters equals a total published by somebody else."""
    gated: bool | None = None
    licence: str | None = None
    source: str = ""
    checked: str = ""
    note: str = ""

    @property
    def is_whole(self) -> bool:
        """True where the program loads vision or audio towers with the model."""
        return self.tower.startswith("whole")

    @property
    def has_experts(self) -> bool:
        """True with fused experts, which are parameters. Experts that are modules count as linear layers."""
        return any(layer.kind == "experts" for layer in self.layers)

    def __hash__(self) -> int:
        # The generated hash walks every layer; a plan is cached by its model, and this is what a look-up costs.
        return hash((self.id, self.total_parameters))


def model_from_json(row: Mapping[str, Any]) -> ModelSpec:
    """Return the ModelSpec of a row of assets/models, or of the worker's JSON for a model that it built."""

    def made(kind: type, part: Mapping[str, Any], **others: Any) -> Any:
        numbers = part.get("blocks", "")
        blocks = decode_blocks(numbers) if isinstance(numbers, str) else tuple(numbers)
        return kind(**{**part, "blocks": blocks, **others})

    types = row.get("layer_types", ())
    if isinstance(types, Mapping):  # {kind: blocks}
        kinds = {block: kind for kind, numbers in types.items() for block in decode_blocks(numbers)}
        types = [kinds[block] for block in sorted(kinds)]
    layers = [made(LinearLayer, part, kernel=tuple(part.get("kernel", ()))) for part in row.get("layers", ())]
    plain_modules = []
    for part in row.get("plain_modules", ()):
        tensors = tuple(OwnTensor(**{**tensor, "shape": tuple(tensor["shape"])}) for tensor in part["tensors"])
        plain_modules.append(made(PlainModule, part, tensors=tensors))
    activations = []
    for part in row.get("activation_bytes_per_token", ()):
        ways = {way: ActivationBytes(**figures) for way, figures in part.items() if way != "blocks"}
        activations.append(made(BlockActivations, part, **ways))
    names = ("other_modules", "clippable_linears", "refused_names", "aliases")
    fields = {**row, **{name: tuple(row.get(name, ())) for name in names}, "layer_types": tuple(types)}
    fields |= {"layers": tuple(layers), "plain_modules": tuple(plain_modules)}
    return ModelSpec(**fields | {"activation_bytes_per_token": tuple(activations)})


def encode_blocks(blocks: Iterable[int]) -> str:
    """Return a short text for block numbers: arithmetic progressions in rising order, such as "0-3,5-25/5"."""
    rest, runs = list(blocks), []
    while rest:
        step = rest[1] - rest[0] if len(rest) > 1 else 1
        length = next((n for n in range(1, len(rest)) if rest[n] - rest[n - 1] != step), len(rest))
        length = 1 if length < 3 and step != 1 else length
        first, last = rest[0], rest[length - 1]
        runs.append(str(first) if length == 1 else f"{first}-{last}" + (f"/{step}" if step != 1 else ""))
        rest = rest[length:]
    return ",".join(runs)


def decode_blocks(text: str) -> tuple[int, ...]:
    """Return the block numbers of a text made by encode_blocks; empty for an empty text."""
    blocks: list[int] = []
    for run in text.split(",") if text else ():
        span, _, step = run.partition("/")
        first, _, last = span.partition("-")
        blocks.extend(range(int(first), int(last or first) + 1, int(step or 1)))
    return tuple(blocks)


LEAST_BLOCKS = 4
"""Least number of blocks to measure; with fewer, the embedding, the head or the optimizer's step sets the peak."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Periods:
    """Repetition in a stack of blocks: a prefix, then a period repeated, the last one perhaps incomplete."""

    blocks: int
    prefix: int
    period: int

    def depths(self) -> tuple[int, int] | None:
        """Return two depths (numbers of blocks) to measure, below the whole depth and whole periods apart; None for a
        short stack. The first has at least one period and LEAST_BLOCKS. The second is three times as deep, or twice in
        a short stack: the further apart they are, the less the noise changes the line through them."""
        step, least = self.period, self.prefix + self.period
        for depth in (max(least, LEAST_BLOCKS), least):
            low = depth + (self.blocks - depth) % step  # leaves whole periods out
            for times in (2, 1, 0):
                high = low + step * max(1, times * low // step)
                if high < self.blocks:
                    return low, high
        return None


def periods(model: ModelSpec) -> Periods:
    """Return the prefix and period that show two whole periods in the fewest blocks. tests/core/model/test_model.py
    works examples of hybrid stacks out by hand."""
    kinds = block_signatures(model)
    blocks = len(kinds)

    def prefix(period: int) -> int:
        start = blocks - period
        while start > 0 and kinds[start - 1] == kinds[start - 1 + period]:
            start -= 1
        return max(0, start)

    candidates = [(prefix(period) + 2 * period, period) for period in range(1, max(2, blocks))]
    shown, period = min(candidates, default=(2, 1))
    return Periods(blocks=blocks, prefix=shown - 2 * period, period=period)


def block_signatures(model: ModelSpec) -> tuple[tuple, ...]:
    """Return a signature of each block, equal for equal blocks: layers (path, shape, kind) and kind of attention."""
    layers: list[list[tuple]] = [[] for _ in range(model.num_hidden_layers)]
    for layer in model.layers:
        for block in layer.blocks if layer.part != "vision" else ():
            if block < len(layers):
                layers[block].append((layer.path, layer.in_features, layer.out_features, layer.kind, layer.num_experts))
    types = model.layer_types
    return tuple((types[n] if n < len(types) else "", *sorted(each)) for n, each in enumerate(layers))
