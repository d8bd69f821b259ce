"""Bytes that a training step holds besides weights: activations and gradients of blocks, and the loss.
Letters in formulas are those of core.cost.shapes."""

import math
from typing import NamedTuple

from rankviz.core.cost import shapes
from rankviz.core.cost.shapes import BlockKind, ModelShape
from rankviz.core.cost.stack import OFFLOAD_MIN_LENGTH, Litgpt, Stack
from rankviz.core.model.spec import ModelSpec

OFFLOADED_LEFT = 4
"""Hidden states that stay on the card with Unsloth's offloading: the embedding's output, which autograd holds until the
backward pass is over, the last block's input, and two staging buffers (one below 512 MiB free)."""


class Block:
    """Memory of one decoder block in one micro-step; methods return bytes unless they say otherwise. The terms are the
    tensors that autograd saves in transformers 5.17 with peft 0.21 (saved_tensors_hooks), checked against whole
    training steps in tests/core/cost/test_against_torch.py and tests/core/model/test_activations.py."""

    def __init__(self, kind: BlockKind, model: ModelSpec, stack: Stack):
        self.kind, self.model, self.stack = kind, model, stack
        self.attention = shapes.attention_of(kind, model, stack)
        self.tokens, self.width = stack.setup.tokens_per_micro_step, stack.activation_bytes
        self.hidden = model.hidden_size
        # bytes per token measured on the block's class in transformers; None where it was not measured
        measured = None if stack.habits.mlx else kind.activations
        self.held = measured and measured.held(self.width, autocast=stack.habits.autocast)
        # Unsloth's own MLP needs adapters without DoRA on all projections (models/llama.py)
        self.fuses_mlp = not stack.use_dora and kind.targeted_mlp_inputs == 2 * self.hidden + kind.mlp_hidden
        # experts that run one after the other hold one expert's gradients at a time
        self._experts_in_turn = stack.habits.one_expert_at_a_time and model.num_experts > 0

    def kept(self) -> tuple[float, float, float]:
        """Return (bytes kept for the backward pass, further bytes per unit of r, and per unit of the experts' rank).
        The last two are x·A of each module. transformers: tokens T times the bytes measured on the block's class (else
        a Llama block's, `_llama_kept`), plus the inputs of adapters. Unsloth's own families: 2T(4H + 2Q + 2K + 2M),
        since their MLP works in place if all its projections have adapters. Unsloth's other families run transformers'
        classes, whose adapters keep their input once and without a copy (unsloth_zoo/compiler.py, lora_forward). Left
        out: what torch.compile saves."""
        kind, stack = self.kind, self.stack
        attention = self._attention_bytes()
        if stack.use_dora:  # the base's output and the adapter's, of each module (peft tuners/lora/dora.py)
            attention += self.tokens * 2 * stack.attention_bytes * kind.targeted_outputs
        if stack.own_blocks:
            elements = 4 * self.hidden + kind.attention + kind.mlp - kind.mlp_hidden
            if self.model.model_type == "qwen3":  # queries and keys are kept from before and after their norms
                elements += kind.attention / 2
            return self.tokens * self.width * (elements + self._unfused_elements()) + attention, 0.0, 0.0
        each = self._llama_kept()
        if self.held:
            each = self.held.kept + (0 if stack.checkpoints else self.held.own_input)
        each += self._adapter_inputs() - (self.width - stack.attention_bytes) * kind.attention
        if stack.habits.litgpt:
            each += self.quantized_inputs() / self.tokens + self.width * kind.padded_outputs
        slopes = (kind.targeted_modules - kind.targeted_expert_modules, kind.targeted_expert_modules)
        width = 4 if stack.habits.mlx else self.width
        return self.tokens * each + attention, *(float(self.tokens * width * modules) for modules in slopes)

    def _unfused_elements(self) -> float:
        """Extra elements per token in Unsloth's own families where projections of attention or MLP lack an adapter, or
        have biases. Unfused code runs there, in which each adapter keeps its input."""
        kind = self.kind
        of_attention = min(kind.targeted_inputs - kind.targeted_mlp_inputs, 3 * self.hidden)
        # qwen2 has biases on q, k and v
        some = kind.padded_outputs or self.model.model_type == "qwen2" or self.stack.use_dora
        more = max(0, of_attention - self.hidden) if some else 0
        return more if self.fuses_mlp else more + kind.mlp_hidden + kind.targeted_mlp_inputs

    def _llama_kept(self) -> float:
        """Bytes per token that a Llama block of these widths keeps in transformers without adapters. 16 bit: 8H + 2(2Q
        + 2K + 3M), where 8H are the fp32 inputs of two norms. fp32: 4H + 4(2Q + 2K + 3M), and 4H more without
        checkpointing (with it, the checkpoint is the first norm's input). MLX: norms keep their inputs, 4H or 2H."""
        if self.stack.habits.mlx:
            norms = 1 if self.stack.checkpoints else 2
            return self.width * (norms * self.hidden + self.kind.attention + self.kind.mlp)
        norms = 8 * self.hidden if self.width == 2 or not self.stack.checkpoints else 4 * self.hidden
        return norms + self.width * (self.kind.attention + self.kind.mlp)

    def _adapter_inputs(self, *, of_mlp: bool = False) -> float:
        """Bytes per token of the inputs that adapters keep. of_mlp: True for the MLP's alone. An fp32 adapter under
        16-bit activations copies its input (peft lora/layer.py, _cast_input_dtype): 4 bytes an element, or 2 where
        autocast turns the copy back to 16 bit. Other adapters keep the input itself, once for all modules that read
        it; MLX makes one fp32 copy for them."""
        kind, stack = self.kind, self.stack
        inputs = kind.targeted_mlp_inputs if of_mlp else kind.targeted_inputs
        if stack.habits.litgpt or stack.habits.dropout:  # a copy and a byte mask for each module
            return (1 + (4 if stack.copies_inputs else self.width)) * inputs
        if stack.habits.mlx:
            of_attention = 0 if of_mlp else (4 - self.width) * kind.out_of_attention
            shared = kind.targeted_mlp_shared_inputs if of_mlp else kind.targeted_shared_inputs
            return 4 * shared + of_attention
        if stack.copies_inputs:
            return (2 if stack.autocasts else 4) * inputs
        return self.width * (kind.targeted_mlp_shared_inputs if of_mlp else kind.targeted_shared_inputs)

    def quantized_inputs(self) -> float:
        """Bytes of the inputs of quantized layers; 0 except in litgpt, whose version of bitsandbytes keeps them."""
        keeps = self.stack.habits.litgpt and self.stack.setup.quantized
        return float(self.tokens * self.width * self.kind.inputs) if keeps else 0.0

    def kernels_may_save(self) -> float:
        """Share of the kept bytes that optional kernels for linear attention may save: all beyond a Llama block's."""
        return max(0.0, 1 - self._llama_kept() / self.held.kept) if self.held else 0.0

    def _attention_bytes(self) -> float:
        """Bytes that attention keeps beyond queries, keys, values and output of flash attention. Eager: the softmax in
        fp32 and in a 16-bit copy; with attention sinks the copy alone. Math kernel: the softmax, and fp32 copies of
        queries, keys and values, with keys and values repeated for each query head. Other kernels, if they get a mask:
        a copy of the mask in the queries' dtype."""
        setup, width, attention = self.stack.setup, self.stack.attention_bytes, self.attention
        kind, model = self.kind, self.model
        queries, keys = kind.attention_width, shapes.key_heads(kind, model) * shapes.head_dim(kind, model)
        kept = self._matrix_bytes[0] * self._matrix_elements
        if attention.kernel == "math":
            kept += self.tokens * (12 * queries - width * (queries + 2 * keys))
        elif attention.expanded:
            kept += self.tokens * width * 2 * (queries - keys)
        if attention.masked and not attention.holds_matrix:
            kept += width * setup.per_device_train_batch_size * setup.max_length**2
        return kept

    # Not cached: for cached_property, Python 3.11 has one lock for all instances, on which visitors wait.
    @property
    def _matrix_elements(self) -> float:
        setup = self.stack.setup
        elements = setup.per_device_train_batch_size * self.model.num_attention_heads * setup.max_length**2
        return float(elements) if self.attention.holds_matrix else 0.0

    @property
    def _matrix_bytes(self) -> tuple[float, float]:
        """(bytes per element of the attention matrix kept for the backward pass, peak bytes in that pass)."""
        width, assume, model = self.stack.attention_bytes, self.stack.assume, self.model
        if self.attention.kernel == "math":
            return 4, assume.value("math-attention-bytes")
        if self.stack.habits.mlx:
            return width, width * assume.value("mlx-attention-copies")
        if model.model_type in shapes.SINKS:
            return width, width * assume.value("sink-attention-copies")
        if shapes.caps_compiled(model, self.stack):  # the products before the cap, and the softmax
            return 2 * width, width * assume.value("unsloth-capped-attention-copies")
        cap = width if model.model_type in shapes.CAPS_SCORES else 0  # a cap's tanh keeps its result
        in_fp16 = self.stack.setup.precision == "fp16" or self.stack.compute_capability < 8
        dtype = "-fp32" if width == 4 else "" if in_fp16 else "-bf16"
        return (4 if width == 4 else 6) + cap, assume.value(f"eager-attention-bytes{dtype}")

    def matrix(self) -> float:
        """Peak bytes of the attention matrix; 0 for a kernel that makes none."""
        return self._matrix_bytes[1] * self._matrix_elements

    def dora_inputs(self) -> float:
        """Extra bytes while DoRA computes the norm of one module: the module's input in its own dtype and in fp32, and
        four hidden states, minus two outputs of the module, which do not exist yet."""
        inputs = self.kind.targeted_mlp_hidden or self.hidden
        return float(self.tokens * (6 * inputs + 4 * self.hidden)) if self.stack.use_dora else 0.0

    def gradients(self) -> float:
        """Peak bytes of gradients in the block's backward pass, beyond the bytes that the block keeps.

        Without DoRA: tokens times `_block_gradients`. DoRA adds, at the up projection, the fp32 gradient of its output
        and two products with the magnitude's scale: 16M - 2H with the gate's. Compiled blocks hold more; the band
        `width-unsloth-compiled` covers this. An attention matrix is largest later, once the MLP, its adapters and the
        norm before it have been freed.
        """
        kind, tokens, stack = self.kind, self.tokens, self.stack
        at_peak = tokens * self._block_gradients()
        if stack.use_dora:
            at_peak += tokens * max(0, 10 * kind.targeted_mlp_hidden - 12 * self.hidden)
        at_peak += 4 * (stack.residual_bytes - self.width) * tokens * self.hidden
        of_matrix = (self._matrix_bytes[1] - self._matrix_bytes[0]) * self._matrix_elements
        freed = tokens * (self.width * kind.mlp + 4 * self.hidden + self._adapter_inputs(of_mlp=True))
        return max(0.0, at_peak, of_matrix - freed)

    def _block_gradients(self) -> float:
        """Bytes of gradients per token: a Llama block's, plus the measured difference between the block's class and a
        Llama block without adapters. With an adapter on the down projection the largest moment is elsewhere, so a
        negative difference is ignored. Without a gate the class's largest moment is in the activation function, after
        the down projection has freed its adapter's input; the larger of both moments is returned."""
        kind, stack, llama = self.kind, self.stack, self._llama_gradients()
        if self.held is None or self._experts_in_turn or stack.own_blocks:
            return llama
        if kind.mlp == 2 * kind.mlp_hidden:
            width = 2 if stack.copies_inputs and stack.autocasts else self.width
            return max(llama, self.held.gradients - width * kind.targeted_mlp_hidden)
        beyond = self.held.gradients - self._plain_gradients(kind.mlp)
        return llama + (max(0.0, beyond) if kind.targeted_mlp_hidden else beyond)

    def _plain_gradients(self, mlp: float) -> float:
        """Bytes of gradients per token in a Llama block without an adapter on the down projection: in the MLP 6M + 2H
        (16 bit) or 12M + 4H (fp32), or in the norm before it 2M + 11H."""
        if self.width == 4:
            return 4 * mlp + 4 * self.hidden
        return max(2 * mlp + 2 * self.hidden, 2 * self.kind.mlp_hidden + 11 * self.hidden)

    def _llama_gradients(self) -> float:
        """Bytes of gradients per token in a Llama block, by how the down projection's adapter gets its input. Uncopied:
        4M + 2H or 9H, in fp32 8M + 4H. As fp32 copies: 4M + 12H. As copies under autocast: 6M + 10H, in fp32 10M + 2H.
        In Unsloth's own families: 2(H + M), with kept tensors 2(5H + 2Q + 2K + 3M) (kernels/fast_lora.py)."""
        kind, stack, width, hidden = self.kind, self.stack, self.width, self.hidden
        if stack.own_blocks:
            return width * (hidden + kind.mlp_hidden if self.fuses_mlp else kind.mlp)
        at_once = self.model.num_experts if self._experts_in_turn else 1
        mlp = kind.mlp / at_once
        if not kind.targeted_mlp_hidden:
            return self._plain_gradients(mlp)
        if stack.copies_inputs and stack.autocasts and width == 4:
            return width * mlp - 2 * kind.mlp_hidden / at_once + 2 * hidden
        if stack.copies_inputs and stack.autocasts:
            return 3 * width * kind.mlp_hidden / at_once + 10 * hidden
        without_one = width * (mlp - kind.mlp_hidden)
        if stack.copies_inputs:
            return without_one + 12 * hidden
        return without_one + 4 * hidden if width == 4 else max(without_one + 2 * hidden, 9 * hidden)


def checkpoint_bytes(model: ModelSpec, shape: ModelShape, stack: Stack) -> float:
    """Bytes of all blocks' inputs, kept for the backward pass: blocks · T · H · 2, or · 4 where hidden states are fp32.
    Where Unsloth offloads them to host memory, OFFLOADED_LEFT of them stay (unsloth_zoo/gradient_checkpointing.py)."""
    if not stack.checkpoints:
        return 0.0
    setup = stack.setup
    each = float(setup.tokens_per_micro_step * model.hidden_size * stack.residual_bytes)
    offloads = setup.framework == setup.gradient_checkpointing == "unsloth" and setup.max_length >= OFFLOAD_MIN_LENGTH
    return each * (min(OFFLOADED_LEFT, shape.blocks) if offloads else shape.blocks)


def mask_bytes(blocks: list[Block], stack: Stack) -> float:
    """Bytes of the attention masks, made once per model: 1 byte per element for SDPA, the queries' width for eager
    attention. Padded examples have a mask each, others share one."""
    setup = stack.setup
    made = {(each.kind.sliding, each.attention.kernel == "eager") for each in blocks if each.attention.masked}
    examples = setup.per_device_train_batch_size if setup.mixes_lengths else 1
    return float(sum(stack.attention_bytes if eager else 1 for _, eager in made) * examples * setup.max_length**2)


SMALL_CARD_BYTES = 24.5 * 2**30
"""Usable bytes of a card up to which Unsloth always tiles the loss; with more, from TILED_ROWS tokens on."""
TILED_ROWS = 4096
TILE_COLUMNS = 16_384
TILE_BUDGET_BYTES = 256 * 2**20
CHUNK_BUDGET_BYTES = 2 * 2**30
MIN_LOGITS = 512 * 151_936
MIN_ROWS, MAX_ROWS = 512, 4096
"""Fewest and most rows of a chunk. Source of this and all since SMALL_CARD_BYTES: unsloth_zoo 2026.10.9,
fused_linear.py."""
TRL_TILE_ROWS = 4096
"""Tokens in one tile of TRL's loss (kernels/chunked_logprob.py, TOKEN_CHUNK_SIZE); a tile has 32,768 columns."""
CAPS_LOGITS = ("gemma2", "gemma3n", "gemma4", "muse_glimmer", "nanochat", "vaultgemma")
"""Beginnings of model_types with a soft cap on their logits (final_logit_softcapping of config.json)."""


class LossMoment(NamedTuple):
    """Bytes at one moment around the loss, beyond the bytes that blocks keep. For a loss that sizes its logits by the
    card, the logits take at most `cap` bytes, and at most `share_of_free` of the free memory."""

    logits: float
    activations: float = 0.0
    scratch: float = 0.0
    cap: float | None = None
    share_of_free: float = 0.5


def loss_moments(model: ModelSpec, stack: Stack, usable_bytes: float | None, previous: float = 0.0) -> list[LossMoment]:
    """Return the moments around the loss at which memory may peak. usable_bytes: Usable memory of the card; None for a
    large card. previous: Bytes of the last micro-step's graph, in a program that frees it late."""
    setup, habits, assume = stack.setup, stack.habits, stack.assume
    tokens = setup.tokens_per_micro_step
    logits = float(tokens * model.vocab_size)
    if setup.grpo:
        return [_grpo_moment(model, stack)]
    # what the last norm keeps while the loss is computed: T · 6H, or 4H where it makes no fp32 copy
    copies = stack.activation_bytes == 2 and not habits.unsloth_kernels and setup.loss_path == "full"
    wide = 2.0 * (stack.residual_bytes - stack.activation_bytes)
    head = tokens * model.hidden_size * ((6.0 if copies else 4.0) + wide)
    match setup.loss_path:
        case "fused" | "fused-func" if setup.framework == "unsloth":
            return [_unsloth_moment(model, stack, usable_bytes, head)]
        case "fused" | "fused-func":
            # TRL's "nll" and Liger's: one tile of logits, and the gradient of the hidden states
            tile = min(logits, assume.value("trl-loss-tile-logits") * min(1.0, tokens / TRL_TILE_ROWS))
            return [LossMoment(stack.compute_bytes * tile + 4.0 * tokens * model.hidden_size, head)]
        case "triton":
            kind = "-unsloth" if habits.unsloth_kernels else "-before-4-46" if habits.rebinds_logits else ""
            return [LossMoment(assume.value(f"logits-bytes-triton{kind}") * logits, head)]
        case "chunked":
            return _chunked_moments(model, stack, logits, head, previous)
    per_logit = assume.value("logits-bytes-mlx" if habits.mlx else "logits-bytes-full") + _cap_bytes(model, stack)
    # autocast makes a 16-bit copy of a head in fp32, which its backward pass reads again
    copy = 2.0 * model.vocab_size * model.hidden_size if habits.raised == "all" and stack.autocasts else 0.0
    return [LossMoment(per_logit * logits + held_logits_bytes(model, stack), head, copy)]


def held_logits_bytes(model: ModelSpec, stack: Stack) -> float:
    """Bytes of the logits that the training loop, or accelerate, references until the backward pass is over."""
    habits = stack.habits
    if not habits.holds_logits or habits.rebinds_logits or stack.setup.loss_path != "full" or stack.setup.grpo:
        return 0.0
    width = stack.compute_bytes if habits.autocast else stack.activation_bytes
    return float(width * stack.setup.tokens_per_micro_step * model.vocab_size)


def _unsloth_moment(model: ModelSpec, stack: Stack, usable_bytes: float | None, head: float) -> LossMoment:
    """Return the moment of Unsloth's fused loss: its buffer and the hidden states' gradient, T · H · 2 or 4 bytes."""
    setup, habits, assume = stack.setup, stack.habits, stack.assume
    tokens, vocab, hidden = setup.tokens_per_micro_step, model.vocab_size, model.hidden_size
    gradient = float(stack.residual_bytes * tokens * hidden)
    if habits.unsloth_loss == "cut":
        return LossMoment(gradient, head)
    if habits.unsloth_loss != "chunked":
        over = 4 if habits.unsloth_loss == "func-2025" else 1  # reckoned with 4 bytes a logit where 16 are held
        whole, cap = assume.value("logits-bytes-unsloth-func") * tokens * vocab, assume.value("unsloth-loss-cap-bytes")
        return LossMoment(whole, head + gradient, cap=over * cap, share_of_free=over / 2)
    labels = max(1, tokens - setup.per_device_train_batch_size)  # the last token of each row has none
    rows, columns = unsloth_chunk(labels, hidden, vocab, usable_bytes, ampere=habits.ampere)
    products = 4.0 * rows * hidden  # the chunk's part of that gradient, in fp32
    return LossMoment(4.0 * rows * columns + gradient, head + products, cap=CHUNK_BUDGET_BYTES + gradient)


def _grpo_moment(model: ModelSpec, stack: Stack) -> LossMoment:
    """Return the moment of GRPO's loss, which has log-probabilities of completions alone. TRL 1.15 computes them in the
    tiles of its other losses (trainer/utils.py, add_fused_lm_head); with the loss path "full", as TRL up to 1.10 did,
    all logits of a micro-step's completions are held. Unsloth computes them in chunks of an eighth of the tokens
    (unsloth_zoo 2026.10.9, fused_losses/chunked_logprob.py); in 2025 it held the logits of one completion at a time."""
    setup, habits, assume = stack.setup, stack.habits, stack.assume
    length, batch, hidden = setup.grpo.max_completion_length, setup.per_device_train_batch_size, model.hidden_size
    tokens, vocab = length * batch, model.vocab_size
    # the last norm's input, the gradient of all hidden states, and those of completions copied out of them
    states = (
        4.0 + stack.residual_bytes
    ) * setup.tokens_per_micro_step * hidden + stack.activation_bytes * tokens * hidden
    if habits.unsloth_kernels and habits.unsloth_loss in ("func-2025", "cut"):
        return LossMoment(assume.value("grpo-logits-bytes-unsloth-2025") * length * vocab, states)
    if habits.unsloth_kernels:
        rows = min(tokens, max(MIN_ROWS, -(-tokens // 8)))
        return LossMoment(assume.value("grpo-logits-bytes-unsloth") * rows * vocab, states, cap=CHUNK_BUDGET_BYTES)
    if setup.loss_path == "full":
        return LossMoment(assume.value("grpo-logits-bytes-full") * tokens * vocab, states)
    tile = min(float(tokens * vocab), assume.value("trl-loss-tile-logits") * min(1.0, tokens / TRL_TILE_ROWS))
    return LossMoment(stack.compute_bytes * tile + 4.0 * tokens * hidden, states)


def unsloth_chunk(tokens: int, hidden: int, vocab: int, usable_bytes: float | None, *, ampere: bool) -> tuple[int, int]:
    """Return rows and columns of the fp32 buffer of logits in Unsloth's current loss (fused_linear_rows,
    _tiled_layout). Chunks have all columns; their rows are a power of two near tokens · hidden / vocab, at least 512
    rows or 512 · 151,936 logits, at most 4,096 rows and 2 GiB. Cards since Ampere with a frozen head of over 32,768
    entries use tiles of at most 256 MiB: always up to 24.5 GiB of usable memory, else from 4,096 tokens on."""
    small = usable_bytes is not None and usable_bytes <= SMALL_CARD_BYTES
    if ampere and vocab > 2 * TILE_COLUMNS and tokens >= (0 if small else TILED_ROWS):
        rows = max(1, min(TILED_ROWS, tokens, TILE_BUDGET_BYTES // (TILE_COLUMNS * 4)))
        columns = TILE_COLUMNS if small else max(TILE_BUDGET_BYTES // (rows * 4), TILE_COLUMNS)
        return rows, min(columns - columns % TILE_COLUMNS, -(-vocab // TILE_COLUMNS) * TILE_COLUMNS)
    least, chosen = (1 << max(0, math.floor(math.log2(rows))) for rows in (MIN_LOGITS / vocab, tokens * hidden / vocab))
    rows = min(max(chosen, min(max(least, MIN_ROWS), MAX_ROWS)), MAX_ROWS, max(CHUNK_BUDGET_BYTES // (vocab * 4), 2))
    return max(1, min(rows, tokens)), vocab


def _chunked_moments(model: ModelSpec, stack: Stack, logits: float, head: float, previous: float) -> list[LossMoment]:
    """Return the moments of a loss computed in chunks of 128 tokens of each row. A list keeps the logits of all chunks;
    the log-softmax of all chunks and two gradients of one chunk come on top. litgpt unpacks a quantized head for each
    chunk. Its list of the last micro-step lives until the next forward pass is over, beside the new 16-bit logits and
    their copies (finetune/lora.py)."""
    habits, setup, capped = stack.habits.litgpt or Litgpt(), stack.setup, _cap_bytes(model, stack)
    wide, copy = habits.logit_bytes, 0.0
    chunks = -(-setup.max_length // int(stack.assume.value("litgpt-loss-chunk-tokens")))
    moments = [LossMoment((wide * (2 + 2 / chunks) + capped) * logits, head)]
    if habits.quantizes_head and setup.quantized:
        copy = float(stack.compute_bytes * habits.unpacked_copies * model.vocab_size * model.hidden_size)
        moments.append(LossMoment((2 * wide + stack.compute_bytes / chunks + capped) * logits, head, copy))
    if habits.keeps_previous_graph:
        held = (wide + stack.compute_bytes + 2 * capped) * logits
        moments.append(LossMoment(held, head + previous, copy))
        moments.append(LossMoment(held + wide * logits, head + previous))
    return moments


def _cap_bytes(model: ModelSpec, stack: Stack) -> int:
    """Bytes per logit that a soft cap on logits keeps (the result of its tanh); 0 without a cap."""
    return stack.compute_bytes if model.model_type.startswith(CAPS_LOGITS) else 0
