"""Bytes that one training step holds beside the weights: activations and gradients of the blocks, and the loss."""

import math
from typing import NamedTuple

from rankviz.core.cost.shapes import (
    CAPS_SCORES,
    SINKS,
    Attention,
    BlockKind,
    ModelShape,
    attention_of,
    caps_compiled,
    head_dim,
    key_heads,
)
from rankviz.core.cost.stack import Stack
from rankviz.core.model.spec import ActivationBytes, ModelSpec

OFFLOADED_LEFT = 4
"""Hidden states on the card at once with Unsloth's offloading: the embedding's output, a leaf that autograd holds until
the backward pass is over, the last block's input, and two staging buffers (the second with more than 512 MiB free)."""
NORMED_QUERIES = ("qwen3",)
"""model_types of Unsloth's own families whose queries and keys are normed: both are kept before and after."""
BIASED_QUERIES = ("qwen2",)
"""Those whose projections into attention have biases, so that Unsloth leaves their adapters to PEFT."""


def checkpoint_bytes(model: ModelSpec, shape: ModelShape, stack: Stack) -> float:
    """Each block's input, kept for the backward pass: blocks · T · H · 2, or · 4 where hidden states are fp32. None
    without checkpointing. Where Unsloth moves them to host memory, OFFLOADED_LEFT stay
    (unsloth_zoo/gradient_checkpointing.py)."""
    if stack.setup.gradient_checkpointing == "none":
        return 0.0
    each = float(stack.setup.tokens_per_micro_step * model.hidden_size * stack.residual_bytes)
    return each * (min(OFFLOADED_LEFT, shape.blocks) if stack.offloads else shape.blocks)


def kept_bytes(kind: BlockKind, model: ModelSpec, stack: Stack) -> tuple[float, float, float]:
    """What one block keeps for its backward pass, and its growth with each unit of rank (x·A of each module), of r and
    of the experts' rank.

    transformers: T times what its own classes were seen to keep (core.model.spec), or where there is no such
    figure a Llama block's, `_llama_kept`. Adapters add what they read: see `_adapter_input_bytes`.

    Unsloth's own families: 2T(4H + 2Q + 2K + 2M), since their MLP works in place where each of its projections has an
    adapter. Its other families run
    transformers' classes, compiled, whose adapters keep what they read once and without a copy
    (unsloth_zoo/compiler.py, lora_forward); what torch.compile saves is not counted.

    The terms are those that autograd saves in transformers 5.17 with peft 0.21, listed with saved_tensors_hooks and
    checked against whole training steps in tests/core/cost/memory/test_against_autograd.py and
    tests/core/model/test_activations.py.
    """
    tokens, width = stack.setup.tokens_per_micro_step, stack.activation_bytes
    attention = attention_bytes(kind, model, stack)
    if stack.use_dora:  # the base's output and the adapter's, of each module (peft tuners/lora/dora.py)
        attention += tokens * 2 * stack.attention_bytes * kind.targeted_outputs
    llama = _llama_kept(kind, model.hidden_size, stack)
    held = _held(kind, stack)
    shown = held.kept + (held.own_input if stack.setup.gradient_checkpointing == "none" else 0) if held else llama
    if stack.habits.unsloth_kernels and stack.habits.fast_blocks:
        elements = 4 * model.hidden_size + kind.attention + kind.mlp - kind.mlp_hidden
        if model.model_type in NORMED_QUERIES:
            elements += kind.attention / 2
        elements += _unfused_elements(kind, model, stack)
        return tokens * width * elements + attention, 0.0, 0.0
    each = shown + _adapter_input_bytes(kind, stack) - (width - stack.attention_bytes) * kind.attention
    each += quantized_inputs(kind, stack) / tokens
    if stack.habits.pads_adapters:
        each += width * kind.padded_outputs
    slopes = (kind.targeted_modules - kind.targeted_expert_modules, kind.targeted_expert_modules)
    return tokens * each + attention, *(float(tokens * width * modules) for modules in slopes)


def fuses_mlp(kind: BlockKind, hidden: int, stack: Stack) -> bool:
    """Unsloth's own MLP needs an adapter without DoRA on each of its three projections (models/llama.py,
    patch_peft_model)."""
    return not stack.use_dora and kind.targeted_mlp_inputs == 2 * hidden + kind.mlp_hidden


def _unfused_elements(kind: BlockKind, model: ModelSpec, stack: Stack) -> float:
    """Elements a token that one of Unsloth's own blocks keeps more where some projections of a part carry no adapter,
    or have biases: the part then runs as it is written, and each of its adapters keeps a copy of its input."""
    hidden = model.hidden_size
    of_attention = min(kind.targeted_inputs - kind.targeted_mlp_inputs, 3 * hidden)
    some = kind.padded_outputs or model.model_type in BIASED_QUERIES or stack.use_dora
    more = max(0, of_attention - hidden) if some else 0
    return more if fuses_mlp(kind, hidden, stack) else more + kind.mlp_hidden + kind.targeted_mlp_inputs


def attention_bytes(kind: BlockKind, model: ModelSpec, stack: Stack) -> float:
    """What the kernel keeps beyond flash's queries, keys, values and output: the matrix, and the copies before it.

    Eager attention keeps the softmax in fp32 and its 16-bit copy, with sinks the copy alone; the math kernel the
    softmax and fp32 copies of queries, keys and values, as many key heads as query heads. A fused kernel that is given
    a mask keeps one in the queries' dtype.
    """
    attention, width = attention_of(kind, model, stack), stack.attention_bytes
    setup, queries = stack.setup, kind.attention_width
    keys = key_heads(kind, model) * head_dim(kind, model)
    kept = _matrix_kept(attention, model, stack) * _matrix_elements(attention, model, stack)
    if attention.kernel == "math":
        kept += setup.tokens_per_micro_step * (12 * queries - width * (queries + 2 * keys))
    elif attention.expanded:
        kept += setup.tokens_per_micro_step * width * 2 * (queries - keys)
    if attention.masked and not attention.holds_matrix:
        kept += width * setup.per_device_train_batch_size * setup.max_length**2
    return kept


def mask_bytes(model: ModelSpec, shape: ModelShape, stack: Stack) -> float:
    """Masks that the model makes once: a byte an element for SDPA, the queries' dtype for eager attention; of each
    example where it is padded, else one for all."""
    setup, width = stack.setup, stack.attention_bytes
    made = {(kind.sliding, each.kernel == "eager") for kind, each in _attentions(model, shape, stack) if each.masked}
    examples = setup.per_device_train_batch_size if setup.mixes_lengths else 1
    return float(sum(width if eager else 1 for _, eager in made) * examples * setup.max_length**2)


def holds_matrix(model: ModelSpec, shape: ModelShape, stack: Stack) -> bool:
    """Whether some block holds the attention matrix."""
    return any(each.holds_matrix for _, each in _attentions(model, shape, stack))


def matrix_bytes(model: ModelSpec, shape: ModelShape, stack: Stack) -> float:
    """What one block's attention matrix comes to at its fullest moment; 0 where none is made."""
    each = (attention for _, attention in _attentions(model, shape, stack) if attention.holds_matrix)
    return max((_matrix_at_most(a, model, stack) * _matrix_elements(a, model, stack) for a in each), default=0.0)


def _attentions(model: ModelSpec, shape: ModelShape, stack: Stack) -> list[tuple[BlockKind, Attention]]:
    return [(kind, attention_of(kind, model, stack)) for kind in shape.kinds]


def _matrix_elements(attention: Attention, model: ModelSpec, stack: Stack) -> float:
    """Elements of one block's attention matrix, where it is made at all: batch · heads · S²."""
    setup = stack.setup
    elements = setup.per_device_train_batch_size * model.num_attention_heads * setup.max_length**2
    return float(elements) if attention.holds_matrix else 0.0


def _matrix_kept(attention: Attention, model: ModelSpec, stack: Stack) -> int:
    """Bytes an element of the matrix that one block keeps for its backward pass."""
    width = stack.attention_bytes
    if attention.kernel == "math":
        return 4
    if model.model_type in SINKS:
        return width
    if caps_compiled(model, stack):
        return 2 * width  # the products before the cap, and the softmax
    softmax = 4 if width == 4 else 6
    return softmax + (width if model.model_type in CAPS_SCORES else 0)  # a cap's tanh keeps its result


def _matrix_at_most(attention: Attention, model: ModelSpec, stack: Stack) -> float:
    """Bytes an element at the fullest moment of the attention's backward pass."""
    if attention.kernel == "math":
        return stack.assume.value("math-attention-bytes")
    if model.model_type in SINKS:
        return stack.attention_bytes * stack.assume.value("sink-attention-copies")
    if caps_compiled(model, stack):
        return stack.attention_bytes * stack.assume.value("unsloth-capped-attention-copies")
    dtype = "-fp32" if stack.attention_bytes == 4 else "" if stack.in_fp16 else "-bf16"
    return stack.assume.value(f"eager-attention-bytes{dtype}")


def quantized_inputs(kind: BlockKind, stack: Stack) -> float:
    """Inputs of quantized layers that one block keeps in bitsandbytes before 0.43."""
    if not (stack.habits.keeps_quantized_inputs and stack.setup.quantized):
        return 0.0
    return float(stack.setup.tokens_per_micro_step * stack.activation_bytes * kind.inputs)


def _held(kind: BlockKind, stack: Stack) -> ActivationBytes | None:
    """Figures of the block's class, if there are any."""
    if kind.activations is None:
        return None
    return kind.activations.held(stack.activation_bytes, autocast=stack.habits.autocast)


def _kernels_may_save(kind: BlockKind, model: ModelSpec, stack: Stack) -> float:
    """The share of what a block of linear attention keeps in transformers' own code that optional kernels may not keep:
    all that goes beyond a Llama block of the same widths."""
    held = _held(kind, stack)
    return max(0.0, 1 - _llama_kept(kind, model.hidden_size, stack) / held.kept) if held else 0.0


def _llama_kept(kind: BlockKind, hidden: int, stack: Stack) -> float:
    """Bytes a token that a Llama block of these widths keeps in transformers without an adapter: 8H + 2(2Q + 2K + 3M)
    in 16 bit, 8H being the fp32 inputs of two norms; in fp32 4H + 4(2Q + 2K + 3M), and 4H more without checkpointing,
    whose first norm reads the checkpoint."""
    width = stack.activation_bytes
    norms = 8 * hidden if width == 2 or stack.setup.gradient_checkpointing == "none" else 4 * hidden
    return norms + width * (kind.attention + kind.mlp)


def _adapter_input_bytes(kind: BlockKind, stack: Stack, *, of_mlp: bool = False) -> float:
    """Bytes a token of what adapters keep of their inputs; of_mlp: those of the MLP alone.

    An fp32 adapter under 16-bit activations makes a copy for each module (peft lora/layer.py, _cast_input_dtype): 4
    bytes, or 2 where autocast turns it back, as it does fp32 activations. An adapter in the activations' own dtype
    keeps the input itself, once for all modules that read it. Dropout makes a copy for each module, and a mask of a
    byte.
    """
    width = stack.activation_bytes
    inputs = kind.targeted_mlp_inputs if of_mlp else kind.targeted_inputs
    if stack.habits.lora_dropout:
        return (1 + (4 if stack.copies_inputs and not stack.autocasts else width)) * inputs
    if stack.copies_inputs:
        return (2 if stack.autocasts else 4) * inputs
    return width * (kind.targeted_mlp_shared_inputs if of_mlp else kind.targeted_shared_inputs)


def dora_input_bytes(kind: BlockKind, model: ModelSpec, stack: Stack) -> float:
    """Beside what the block keeps while a module's DoRA norm is made: that module's input as it is and in fp32, and
    four hidden states, less the two of its outputs that are not there yet."""
    inputs = kind.targeted_mlp_hidden or model.hidden_size
    return float(stack.setup.tokens_per_micro_step * (6 * inputs + 4 * model.hidden_size)) if stack.use_dora else 0.0


def backward_bytes(kind: BlockKind, model: ModelSpec, stack: Stack) -> float:
    """Gradients alive at the fullest moment of a block's backward pass, beside what the block keeps.

    transformers: T times what its own classes were seen to hold without an adapter, or a Llama block's 6M + 2H in 16
    bit and 12M + 4H in fp32, in the MLP, or 2M + 11H in the norm before it. An adapter on the projection down moves the
    moment of a Llama block to 4M + 2H or 9H where it keeps its input as it is, 4M + 12H with fp32 copies, 6M + 10H with
    copies under autocast (with a gate or without), 8M + 4H in fp32, 10M + 2H in fp32 under autocast; that difference is
    added. With DoRA the moment is that of the projection up's adapter: the gradient of its output in fp32, scaled, and
    the two products of the magnitude's scale, 16M - 2H with the gate's. Read off whole training steps; held to 5 % in
    tests/core/cost/memory/test_against_autograd.py, the last one in steps of rankviz.worker.simulate. Unsloth's own
    families: 2T(H + M), so that with what they keep it comes to 2T(5H + 2Q + 2K + 3M): two norms' outputs, two sums and
    the gradient that comes in (kernels/fast_lora.py, read off simulated steps too). Compiled blocks hold more: `width-
    unsloth-compiled`. An attention matrix has its fullest moment later: `_matrix_gradients`.
    """
    tokens, width = stack.setup.tokens_per_micro_step, stack.activation_bytes
    beside = tokens * _block_gradients(kind, model, stack)
    if stack.use_dora:
        beside += tokens * max(0, 10 * kind.targeted_mlp_hidden - 12 * model.hidden_size)
    beside += 4 * (stack.residual_bytes - width) * tokens * model.hidden_size
    return max(0.0, beside, _matrix_gradients(kind, model, stack) - _given_back(kind, model, stack))


def _block_gradients(kind: BlockKind, model: ModelSpec, stack: Stack) -> float:
    """Bytes a token: a Llama block's, and what the block's own class holds beyond it without an adapter. A class that
    holds less does so at another moment than that of the projection down's adapter.

    Where the MLP has no gate, the class's fullest moment is in the activation function, once the projection down has
    given back what its adapter kept: then the larger of the two moments counts.
    """
    llama, held = _llama_gradients(kind, model, stack), _held(kind, stack)
    if held is None or _one_expert_at_a_time(model, stack) or own_blocks(stack):
        return llama
    if kind.mlp == 2 * kind.mlp_hidden:
        width = 2 if stack.copies_inputs and stack.autocasts else stack.activation_bytes
        return max(llama, held.gradients - width * kind.targeted_mlp_hidden)
    beyond = held.gradients - _plain_gradients(kind, model.hidden_size, stack.activation_bytes, kind.mlp)
    return llama + (max(0.0, beyond) if kind.targeted_mlp_hidden else beyond)


def own_blocks(stack: Stack) -> bool:
    return stack.habits.unsloth_kernels and stack.habits.fast_blocks


def _one_expert_at_a_time(model: ModelSpec, stack: Stack) -> bool:
    """Experts one after the other, each with its own tokens, hold one expert's gradients at a time."""
    return stack.habits.one_expert_at_a_time and model.num_experts > 0


def _plain_gradients(kind: BlockKind, hidden: int, width: int, mlp: float) -> float:
    """Of a Llama block without an adapter on the projection down, bytes a token."""
    if width == 4:
        return 4 * mlp + 4 * hidden
    return max(2 * mlp + 2 * hidden, 2 * kind.mlp_hidden + 11 * hidden)


def _llama_gradients(kind: BlockKind, model: ModelSpec, stack: Stack) -> float:
    """Of a Llama block of these widths, bytes a token."""
    width, hidden = stack.activation_bytes, model.hidden_size
    if own_blocks(stack):
        return width * (hidden + kind.mlp_hidden if fuses_mlp(kind, hidden, stack) else kind.mlp)
    at_once = model.num_experts if _one_expert_at_a_time(model, stack) else 1
    mlp = kind.mlp / at_once
    if not kind.targeted_mlp_hidden:
        return _plain_gradients(kind, hidden, width, mlp)
    if stack.copies_inputs and stack.autocasts and width == 4:
        return width * mlp - 2 * kind.mlp_hidden / at_once + 2 * hidden
    if stack.copies_inputs and stack.autocasts:
        # while the adapter's input is there as it is, in fp32 and in 16 bit, with a gate or without
        return 3 * width * kind.mlp_hidden / at_once + 10 * hidden
    without_one = width * (mlp - kind.mlp_hidden)
    if stack.copies_inputs:
        return without_one + 12 * hidden
    return without_one + 4 * hidden if width == 4 else max(without_one + 2 * hidden, 9 * hidden)


def _matrix_gradients(kind: BlockKind, model: ModelSpec, stack: Stack) -> float:
    """What the attention matrix comes to in its own backward pass, beyond what is kept of it."""
    attention = attention_of(kind, model, stack)
    more = _matrix_at_most(attention, model, stack) - _matrix_kept(attention, model, stack)
    return more * _matrix_elements(attention, model, stack)


def _given_back(kind: BlockKind, model: ModelSpec, stack: Stack) -> float:
    """What the MLP, its adapters and the norm before it have given back once a backward pass comes to the attention."""
    mlp = stack.activation_bytes * kind.mlp + 4 * model.hidden_size + _adapter_input_bytes(kind, stack, of_mlp=True)
    return stack.setup.tokens_per_micro_step * mlp


def working_width(model: ModelSpec, shape: ModelShape, stack: Stack) -> float:
    """Half-width of the band around activations and logits, as a share: what measured rows of this kind of setting give
    (core.accuracy.summarize), or the wider one of settings without rows, and more for what no row has, added as
    independent errors."""
    assume, setup = stack.assume, stack.setup
    kinds = {stack.kind, stack.kind_with(matrix=holds_matrix(model, shape, stack))}
    widths = [max(assume.first(f"width-{kind}", "width-unmeasured") for kind in kinds)]
    if model.num_experts:
        widths.append(assume.value("width-experts"))
    if without_attention := [kind for kind in shape.kinds if not kind.attention_width]:
        widths.append(
            max(assume.value("width-no-attention"), *(_kernels_may_save(k, model, stack) for k in without_attention))
        )
    if caps_compiled(model, stack) and holds_matrix(model, shape, stack):
        widths.append(assume.value("width-unsloth-capped"))
    if stack.use_dora:
        widths.append(assume.value("width-dora"))
    if setup.precision in ("int8", "fp32"):
        widths.append(assume.value("width-int8-fp32"))
    return math.hypot(*widths)


SMALL_CARD_BYTES = 24.5 * 2**30
"""Up to it Unsloth tiles the loss for any number of tokens, on larger cards from TILED_ROWS tokens on."""
TILED_ROWS = 4096
TILE_COLUMNS = 16_384
TILE_BUDGET_BYTES = 256 * 2**20
CHUNK_BUDGET_BYTES = 2 * 2**30
TRL_TILE_ROWS = 4096
"""Tokens of one tile of TRL's loss (kernels/chunked_logprob.py, TOKEN_CHUNK_SIZE); it is 32,768 entries wide."""
MIN_LOGITS = 512 * 151_936
CAPS_LOGITS = ("gemma2", "gemma3n", "gemma4", "muse_glimmer", "nanochat", "vaultgemma")
"""How model_types with a soft cap on their logits begin: final_logit_softcapping of their config.json."""
MIN_ROWS, MAX_ROWS = 512, 4096
"""These and the ones above, but for CAPS_LOGITS: unsloth_zoo 2026.10.9, fused_losses/fused_linear.py."""


class LossMoment(NamedTuple):
    """Bytes beside what blocks keep, at one moment around the loss."""

    logits: float
    activations: float = 0.0
    scratch: float = 0.0
    cap: float | None = None
    """Where the logits adapt to the card: they take at most this, and at most a share of what is free."""
    share_of_free: float = 0.5


def loss_moments(
    model: ModelSpec, stack: Stack, usable_bytes: float | None, previous_inputs: float
) -> list[LossMoment]:
    """All moments that can hold most.

    usable_bytes: of the card; None is a large one. previous_inputs: what the last micro-step's graph still keeps, for a
    program that lets go of it late.
    """
    setup, habits, assume = stack.setup, stack.habits, stack.assume
    tokens = setup.tokens_per_micro_step
    logits = float(tokens * model.vocab_size)
    head = _head_bytes(model, stack)
    match setup.loss_path:
        case "fused" | "fused-func" if setup.framework == "unsloth":
            return [_unsloth_moment(model, stack, usable_bytes, head)]
        case "fused" | "fused-func":
            # TRL's "nll" and Liger's: one tile of logits, and the gradient of the hidden states
            tile = min(logits, assume.value("trl-loss-tile-logits") * min(1.0, tokens / TRL_TILE_ROWS))
            held = stack.compute_bytes * tile + 4.0 * tokens * model.hidden_size
            return [LossMoment(logits=held, activations=head)]
        case "triton":
            kind = "-unsloth" if habits.unsloth_kernels else "-before-4-46" if habits.rebinds_logits else ""
            return [LossMoment(logits=assume.value(f"logits-bytes-triton{kind}") * logits, activations=head)]
        case "chunked":
            return _chunked_moments(model, stack, logits, head, previous_inputs)
    per_logit = assume.value("logits-bytes-full") + _cap_bytes(model, stack)
    held = held_logits_bytes(model, stack)
    return [LossMoment(logits=per_logit * logits + held, activations=head, scratch=_head_copy_bytes(model, stack))]


def _head_copy_bytes(model: ModelSpec, stack: Stack) -> float:
    """The 16-bit copy that autocast makes of a head in fp32, which its backward pass reads again."""
    raised = stack.habits.raised == "all" and stack.autocasts
    return 2.0 * model.vocab_size * model.hidden_size if raised else 0.0


def held_logits_bytes(model: ModelSpec, stack: Stack) -> float:
    """Logits that the caller, or accelerate for it, still holds until the backward pass is over."""
    habits = stack.habits
    if not habits.holds_logits or habits.rebinds_logits or stack.setup.loss_path != "full":
        return 0.0
    width = stack.compute_bytes if habits.autocast else stack.activation_bytes
    return float(width * stack.setup.tokens_per_micro_step * model.vocab_size)


def _head_bytes(model: ModelSpec, stack: Stack) -> float:
    """What the last norm keeps while the loss is worked out: T · 6H, or 4H where it makes no fp32 copy."""
    copies = stack.activation_bytes == 2 and not stack.habits.unsloth_kernels and stack.setup.loss_path == "full"
    wide = 2.0 * (stack.residual_bytes - stack.activation_bytes)
    return stack.setup.tokens_per_micro_step * model.hidden_size * ((6.0 if copies else 4.0) + wide)


def _unsloth_moment(model: ModelSpec, stack: Stack, usable_bytes: float | None, head: float) -> LossMoment:
    """Unsloth's fused loss. Its buffer comes beside the gradient of the hidden states, T · H · 2 or, after forced fp32,
    · 4; Llama 4's whole model is the one catalogue class that it does not reach (transformers' own loss then)."""
    setup, habits, assume = stack.setup, stack.habits, stack.assume
    tokens, vocab, hidden = setup.tokens_per_micro_step, model.vocab_size, model.hidden_size
    gradient = float(stack.residual_bytes * tokens * hidden)
    match habits.unsloth_loss:
        case "cut":
            return LossMoment(logits=gradient, activations=head)
        case "func" | "func-2025":
            # the one of 2025 reckoned with 4 bytes a logit where 16 are held
            over = 4 if habits.unsloth_loss == "func-2025" else 1
            whole = assume.value("logits-bytes-unsloth-func") * tokens * vocab
            cap = over * assume.value("unsloth-loss-cap-bytes")
            return LossMoment(logits=whole, activations=head + gradient, cap=cap, share_of_free=over / 2)
    labels = max(1, tokens - setup.per_device_train_batch_size)  # the last token of each row has none
    rows, columns = unsloth_chunk(labels, hidden, vocab, usable_bytes, ampere=habits.ampere)
    products = 4.0 * rows * hidden  # the chunk's part of that gradient, in fp32
    return LossMoment(
        logits=4.0 * rows * columns + gradient, activations=head + products, cap=CHUNK_BUDGET_BYTES + gradient
    )


def unsloth_chunk(tokens: int, hidden: int, vocab: int, usable_bytes: float | None, *, ampere: bool) -> tuple[int, int]:
    """Rows and columns of the one fp32 buffer of logits that today's loss works in.

    Chunks of whole rows: a power of two near tokens · hidden / vocab, at least 512 rows or 512 · 151,936 logits, at
    most 4,096 rows and 2 GiB. Cards since Ampere work in tiles of at most 256 MiB instead, on a frozen head with more
    than 32,768 entries: always where the card has up to 24.5 GiB, else from 4,096 tokens on (fused_linear.py
    fused_linear_rows, _tiled_layout).
    """
    small = usable_bytes is not None and usable_bytes <= SMALL_CARD_BYTES
    if ampere and vocab > 2 * TILE_COLUMNS and tokens >= (0 if small else TILED_ROWS):
        rows = max(1, min(TILED_ROWS, tokens, TILE_BUDGET_BYTES // (TILE_COLUMNS * 4)))
        columns = max(TILE_BUDGET_BYTES // (rows * 4), TILE_COLUMNS)
        if small:
            columns = TILE_COLUMNS
        return rows, min(columns - columns % TILE_COLUMNS, -(-vocab // TILE_COLUMNS) * TILE_COLUMNS)
    least = min(max(_power_of_two_below(MIN_LOGITS / vocab), MIN_ROWS), MAX_ROWS)
    rows = min(max(_power_of_two_below(tokens * hidden / vocab), least), MAX_ROWS)
    rows = min(rows, max(CHUNK_BUDGET_BYTES // (vocab * 4), 2))
    return max(1, min(rows, tokens)), vocab


def _power_of_two_below(value: float) -> int:
    return 1 << math.floor(math.log2(value)) if value >= 1 else 1


def _chunked_moments(
    model: ModelSpec, stack: Stack, logits: float, head: float, previous_inputs: float
) -> list[LossMoment]:
    """litgpt's loss in chunks of 128 tokens of each row: all chunks of logits stay in the caller's list.

    Fabric hands them over in fp32 (convert_output), where the log-softmax of all chunks and two gradients of one chunk
    come beside them: 4 + 4 + 8 / chunks bytes a logit; in 16 bit half of it. By the end of the next forward pass the
    last micro-step's list is still there (litgpt finetune/lora.py rebinds it only then) beside the 16-bit logits and
    their fp32 copies. A quantized head is unpacked for each chunk.
    """
    habits, setup = stack.habits, stack.setup
    wide = 4 if habits.fp32_logits else 2
    capped = _cap_bytes(model, stack)
    chunks = -(-setup.max_length // int(stack.assume.value("litgpt-loss-chunk-tokens")))
    at_loss = wide * (2 + 2 / chunks) + capped
    moments = [LossMoment(logits=at_loss * logits, activations=head)]
    head_copy = 0.0
    if habits.quantizes_every_linear and setup.quantized:
        head_copy = float(dequantized_width(stack) * model.vocab_size * model.hidden_size)
        in_backward = 2 * wide + stack.compute_bytes / chunks + capped
        moments.append(LossMoment(logits=in_backward * logits, activations=head, scratch=head_copy))
    if habits.keeps_previous_graph:
        held = (wide + stack.compute_bytes + 2 * capped) * logits
        moments += [
            LossMoment(logits=held, activations=head + previous_inputs, scratch=head_copy),
            LossMoment(logits=held + wide * logits, activations=head + previous_inputs),
        ]
    return moments


def dequantized_width(stack: Stack) -> int:
    """Bytes a weight that unpacking a 4-bit or 8-bit weight takes for a moment."""
    return stack.compute_bytes * (2 if stack.habits.dequantizes_twice else 1)


def _cap_bytes(model: ModelSpec, stack: Stack) -> int:
    """Bytes a logit that a soft cap keeps: the result of its tanh."""
    return stack.compute_bytes if model.model_type.startswith(CAPS_LOGITS) else 0
