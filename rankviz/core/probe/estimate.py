"""What the formulas say of a probe: its partner, to be shown beside what was measured, and where calibration starts.

Memory is of what the probe measures: on a CPU the resident set above the process's baseline, on a GPU what torch's
allocator holds. A step is one optimizer step with rows of exactly max_length.
"""

from dataclasses import dataclass, replace

from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.device import Device
from rankviz.core.cost.duration import cpu_duration_terms, duration_at, duration_terms
from rankviz.core.cost.memory import memory_at, memory_terms
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.cost.shapes import model_shape
from rankviz.core.cost.stack import Stack
from rankviz.core.lora.config import LoraConfig
from rankviz.core.lora.resolve import resolve
from rankviz.core.model.spec import ModelSpec
from rankviz.core.probe.request import ProbeRequest
from rankviz.core.quantity import Range
from rankviz.core.runs.estimate import cpu_stack


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeEstimate:
    """One set-up on one device."""

    static_bytes: int
    """Base, adapter, gradients and states: known from shapes."""
    working_bytes: int
    """Activations, logits, scratch: what the formulas only approximate."""
    memory_bytes: Range
    """Of what a probe measures."""
    step_seconds: Range | None
    """None on a GPU whose speed is not known."""


def estimate_probe(model: ModelSpec, request: ProbeRequest, device: Device, assume: Assumptions) -> ProbeEstimate:
    """The whole model, as the request would train it."""
    lora = LoraConfig(target_modules=request.target_modules, use_dora=request.use_dora, framework=request.framework)
    plan = resolve(model, lora)
    stack = probe_stack(request, device, assume)
    shape = model_shape(plan.model, plan.adapted)
    usable = device.gpu.usable_bytes if device.gpu else None
    memory = memory_at(memory_terms(plan.model, shape, stack, usable), request.r, plan.parameters(request.r))
    if device.cuda:
        terms = duration_terms(plan.model, shape, stack, device.gpu) if device.gpu else None
        held = memory.allocated_band
    else:
        terms = cpu_duration_terms(plan.model, shape, stack, device.cpu_count, device.cpu_bf16)
        held = memory.allocated_band.multiplied(assume.range("cpu-resident-slack"))
    return ProbeEstimate(
        static_bytes=memory.static,
        working_bytes=memory.working,
        memory_bytes=held,
        step_seconds=duration_at(terms, request.r).step if terms else None,
    )


def probe_stack(request: ProbeRequest, device: Device, assume: Assumptions) -> Stack:
    """On a CPU all three frameworks train plain PEFT modules; what differs is who computes the loss."""
    setup = TrainingSetup(
        precision=request.precision,
        optim=request.optim,
        per_device_train_batch_size=request.per_device_train_batch_size,
        gradient_accumulation_steps=request.gradient_accumulation_steps,
        max_length=request.max_length,
        checkpointing=request.checkpointing,
        loss_path=request.loss_path,
        steps=1,
    )
    if device.cuda:
        return Stack(framework=request.framework, setup=setup, use_dora=request.use_dora, assume=assume)
    stack = cpu_stack(setup, request.use_dora, assume)
    return replace(stack, setup=replace(stack.setup, checkpointing=request.checkpointing))
