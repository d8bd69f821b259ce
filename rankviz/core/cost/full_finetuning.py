"""Estimates full fine-tuning of the same base on the same GPU: every weight is trained, without an adapter.

Weights, gradients and AdamW states are bf16: what Unsloth's full_finetuning=True does with a bf16 checkpoint
(unsloth_zoo 2026.10.9 training_utils.prepare_model_for_training; the norms, which it raises to fp32, are too small to
count), and a TRL script that loads the base in bf16. Where a card has no bf16, and where fp32 is asked, all of that
is fp32 (the same function upcasts fp16), computed in fp16 under autocast on such a card. With W bytes a weight:

    memory = P_all · (W + W + states) + activations + logits, as for an adapter without the adapter's terms
    operations a token: forward 2P + att, backward 4P + 2.5 att, recompute 2P + att, head 6HV
    checkpointed 8P + 4.5 att + 6HV, else 6P + 3.5 att + 6HV

which is 2P + 2HV more than with a frozen base: the gradients of the weights. Everything else is memory's and
duration.py's. No measured row validates it, so its band is wider (width-full-static, width-full-working). Left out:
the optimizer's own time, fp32 master weights, several GPUs. Hand-worked in tests/core/cost/test_full_finetuning.py.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.duration import DurationEstimate, duration_at, duration_terms
from rankviz.core.cost.gpu import Gpu
from rankviz.core.cost.memory.estimate import MemoryEstimate
from rankviz.core.cost.memory.peak import MemoryTerms, memory_at, memory_terms
from rankviz.core.cost.memory.weights import trained_bytes
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.cost.shapes import ModelShape, model_shape
from rankviz.core.cost.stack import DTYPE_BYTES, Stack
from rankviz.core.model.spec import ModelSpec
from rankviz.core.quantity import Range


@dataclass(frozen=True, kw_only=True, slots=True)
class FullFinetuning:
    """What training every weight takes."""

    dtype: Literal["bf16", "fp32"]
    """Of weights, gradients and optimizer states."""
    trained_parameters: int
    saved_bytes: int
    """Of the checkpoint: every weight in 16 bit, headers left out."""
    memory: MemoryEstimate
    duration: DurationEstimate | None


def full_finetuning(
    model: ModelSpec,
    setup: TrainingSetup,
    gpu: Gpu | None,
    usable_bytes: float | None,
    assumptions: Assumptions,
) -> FullFinetuning:
    """Memory and time with the batch, length, checkpointing, loss and optimizer of this set-up; its precision only
    where that is fp32."""
    dtype = "fp32" if setup.precision == "fp32" or (gpu is not None and not gpu.supports_bf16) else "bf16"
    computed = "fp32" if setup.precision == "fp32" else "bf16" if dtype == "bf16" else "fp16"
    stack = Stack(setup=replace(setup.fitted, precision=computed), use_dora=False, assume=assumptions, gpu=gpu)
    shape = _bare_shape(model)
    terms = _memory_terms(model, shape, stack, usable_bytes, DTYPE_BYTES[dtype])
    total = model.total_parameters
    return FullFinetuning(
        dtype=dtype,
        trained_parameters=total,
        saved_bytes=2 * total,
        memory=memory_at(terms, 0, total, total),
        duration=_duration(model, shape, stack, gpu) if gpu else None,
    )


@lru_cache(maxsize=128)
def _bare_shape(model: ModelSpec) -> ModelShape:
    return model_shape(model, ())


def _memory_terms(
    model: ModelSpec, shape: ModelShape, stack: Stack, usable_bytes: float | None, width: int
) -> MemoryTerms:
    """The terms of memory.peak with every weight trained in place. Unsloth's kernels that keep less are LoRA's, so the
    blocks are transformers' own."""
    own = memory_terms(model, shape, stack, usable_bytes)
    plain = memory_terms(model, shape, replace(stack, setup=replace(stack.setup, framework="trl")), usable_bytes)
    total, assume = model.total_parameters, stack.assume
    weights = total * width
    return own._replace(
        base_weights=weights,
        base_extra=Range(0.0, 0.0, 0.0),
        saved=trained_bytes(stack, width)._replace(weight=0.0),
        blocks=plain.blocks,
        kept=plain.kept,
        free=own.free + own.base_weights - weights,
        embedding=0,
        merged=own.merged + max(0, width - stack.compute_bytes) / 2 * total,  # autocast's 16-bit copies
        width_static=assume.value("width-full-static"),
        width_working=(own.width_working**2 + assume.value("width-full-working") ** 2) ** 0.5,
    )


def _duration(model: ModelSpec, shape: ModelShape, stack: Stack, gpu: Gpu) -> DurationEstimate | None:
    terms = duration_terms(model, shape, stack, gpu, weight_gradients=True)
    return duration_at(terms, 0) if terms else None
