"""Predicts memory and duration of one set-up, and of full fine-tuning of its base."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, NamedTuple

from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.duration import DurationEstimate, DurationTerms, duration_terms
from rankviz.core.cost.memory import MemoryEstimate, MemoryTerms
from rankviz.core.cost.setup import Device, Gpu, TrainingSetup, card
from rankviz.core.cost.shapes import ModelShape, model_shape
from rankviz.core.cost.stack import DTYPE_BYTES, Stack, compute_dtype, settled
from rankviz.core.lora.config import Framework, LoraConfig
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.lora.resolve import resolve
from rankviz.core.model.spec import ModelSpec

FP32_ACTIVATION = ("apertus",)
"""model_types whose activation function (xIELU) autocast runs in fp32, as it runs torch's LayerNorm. bitsandbytes'
layers return their input's dtype (nn/modules.py, Linear4bit.forward), so hidden states are fp32 from there on."""


class Prediction(NamedTuple):
    """Memory and duration of one adapter on one stack, for any rank."""

    plan: AdapterPlan
    memory: MemoryTerms
    duration: DurationTerms | None  # None where the speed of the GPU is not known
    saved_parameters: int  # trained in full beside the adapter
    shape: ModelShape
    stack: Stack  # after the program's decisions for this model and card

    def memory_at(self, r: int) -> MemoryEstimate:
        """Return the memory at the peak of a step, at one rank."""
        plan, saved = self.plan, self.saved_parameters

        def lora_at(rank: int) -> tuple[int, int]:
            return plan.expert_rank_at(rank), plan.parameters(rank) - saved

        return self.memory.at(r, plan.parameters(r), saved, lora_at)

    def duration_at(self, r: int) -> DurationEstimate | None:
        """Return the times of a step, of loading and of the training at one rank; None for a GPU of unknown speed."""
        # of the pairs that a token is multiplied with, weighted by their parameters per unit of rank
        mean, more, shape = r, self.plan.expert_rank_at(r) - r, self.shape
        if more:
            mean = r + more * shape.active_expert_parameters / shape.active_adapter_parameters
        return self.duration and self.duration.at(mean)


def predict(
    model: ModelSpec,
    lora: LoraConfig,
    stack: Stack,
    device: Device,
    *,
    usable_bytes: float | None = None,
    names: Framework | None = None,
) -> Prediction:
    """Return the prediction of an adapter for any rank; raise InvalidSettingError where PEFT refuses the adapter.
    usable_bytes: Usable memory of the card, where known; the more, the larger the pieces of Unsloth's loss. names:
    Framework by whose rules target names select modules; by default the stack's framework."""
    setup = stack.setup.fitted
    plan = resolve(model, lora, names or setup.framework, precision=setup.precision, cuda=device.cuda)
    if setup is not stack.setup or device.gpu is not stack.gpu:
        stack = replace(stack, setup=setup, gpu=device.gpu)
    return _prediction(plan, stack, device, usable_bytes)


@lru_cache(maxsize=512)
def _prediction(plan: AdapterPlan, stack: Stack, device: Device, usable_bytes: float | None) -> Prediction:
    model, shape = plan.model, _shape(plan)
    stack = _raised(settled(stack, model, device), model, device)
    trained = frozenset(module.path for module in plan.saved if module.trained)
    cards = device.gpu.utilisation_group if device.gpu else ""
    return Prediction(
        plan=plan,
        memory=MemoryTerms(model, shape, stack, usable_bytes, cards, trained),
        duration=duration_terms(model, shape, stack, device),
        saved_parameters=sum(module.trained for module in plan.saved),
        shape=shape,
        stack=stack,
    )


def _raised(stack: Stack, model: ModelSpec, device: Device) -> Stack:
    """Return the stack with its fp32 decisions: hidden states in fp32, where an activation function or LayerNorm makes
    them so and 4-bit layers keep that dtype; all in fp32, where RankViz's scripts for TRL and PEFT train so."""
    habits, setup = stack.habits, stack.setup
    in_fp32 = setup.precision != "fp32" and "fp32" == compute_dtype(model.model_type, setup, bf16=device.has_bf16)
    if stack.measured_habits is None and in_fp32:
        return stack.with_habits(fp32_compute=True, autocast=False, adapter_parameter_bytes=4, saved_parameter_bytes=4)
    norms = [module for module in model.plain_modules if module.is_norm and module.part != "vision"]
    layer_norms = any(tensor.name == "bias" for module in norms for tensor in module.tensors)  # RMS norms have none
    quantizes = setup.quantized and model.unquantized_parameters < model.total_parameters
    if not (layer_norms or model.model_type in FP32_ACTIVATION) or not quantizes or habits.unsloth_kernels:
        return stack
    return stack.with_habits(raised="norms" if stack.autocasts and habits.raised == "none" else habits.raised)


@lru_cache(maxsize=512)
def _shape(plan: AdapterPlan) -> ModelShape:
    return model_shape(plan.model, plan.adapted)


@dataclass(frozen=True, kw_only=True, slots=True)
class FullFinetuning:
    """Memory, time and checkpoint size of full fine-tuning, which trains every weight."""

    dtype: Literal["bf16", "fp32"]
    trained_parameters: int
    saved_bytes: int
    """Bytes of the checkpoint: every weight in 16 bit, without file headers."""
    memory: MemoryEstimate
    duration: DurationEstimate | None


def full_finetuning(
    model: ModelSpec, setup: TrainingSetup, gpu: Gpu | None, usable_bytes: float | None, assumptions: Assumptions
) -> FullFinetuning:
    """Return memory and time of full fine-tuning with this set-up's batch, length, checkpointing, loss and optimizer.
    Its precision counts only if it is fp32; any other is replaced by 16-bit training."""
    dtype = "fp32" if setup.precision == "fp32" or (gpu is not None and not gpu.supports_bf16) else "bf16"
    computed = "fp32" if setup.precision == "fp32" else "bf16"
    stack = Stack(setup=replace(setup.fitted, precision=computed), use_dora=False, assume=assumptions, gpu=gpu)
    shape, total = _bare_shape(model), model.total_parameters
    terms = MemoryTerms(model, shape, stack, usable_bytes, "mac" if stack.habits.mlx else "")
    plain = stack if stack.habits.mlx else replace(stack, setup=replace(stack.setup, framework="trl"))
    terms.train_everything(MemoryTerms(model, shape, plain, usable_bytes), DTYPE_BYTES[dtype], model, stack)
    duration = duration_terms(model, shape, stack, card(gpu), weight_gradients=True)
    return FullFinetuning(
        dtype=dtype,
        trained_parameters=total,
        saved_bytes=2 * total,
        memory=terms.at(0, total, total),
        duration=duration and duration.at(0),
    )


@lru_cache(maxsize=128)
def _bare_shape(model: ModelSpec) -> ModelShape:
    return model_shape(model, ())
