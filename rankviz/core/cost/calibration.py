"""Corrects estimates by a probe of the same model with the same settings on the same device.

    working factor = (measured peak - base, adapter, gradients, states) / (estimated activations, logits, scratch)
    time factor    = measured step / estimated step

Both are asked of the formulas at the probe's own rank, batch and length, and then used at any other: weights and
states are known from shapes, so only what the formulas approximate is scaled. Of several probes the middle factor
counts. The band is as wide as calibrated estimates were off in assets/validation/cpu_probes.csv, or as the probes here
disagree, whichever is more. Not covered: other models and set-ups, other versions of the libraries, and lengths or
batches further than `probe-tokens-reach` times away.

An estimate for the GPU of this machine is moved at every rank: activations, logits and scratch by the factor, what
torch reserves by the share that was measured, nvidia-smi's figure by the context on top. Worked out by hand in
tests/core/cost/test_calibration.py; no GPU has been probed yet.
"""

from dataclasses import dataclass, replace
from typing import Any

from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.duration import DurationEstimate, cost
from rankviz.core.cost.estimate import Estimate, RankEstimate, fit
from rankviz.core.cost.memory import MemoryEstimate
from rankviz.core.quantity import Range
from rankviz.units import counted


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """What probes of one setting on one device say of its estimates."""

    probe_ids: tuple[str, ...]
    process_bytes: int
    """The process before the base is loaded; 0 on a GPU, whose allocator counts from nothing."""
    working_factor: float
    memory_width: float
    """Half-width of the band, as a share of what is above process_bytes."""
    seconds_factor: float | None
    """None where no step was timed on a quiet machine, or none was estimated."""
    seconds_width: float
    reserved_share: float | None
    """What the caching allocator held over what was in use; None on a CPU."""

    def memory(self, static_bytes: float, working_bytes: float) -> Range:
        """Of the process, or in use on the GPU."""
        above = static_bytes + self.working_factor * working_bytes
        return Range(above * (1 - self.memory_width), above, above * (1 + self.memory_width)).plus(
            Range(self.process_bytes, self.process_bytes, self.process_bytes)
        )

    def seconds(self, estimated: Range) -> Range:
        """The estimate itself where steps weren't timed well enough."""
        if self.seconds_factor is None:
            return estimated
        expected = estimated.expected * self.seconds_factor
        return Range(expected * (1 - self.seconds_width), expected, expected * (1 + self.seconds_width))

    def as_json(self) -> dict[str, Any]:
        return {
            "calibrated": "on this machine",
            "probe_ids": list(self.probe_ids),
            "working_factor": self.working_factor,
            "seconds_factor": self.seconds_factor,
        }


def calibrated_estimate(answer: Estimate, calibration: Calibration, assume: Assumptions) -> Estimate:
    """The same answer with memory, time, cost and fit calibrated at every rank."""
    count = len(calibration.probe_ids)
    note = f"Memory and time are calibrated on this machine, by {counted(count, 'probe')} of this model."
    ranks = tuple(_rank(rank, answer, calibration, assume) for rank in answer.ranks)
    return replace(answer, ranks=ranks, notes=(note, *answer.notes))


def _rank(rank: RankEstimate, answer: Estimate, calibration: Calibration, assume: Assumptions) -> RankEstimate:
    memory = calibrated_memory(rank.memory, calibration, assume.range("context-bytes"))
    duration = rank.duration and _duration(rank.duration, answer, calibration)
    usable = answer.usable_bytes
    return replace(
        rank,
        memory=memory,
        duration=duration,
        cost=cost(duration, answer.price) if duration else None,
        fit=fit(memory.device_band, usable, assume.value("tight-share")) if usable else None,
        margin_bytes=round(usable.expected - memory.device) if usable else None,
    )


def calibrated_memory(memory: MemoryEstimate, calibration: Calibration, context: Range) -> MemoryEstimate:
    """Without a measured share of what is reserved the estimate's own stays."""
    factor = calibration.working_factor
    parts = {name: round(factor * getattr(memory, name)) for name in ("activations", "logits", "other")}
    band = calibration.memory(memory.static, memory.working)
    share = calibration.reserved_share or memory.reserved_band.expected / memory.allocated
    reserved = band.times(max(1.0, share))
    return replace(memory, **parts, allocated_band=band, reserved_band=reserved, device_band=reserved.plus(context))


def _duration(duration: DurationEstimate, answer: Estimate, calibration: Calibration) -> DurationEstimate:
    setup = answer.question.training
    step = calibration.seconds(duration.step)
    training = step.times(setup.total_steps)
    return replace(duration, step=step, total=duration.load.plus(training) if setup.has_length else training)
