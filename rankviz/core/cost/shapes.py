"""Computes what a decoder block keeps per token in training, and which attention kernel runs in it.
Letters in core.cost: T tokens of a micro-step, H hidden size, Q and K width of all query and key heads, M inner width
of the MLP, V vocabulary size, P weights that one token is multiplied with."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

from rankviz.core.cost.setup import pads
from rankviz.core.cost.stack import Stack
from rankviz.core.lora.plan import Adapted
from rankviz.core.lora.targets import FUSED_QKV
from rankviz.core.model.spec import BlockActivations, LinearLayer, ModelSpec
from rankviz.core.quantity import Assumptions, Range

OUTPUT_PROJECTIONS = frozenset({"o_proj", "out_proj", "c_proj", "dense", "down_proj", "dense_4h_to_h"})
"""Names of square projections that write to the residual stream; others are recognized by their shape."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockKind:
    """Blocks with equal layers. Sizes are elements per token; an expert layer counts once for each active expert."""

    count: int
    layer_type: str
    activations: BlockActivations | None  # bytes that these blocks hold without an adapter, where it was measured
    attention: int = 0  # outputs of the projections into attention and the input of the one out of it: Llama's 2Q + 2K
    mlp: int = 0  # outputs of the projections up plus the input of the one down: 3M in a Llama block
    mlp_hidden: int = 0  # input of the projection down, M
    out_of_attention: int = 0
    inputs: int = 0  # of the linear layers, counted once where layers of one part read the hidden state
    targeted_inputs: int = 0  # sum of in_features over modules that carry an adapter
    targeted_outputs: int = 0
    targeted_modules: int = 0
    targeted_expert_modules: int = 0  # the experts' share of targeted_modules
    targeted_mlp_inputs: int = 0  # the MLP's share of targeted_inputs
    targeted_mlp_hidden: int = 0  # input of the projection down where it carries an adapter, else 0
    targeted_shared_inputs: int = 0  # targeted_inputs counted once like `inputs`, without the output of attention
    targeted_mlp_shared_inputs: int = 0  # the MLP's share of targeted_shared_inputs
    padded_outputs: int = 0  # of targeted projections into attention, where others of them carry no adapter; else 0

    @property
    def attention_width(self) -> int:
        """Q: width of all query heads together; 0 in blocks without attention."""
        attends = "attention" in self.layer_type and "linear" not in self.layer_type
        return self.out_of_attention if attends else 0

    @property
    def sliding(self) -> bool:
        """True where these blocks attend only within the model's sliding window."""
        return "sliding" in self.layer_type


Row = tuple[bool, LinearLayer, int]
"""(True for an adapter, its layer, number of the layer's experts that are active for one token; 1 without experts)."""


def _block_sums(rows: Iterable[Row], hidden: int) -> Counter[str]:
    """Return the sizes of a BlockKind, by field."""
    sums, into_attention, targeted_into = Counter(), 0, 0
    reads, targeted_reads = set(), set()  # whether it is the MLP that reads the hidden state
    for is_adapter, layer, active in rows:
        # a layer that writes to the residual stream, such as o_proj and down_proj
        out = layer.out_features == hidden and (layer.in_features != hidden or layer.name in OUTPUT_PROJECTIONS)
        expert = layer.kind == "experts"
        from_hidden = not out and layer.in_features == hidden and not expert
        wide_in, wide_out = active * layer.in_features, active * layer.out_features
        in_mlp, in_attention = layer.part == "mlp", layer.part == "attention"
        if is_adapter:
            sums.update(targeted_inputs=wide_in, targeted_outputs=wide_out, targeted_modules=active)
            sums["targeted_expert_modules"] += active if expert else 0
            if in_mlp or expert:
                sums.update(targeted_mlp_inputs=wide_in, targeted_mlp_hidden=wide_in if out else 0)
            targeted_into += layer.out_features if in_attention and not out else 0
            if from_hidden:
                targeted_reads.add(in_mlp)
            elif not (in_attention and out):
                sums["targeted_shared_inputs"] += wide_in
            continue
        if in_mlp or layer.kind in ("experts", "router"):
            sums.update(mlp=wide_in if out else wide_out, mlp_hidden=wide_in if out else 0)
        else:
            sums.update(attention=wide_in if out else wide_out)
            sums["out_of_attention"] += layer.in_features if in_attention and out else 0
            into_attention += layer.out_features if in_attention and not out else 0
        if from_hidden:
            reads.add(in_mlp)
        else:
            sums["inputs"] += wide_in
    sums.update(inputs=hidden * len(reads), targeted_shared_inputs=hidden * len(targeted_reads))
    sums["targeted_mlp_shared_inputs"] = hidden * (True in targeted_reads) + sums["targeted_mlp_hidden"]
    sums["padded_outputs"] = targeted_into if targeted_into < into_attention else 0
    return sums


class ModelShape(NamedTuple):
    """Sums over a model's layers that do not depend on rank, batch or length."""

    kinds: tuple[BlockKind, ...]
    blocks: int
    active_weights: int  # P: weights of the decoder's linear layers that one token is multiplied with
    active_adapter_parameters: int  # per unit of rank that one token is multiplied with
    active_expert_parameters: int  # the experts' share of these
    largest_linear: int  # weights of the largest layer that a quantizer reaches
    largest_targeted: int  # weights of the largest layer that carries an adapter, experts left out
    targeted_experts: tuple[int, ...]  # weights of one block's fused experts with an adapter, the smallest first
    expert_blocks: int  # number of blocks that have these
    linear_rows: int  # output rows of all layers that a quantizer reaches; int8 keeps a scale for each


def model_shape(model: ModelSpec, adapted: Iterable[Adapted]) -> ModelShape:
    """Return the sums over all layers, and over those with adapters (by hand in tests/core/cost/test_setup.py)."""
    rows: dict[tuple[int, ...], list[Row]] = {}  # by blocks
    active_weights = largest = linear_rows = active_adapter = active_experts = largest_targeted = 0

    def active_of(layer: LinearLayer) -> int:
        return (model.num_experts_per_tok or 1) if layer.kind == "experts" else 1

    for layer in model.layers:
        if layer.kind in ("embedding", "lm_head"):
            continue
        if layer.kind in ("linear", "conv1d"):
            largest = max(largest, layer.in_features * layer.out_features)
            linear_rows += layer.count * layer.out_features
        if layer.part != "vision":
            active = active_of(layer)
            active_weights += layer.count * active * layer.in_features * layer.out_features
            if layer.blocks:
                rows.setdefault(layer.blocks, []).append((False, layer, active))
    experts: dict[str, tuple[int, int]] = {}
    for each in adapted:
        layer, active, factor = each.layer, active_of(each.layer), 1
        if layer.kind == "experts":
            experts[layer.path] = layer.num_experts * layer.in_features * layer.out_features, each.count
            factor = each.rank_factor * active // layer.num_experts
        else:
            largest_targeted = max(largest_targeted, layer.in_features * layer.out_features)
        if layer.part != "vision":
            parameters = each.count * factor * (layer.in_features + layer.out_features)
            active_adapter += parameters
            active_experts += parameters if layer.kind == "experts" else 0
            if each.blocks:
                rows.setdefault(each.blocks, []).append((True, layer, active))
    kinds = _kinds(rows, model)
    return ModelShape(
        kinds=kinds,
        blocks=sum(kind.count for kind in kinds),
        active_weights=active_weights,
        active_adapter_parameters=active_adapter,
        active_expert_parameters=active_experts,
        largest_linear=largest,
        largest_targeted=largest_targeted,
        targeted_experts=tuple(sorted(weights for weights, _ in experts.values())),
        expert_blocks=max((count for _, count in experts.values()), default=0),
        linear_rows=linear_rows,
    )


def _kinds(rows: dict[tuple[int, ...], list[Row]], model: ModelSpec) -> tuple[BlockKind, ...]:
    """Group blocks that have equal layers, equal attention and equal measured activations."""
    members: dict[int, list[int]] = {}
    for number, blocks in enumerate(rows):
        for block in blocks:
            members.setdefault(block, []).append(number)
    unnamed, types = "sliding_attention" if model.sliding_window else "full_attention", model.layer_types
    held = {block: n for n, each in enumerate(model.activation_bytes_per_token) for block in each.blocks}
    signatures = Counter(
        (tuple(numbers), types[block] if block < len(types) else unnamed, held.get(block))
        for block, numbers in members.items()
    )
    layers = list(rows.values())
    return tuple(
        BlockKind(
            count=count,
            layer_type=layer_type,
            activations=None if at is None else model.activation_bytes_per_token[at],
            **_block_sums((row for n in numbers for row in layers[n]), model.hidden_size),
        )
        for (numbers, layer_type, at), count in signatures.items()
    )


Kernel = Literal["flash", "cudnn", "efficient", "flex", "math", "eager"]
MATRIX_KERNELS = ("math", "eager")
"""Kernels that hold the attention matrix: length × length for each query head."""
# fmt: off
SINKS = ("deepseek_v4", "gpt_oss", "granite_swa", "granitemoe_swa", "hy_v4", "mimo_v2_flash")
"""model_types whose attention has sinks."""
WITHOUT_SDPA = (
    *SINKS, "big_bird", "bloom", "codegen", "cpmant", "falcon_mamba", "gpt_neo", "gpt_neox_japanese", "gptj", "mamba",
    "mamba2", "mpt", "openai-gpt", "rembert", "roformer", "rwkv", "xglm", "xlm", "xlnet", "xlstm",
)
"""model_types whose classes lack SDPA (no _supports_sdpa): transformers runs their attention, if they have any, as
"eager", and refuses "sdpa" where it is named."""
# fmt: on
BROADCASTS_KEYS = ("falcon",)
"""model_types that pass their single key head to SDPA without copies, and always with a mask (modeling_falcon.py)."""
CAPS_SCORES = ("gemma2",)
"""model_types with a soft cap on attention scores; only eager attention applies it, not SDPA in transformers."""
UNSLOTH_EAGER = ("deepseek_v4", "gemma3n")
"""Beginnings of model_types that Unsloth loads with eager attention (models/_utils.py, _EAGER_ONLY_PREFIXES)."""
WIDEST_FLASH = 256
"""Most elements per head for torch's flash kernel, for FlashAttention 2, and for grouped keys in transformers."""
WIDEST_CUDNN = 128


class BlockAttention(NamedTuple):
    """Attention kernel of one kind of block, and the tensors made for it."""

    kernel: Kernel
    expanded: bool = False
    """True where keys and values are first copied to every query head."""
    masked: bool = False
    """True where a mask is made: length × length for each example."""

    @property
    def holds_matrix(self) -> bool:
        return self.kernel in MATRIX_KERNELS


def attention_of(kind: BlockKind, model: ModelSpec, stack: Stack) -> BlockAttention:
    """Return the attention of a kind of block; blocks without attention count as "flash", which holds no matrix."""
    setup, habits = stack.setup, stack.habits
    keys, width = key_heads(kind, model), head_dim(kind, model)
    grouped, broadcasts = keys < model.num_attention_heads, model.model_type in BROADCASTS_KEYS
    if not kind.attention_width or habits.on_cpu:
        return BlockAttention("flash")
    if habits.mlx:
        return BlockAttention("eager", masked=True)
    if habits.own_models and setup.attn_implementation == "sdpa":
        return BlockAttention("eager" if model.model_type in CAPS_SCORES else "flash")
    if setup.attn_implementation == "eager":
        return BlockAttention("eager", grouped, True)
    if setup.attn_implementation == "flash":
        return BlockAttention("flash")
    if model.model_type == "gpt_oss" and habits.unsloth_kernels:  # unsloth_zoo/temporary_patches/gpt_oss.py
        return BlockAttention("flex")
    unsloth_eager = model.model_type.startswith(UNSLOTH_EAGER) or caps_compiled(model, stack)
    if model.model_type in WITHOUT_SDPA or (habits.unsloth_kernels and unsloth_eager):
        return BlockAttention("eager", grouped, True)
    if broadcasts and keys == 1:
        return BlockAttention("math", masked=True)
    padded = setup.mixes_lengths and pads(setup.framework, model)
    # Blocks with a sliding window get a mask, in transformers from a length equal to the window (masking_utils.py,
    # _ignore_causal_mask_sdpa). Kernels of Unsloth's own families take the window itself; other families under Unsloth
    # have the mask at any length (unsloth_zoo/temporary_patches/misc.py drops only the compiled create_causal_mask).
    within = setup.max_length < (model.sliding_window or 0) and not habits.unsloth_kernels
    beyond_window = not stack.own_blocks and kind.sliding and bool(model.sliding_window) and not within
    masked = padded or beyond_window or broadcasts
    sdpa = partial(_sdpa, stack, width, masked=masked, uneven=model.model_type in ("deepseek_v2", "deepseek_v3"))
    if habits.unsloth_kernels:
        copied = grouped and sdpa(grouped=True) == "math"
    else:
        copied = grouped and (masked or width > WIDEST_FLASH or habits.copies_keys)
    return BlockAttention(sdpa(grouped=grouped and not copied), copied, masked)


def caps_compiled(model: ModelSpec, stack: Stack) -> bool:
    """Return True where a compiled function of Unsloth caps the attention scores, and holds the attention matrix.
    Unsloth's own blocks always do without flash-attn (kernels/flex_attention.py, slow_attention_softcapping)."""
    return model.model_type in CAPS_SCORES and stack.own_blocks


def head_dim(kind: BlockKind, model: ModelSpec) -> int:
    """Elements per attention head; 0 in blocks without attention."""
    return kind.attention_width // model.num_attention_heads


def key_heads(kind: BlockKind, model: ModelSpec) -> int:
    """Return the number of key and value heads. Falcon's is computed from the shapes of its weights, because its
    config.json states as many as query heads even where the weights have one."""
    width = head_dim(kind, model)
    if model.model_type not in BROADCASTS_KEYS or not width:
        return model.num_key_value_heads
    return (kind.attention - 2 * kind.attention_width) // (2 * width)


def heaviest(model: ModelSpec, shape: ModelShape, stack: Stack) -> BlockAttention | None:
    """Return the attention of the blocks whose kernel holds the most memory; None for a model without attention."""
    order = ("flash", "cudnn", "flex", "efficient", "math", "eager")
    each = [attention_of(kind, model, stack) for kind in shape.kinds if kind.attention_width]
    return max(each, key=lambda attention: order.index(attention.kernel), default=None)


def _sdpa(stack: Stack, width: int, *, masked: bool, grouped: bool, uneven: bool) -> Kernel:
    """Return the kernel that torch.nn.functional.scaled_dot_product_attention chooses. width: Elements per head.
    grouped: Value of enable_gqa. uneven: True where keys are wider than values, as torch's flash kernel does not accept
    (latent attention). Unsloth's own families train without
    cuDNN on cards of compute capability 10 (utils/attention_dispatch.py, _NO_CUDNN_TRAINING)."""
    sm, half = stack.compute_capability, stack.attention_bytes == 2
    cudnn = 9 <= sm < 11 and not (sm >= 10 and stack.own_blocks)
    if half and cudnn and width <= WIDEST_CUDNN and width % 8 == 0:
        return "cudnn"
    # no backward pass between these widths with the shared memory of such cards
    lacks_room = (8.6 <= sm <= 8.9 or sm >= 12) and 192 < width <= 224
    if half and sm >= 8 and not masked and not uneven and width <= WIDEST_FLASH and not lacks_room:
        return "flash"
    aligned = width % (8 if half and sm >= 7 else 4 if sm >= 8 else 1) == 0
    return "efficient" if aligned and not grouped else "math"


LONG = 8192
"""Tokens of a sequence above which a model whose limit is not known may not take them."""


def why_too_long(model: ModelSpec, tokens: int) -> str:
    """Return a sentence on sequences that the model does not take, or may not take; empty for others."""
    limit = model.max_position_embeddings
    if tokens <= (limit or LONG):
        return ""
    if limit:
        return (
            f"This model takes at most {limit:,} tokens (max_position_embeddings in its config.json): with {tokens:,} "
            "vLLM does not start. Choose fewer."
        )
    return (
        f"RankViz does not know whether this model takes {tokens:,} tokens: compare with max_position_embeddings in "
        "its config.json, above which vLLM does not start."
    )


def cache_bytes(model: ModelSpec, context: Range, sequences: Range, assume: Assumptions) -> Range:
    """Return the bytes of vLLM's key-value cache, in 16 bit, of so many sequences of so many tokens.

    A block with full attention holds keys and values of every token, one with a sliding window those of the window, and
    while it is filled those of a prefill batch more. Latent attention holds the outputs of kv_a_proj_with_mqa. A block
    with a recurrent state (linear attention, Mamba) holds its inner width times 64 to 256 numbers of 2 to 4 bytes a
    sequence, whatever the length. Not counted: short convolutions, unused tokens of a block of the cache.
    """
    full = sliding = state = 0
    window, types = model.sliding_window, model.layer_types
    recurrent = {module.path for module in model.plain_modules if any(t.name == "A_log" for t in module.tensors)}
    for layer in model.layers:
        if layer.part == "vision":
            continue
        if layer.name == "out_proj" and layer.path.rpartition(".")[0] in recurrent:
            state += layer.count * layer.in_features
        width = {
            "k_proj": 2 * layer.out_features,
            "kv_a_proj_with_mqa": layer.out_features,
            **dict.fromkeys(FUSED_QKV, 2 * model.num_key_value_heads * model.head_dim),
        }.get(layer.name, 0)
        slides = sum("sliding" in types[block] for block in layer.blocks) if window and types else 0
        full, sliding = full + (layer.count - slides) * width, sliding + slides * width
    ends = (context.low, context.expected, context.high)
    if window:
        filling = window + assume.range("vllm-batched-tokens").high
        ends = (*(min(tokens, window) for tokens in ends[:2]), min(context.high, filling))
    a_sequence = context.times(2 * full).plus(Range(*ends).times(2 * sliding))
    return a_sequence.plus(Range(64 * 2, 128 * 4, 256 * 4).times(state)).multiplied(sequences)
