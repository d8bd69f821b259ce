"""Counts the work of one micro-step: operations of matrix products, and bytes that all other operations move.

Operations per token, with P weights and p adapter parameters that a token is multiplied with (only the active
experts'), att = 4 · keys · Q for each attending block, head = 4HV (forward and the gradient of its input):

    forward 2P + 2p + att, backward 2P + 4p + 2.5 att, recompute 2P + 2p + att (with checkpointing)
    checkpointed 6P + 8p + 4.5 att + head, else 4P + 6p + 3.5 att + head

A frozen base has no weight gradients, which is why this isn't the usual 6N. keys is the mean number of keys a query
sees: S/2, or W(1 - W/2S) in a window W shorter than S; eager attention multiplies the whole matrix, S. Products of fp32
operands (an fp32 base, a head or hidden states raised to fp32, fp32 adapters without autocast) run at a card's fp32
rate, not its tensor cores'.

Bytes moved: each operator but a product reads its inputs and writes its result. The counts in BLOCK, ADAPTER and the
rest are those of transformers 5.17 with peft 0.21, read off whole training steps
(tests/core/cost/test_work_against_torch.py). Where Triton kernels fuse operators, a share of them (assumptions.json).
A quantized weight is read, and written in 16 bit, for each product.
"""

from typing import NamedTuple

from rankviz.core.cost.attention import attention_of, heaviest
from rankviz.core.cost.shapes import BlockKind, ModelShape
from rankviz.core.cost.stack import Stack
from rankviz.core.model.spec import ModelSpec

BLOCK = {
    (2, True): (368, 43, 12.7),
    (2, False): (290, 31, 9.3),
    (4, True): (368, 86, 25.3),
    (4, False): (300, 62, 18.7),
}
"""By bytes of an activation and checkpointing: bytes a token for each unit of H, of 2Q + 2K, and of 3M."""
ADAPTER = {
    "autocast": {True: (42, 24), False: (30, 14)},
    "copies": {True: (24, 68), False: (18, 44)},
    2: {True: (6, 24), False: (6, 14)},
    4: {True: (12, 48), False: (12, 28)},
}
"""By how the adapter gets its input (core.cost.memory.blocks) and checkpointing: bytes a token for in and out features.
Unsloth's kernels copy no input, and are taken like an adapter in the activations' own dtype."""
LOGIT_BYTES = {2: 45, 4: 34}
EAGER_BYTES = {2: 84, 4: 68}
"""For each element of the attention matrix, with checkpointing; two thirds without."""
MATH_BYTES = 87
"""The same of torch's math kernel, in fp32 whatever the queries are: 59 on a CPU, and 14 more in each forward pass on
CUDA, which runs _safe_softmax operator by operator."""


class Work(NamedTuple):
    """Of one micro-step."""

    operations: float
    """In 16 bit."""
    operations_fp32: float
    bytes_moved: float
    operations_per_rank: float
    """More for each unit of rank, in 16 bit."""
    operations_fp32_per_rank: float


def work_of(model: ModelSpec, shape: ModelShape, stack: Stack, *, weight_gradients: bool = False) -> Work:
    """weight_gradients: whether the base trains too, which takes 2P + 2HV operations a token more."""
    setup, habits = stack.setup, stack.habits
    tokens, checkpointed = setup.tokens_per_micro_step, setup.gradient_checkpointing != "none"
    passes, adapter_passes, attention_passes = (6, 8, 4.5) if checkpointed else (4, 6, 3.5)
    head = (6 if weight_gradients else 4) * model.hidden_size * model.vocab_size
    weights = (passes + 2 * weight_gradients) * shape.active_weights
    attention = attention_passes * _attention_operations(model, shape, stack)
    adapter = adapter_passes * float(shape.active_adapter_parameters)
    attends = heaviest(model, shape, stack)
    plain_fp32 = stack.computes_fp32
    raised_head = plain_fp32 or (habits.raised == "all" and not habits.autocast)
    in_fp32 = {
        "weights": plain_fp32,
        "head": raised_head,
        "attention": stack.attention_bytes == 4 or (attends is not None and attends.kernel == "math"),
        "adapter": habits.adapter_bytes == 4 and not habits.autocast,
    }
    parts = {"weights": weights, "head": head, "attention": attention}
    return Work(
        operations=tokens * sum(value for name, value in parts.items() if not in_fp32[name]),
        operations_fp32=tokens * sum(value for name, value in parts.items() if in_fp32[name]),
        bytes_moved=_bytes_moved(model, shape, stack),
        operations_per_rank=0.0 if in_fp32["adapter"] else tokens * adapter,
        operations_fp32_per_rank=tokens * adapter if in_fp32["adapter"] else 0.0,
    )


def _attention_operations(model: ModelSpec, shape: ModelShape, stack: Stack) -> float:
    """A token's, forward."""
    length = stack.setup.max_length
    return sum(
        4
        * kind.count
        * kind.attention_width
        * (length if attention_of(kind, model, stack).holds_matrix else _keys_per_query(model, length, kind.sliding))
        for kind in shape.kinds
    )


def _keys_per_query(model: ModelSpec, length: int, sliding: bool) -> float:
    window = model.sliding_window
    if sliding and window and window < length:
        return window * (1 - window / (2 * length))
    return length / 2


def _bytes_moved(model: ModelSpec, shape: ModelShape, stack: Stack) -> float:
    setup, width = stack.setup, stack.activation_bytes
    tokens, checkpointed = setup.tokens_per_micro_step, setup.gradient_checkpointing != "none"
    blocks = sum(kind.count * _block_bytes(kind, model, stack) for kind in shape.kinds)
    fused = stack.assume.value("fused-traffic-share") if stack.habits.fuses_operators else 1.0
    logits = LOGIT_BYTES[width] * model.vocab_size * (1.0 if setup.loss_path == "full" else 0.5)
    weights = 0.0
    if setup.quantized:
        read = stack.assume.value(f"weight-bytes-{setup.precision}")
        weights = (3 if checkpointed else 2) * shape.active_weights * (read + 2 * stack.compute_bytes)
    return tokens * (fused * blocks + logits) + weights


def _block_bytes(kind: BlockKind, model: ModelSpec, stack: Stack) -> float:
    """A token's."""
    width, checkpointed = stack.activation_bytes, stack.setup.gradient_checkpointing != "none"
    per_hidden, per_attention, per_mlp = BLOCK[width, checkpointed]
    way = ("autocast" if stack.autocasts else "copies") if stack.copies_inputs else width
    per_in, per_out = ADAPTER[way][checkpointed]
    moved = per_hidden * model.hidden_size + per_attention * kind.attention + per_mlp * kind.mlp
    if width == 4 and stack.setup.quantized and not stack.computes_fp32:
        # Every 4-bit layer turns its fp32 input into 16 bit and its output back: 6 bytes each, in each pass.
        moved += 6 * (3 if checkpointed else 2) * (7 * model.hidden_size + kind.attention + kind.mlp)
    moved += per_in * kind.targeted_inputs + per_out * kind.targeted_outputs
    attention = attention_of(kind, model, stack)
    if attention.holds_matrix:
        share = 1.0 if checkpointed else 2 / 3
        of_matrix = MATH_BYTES if attention.kernel == "math" else EAGER_BYTES[stack.attention_bytes]
        moved += share * of_matrix * model.num_attention_heads * stack.setup.max_length
    return moved
