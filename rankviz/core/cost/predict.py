"""Predicts memory and duration of one set-up, and those of full fine-tuning of the same base."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, NamedTuple

from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.card_notes import attention_notes
from rankviz.core.cost.duration import DurationEstimate, DurationTerms, cpu_duration_terms, duration_at, duration_terms
from rankviz.core.cost.memory import MemoryEstimate, MemoryTerms, memory_at, memory_terms
from rankviz.core.cost.setup import Device, Gpu, TrainingSetup
from rankviz.core.cost.shapes import Attention, ModelShape, heaviest, model_shape
from rankviz.core.cost.stack import DTYPE_BYTES, Stack, compute_dtype, settled
from rankviz.core.cost.weights import trained_bytes
from rankviz.core.lora.config import Framework, LoraConfig
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.lora.resolve import resolve
from rankviz.core.model.spec import ModelSpec
from rankviz.core.quantity import Range

FP32_ACTIVATION = ("apertus",)
"""model_types whose activation function (xIELU) autocast runs in fp32, as it does torch's LayerNorm. bitsandbytes'
layers answer in the dtype that they are given (nn/modules.py, Linear4bit.forward), so the residual stream is fp32 from
there on."""


class Prediction(NamedTuple):
    """An adapter on a stack, for any rank."""

    plan: AdapterPlan
    memory: MemoryTerms
    duration: DurationTerms | None
    """None where the speed of the GPU is not known."""
    saved_parameters: int
    """Trained in full beside the adapter."""
    attention: Attention | None
    """Of the blocks whose attention takes most; None on a CPU and where none attends."""
    notes: tuple[str, ...]
    """What the attention takes, where that could surprise."""

    def memory_at(self, r: int) -> MemoryEstimate:
        """Bytes at the peak of a step."""
        plan, saved = self.plan, self.saved_parameters
        return memory_at(
            self.memory,
            r,
            plan.parameters(r),
            saved,
            lambda rank: (plan.expert_rank_at(rank), plan.parameters(rank) - saved),
        )

    def duration_at(self, r: int) -> DurationEstimate | None:
        """Seconds of a step, of loading and of all steps."""
        return duration_at(self.duration, self._mean_rank(r)) if self.duration else None

    def _mean_rank(self, r: int) -> float:
        """The mean rank of the pairs that a token is multiplied with, weighted by their parameters per unit of rank."""
        if (more := self.plan.expert_rank_at(r) - r) == 0:
            return r
        shape = _shape(self.plan)
        return r + more * shape.active_expert_parameters / shape.active_adapter_parameters


def predict(
    model: ModelSpec,
    lora: LoraConfig,
    stack: Stack,
    device: Device,
    *,
    usable_bytes: float | None = None,
    names: Framework | None = None,
) -> Prediction:
    """The prediction of an adapter, rank aside; InvalidSettingError where PEFT refuses the adapter.

    usable_bytes: of the card, where known; the loss is computed in larger pieces on a card with more room.
    names: by whose rules target names reach modules; None is the stack's framework.
    """
    setup = stack.setup.fitted
    stack = replace(stack, setup=setup, gpu=device.gpu)
    plan = resolve(model, lora, names or setup.framework, precision=setup.precision, cuda=device.cuda)
    model = plan.model
    stack = _raised(settled(stack, model, device), model, device)
    shape = _shape(plan)
    if not device.cuda:
        duration = cpu_duration_terms(model, shape, stack, device.cpu_count, device.cpu_bf16)
    else:
        duration = duration_terms(model, shape, stack, device.gpu) if device.gpu else None
    trained = frozenset(module.path for module in plan.saved if module.trained)
    cards = device.gpu.utilisation_group if device.gpu else ""
    terms = memory_terms(model, shape, stack, usable_bytes, cards, trained)
    return Prediction(
        plan=plan,
        memory=terms,
        duration=duration,
        saved_parameters=sum(module.trained for module in plan.saved),
        attention=heaviest(model, shape, stack) if device.cuda else None,
        notes=tuple(attention_notes(model, shape, stack)) if device.cuda else (),
    )


def _raised(stack: Stack, model: ModelSpec, device: Device) -> Stack:
    """The stack with fp32 hidden states where an activation function or a LayerNorm raises them and a 4-bit layer keeps
    them so, and with fp32 throughout where RankViz's scripts for TRL and PEFT train so."""
    habits, setup = stack.habits, stack.setup
    in_fp32 = setup.precision != "fp32" and "fp32" == compute_dtype(model.model_type, setup, bf16=device.has_bf16)
    if stack.measured_habits is None and in_fp32:
        fp32 = replace(habits, fp32_compute=True, autocast=False, adapter_bytes=4, saved_bytes=4)
        return replace(stack, measured_habits=fp32)
    raises = model.model_type in FP32_ACTIVATION or _has_layer_norms(model)
    quantizes = setup.quantized and model.unquantized_parameters < model.total_parameters
    if not raises or not quantizes or habits.unsloth_kernels:
        return stack
    raised = "norms" if stack.autocasts and habits.raised == "none" else habits.raised
    return replace(stack, measured_habits=replace(habits, raised=raised))


def _has_layer_norms(model: ModelSpec) -> bool:
    """Its norms are torch's LayerNorm, which has a bias, rather than an RMS norm."""
    norms = [module for module in model.plain_modules if module.is_norm and module.part != "vision"]
    return any(tensor.name == "bias" for module in norms for tensor in module.tensors)


@lru_cache(maxsize=512)
def _shape(plan: AdapterPlan) -> ModelShape:
    return model_shape(plan.model, plan.adapted)


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
