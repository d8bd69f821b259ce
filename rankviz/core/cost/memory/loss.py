"""Computes what the loss holds, in bytes: at each moment that can be the peak, for each way to compute it.

T tokens of a micro-step after padding, H hidden size, V vocabulary. Every token is taken to carry a label: rows with
masked prompts hold less. Where each figure was read stands beside it; constants are rows of assumptions.json. Checked
against whole training steps in tests/core/cost/memory/test_against_autograd.py (transformers' own loss) and worked out
by hand in tests/core/cost/memory/test_loss.py (the rest).
"""

import math
from typing import NamedTuple

from rankviz.core.cost.stack import Stack
from rankviz.core.model.spec import ModelSpec

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
