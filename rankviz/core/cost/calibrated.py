"""An estimate for the GPU of this machine, moved by what probes measured on it.

Activations, logits and scratch are scaled by the calibration's factor and the totals follow: what torch reserves by
the share that was measured, nvidia-smi's figure by the context on top. Worked out by hand in
tests/core/cost/test_calibration.py; no GPU has been probed yet.
"""

from dataclasses import replace

from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.calibration import Calibration
from rankviz.core.cost.duration import DurationEstimate, cost
from rankviz.core.cost.estimate import Estimate, RankEstimate, fit
from rankviz.core.cost.memory import MemoryEstimate
from rankviz.core.quantity import Range


def calibrated_estimate(answer: Estimate, calibration: Calibration, assume: Assumptions) -> Estimate:
    """The same answer with memory, time, cost and fit calibrated at every rank."""
    count = len(calibration.probe_ids)
    note = f"Memory and time are calibrated on this machine, by {count} probe{'s' if count > 1 else ''} of this model."
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
    known = setup.steps is not None or setup.tokens is not None
    return replace(duration, step=step, total=duration.load.plus(training) if known else training)
