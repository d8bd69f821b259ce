"""What the formulas say of a probe: its partner, to be shown beside what was measured, and where calibration starts.

Memory is of what the probe measures: on a CPU the resident set above the process's baseline, on a GPU what torch's
allocator holds. A step is one optimizer step with rows of exactly max_length.
"""

from dataclasses import dataclass, replace

from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.device import Device
from rankviz.core.cost.predict import predict
from rankviz.core.cost.stack import stack_on
from rankviz.core.model.spec import ModelSpec
from rankviz.core.probe.request import ProbeRequest
from rankviz.core.quantity import Range


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
    """All blocks, as the request would train them. Of a multimodal checkpoint a probe has the text tower alone."""
    model = replace(model, whole=None)
    lora, training = request.lora, request.training
    stack = stack_on(device, training, lora.use_dora, assume)
    usable = device.usable_bytes
    predicted = predict(model, lora, stack, device, usable_bytes=usable, names=training.framework)
    memory, duration = predicted.memory_at(lora.r), predicted.duration_at(lora.r)
    slack = assume.range("cpu-resident-slack")
    return ProbeEstimate(
        static_bytes=memory.static,
        working_bytes=memory.working,
        memory_bytes=memory.allocated_band if device.cuda else memory.allocated_band.multiplied(slack),
        step_seconds=duration.step if duration else None,
    )
