"""Corrects estimates by what was measured on the same machine: memory by probes, time by runs and probes (pace.py).

    working factor = (measured peak - base, adapter, gradients, states) / (estimated activations, logits, scratch)

It is asked of the formulas at the probe's own rank, batch and length, and then used at any other: weights and
states are known from shapes, so only what the formulas approximate is scaled. Of several probes the middle factor
counts. The band is as wide as calibrated estimates were off in assets/validation/cpu_probes.csv, or as the probes here
disagree, whichever is more. Not covered: other models and set-ups, other versions of the libraries, and lengths or
batches further than `probe-tokens-reach` times away.

An estimate for the GPU of this machine is moved at every rank: activations, logits and scratch by the factor, what
torch reserves by the share that was measured, nvidia-smi's figure by the context on top. Worked out by hand in
tests/core/cost/test_calibration.py; no GPU has been probed yet.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.duration import DurationEstimate, cost
from rankviz.core.cost.estimate import Estimate, RankEstimate, fit, spare
from rankviz.core.cost.json import CalibrationJSON
from rankviz.core.cost.memory.estimate import MemoryEstimate
from rankviz.core.cost.pace.paces import Paces
from rankviz.core.quantity import Range
from rankviz.units import counted

KINDS = ("probe", "run")


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryCalibration:
    """What probes of one setting on one device say of its memory."""

    probe_ids: tuple[str, ...]
    """Empty in place of one that is not to be named."""
    process_bytes: int
    """The process before the base is loaded; 0 on a GPU, whose allocator counts from nothing."""
    working_factor: float
    memory_width: float
    """Half-width of the band, as a share of what is above process_bytes."""
    reserved_share: float | None
    """What the caching allocator held over what was in use; None on a CPU."""

    def memory(self, static_bytes: float, working_bytes: float) -> Range:
        """Of the process, or in use on the GPU."""
        above = static_bytes + self.working_factor * working_bytes
        return Range(above * (1 - self.memory_width), above, above * (1 + self.memory_width)).plus(
            Range(self.process_bytes, self.process_bytes, self.process_bytes)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """What was measured on this machine, as far as an estimate rests on it."""

    memory: MemoryCalibration | None
    paces: Paces

    @property
    def sentence(self) -> str:
        """What memory and time rest on."""
        memory = self.memory and f"Memory is calibrated by {counted(len(self.memory.probe_ids), 'probe')} of this model"
        time = self.paces.in_words and f"time is estimated {self.paces.in_words}"
        if memory and time:
            return f"{memory} here; {time}."
        return f"{memory} here." if memory else f"{time[0].upper()}{time[1:]}." if time else ""

    def as_json(self) -> CalibrationJSON:
        pace = self.paces.training
        timed = {kind: [t.source_id for t in pace.sources if t.kind == kind] if pace else [] for kind in KINDS}
        memory_probes = self.memory.probe_ids if self.memory else ()
        return {
            "calibrated": "on this machine",
            "probe_ids": _each_once((*memory_probes, *timed["probe"])),
            "run_ids": _each_once(timed["run"]),
            "working_factor": self.memory.working_factor if self.memory else None,
            "seconds_factor": pace.factor if pace else None,
            "in_words": self.sentence,
        }


def _each_once(ids: Iterable[str]) -> list[str]:
    """Without those that are not to be named."""
    return list(dict.fromkeys(filter(None, ids)))


def calibrated_estimate(answer: Estimate, calibration: Calibration, assume: Assumptions) -> Estimate:
    """The same answer with memory, time, cost and fit calibrated at every rank."""
    ranks = tuple(_rank(rank, answer, calibration, assume) for rank in answer.ranks)
    return replace(answer, ranks=ranks, notes=(calibration.sentence, *answer.notes))


def _rank(rank: RankEstimate, answer: Estimate, calibration: Calibration, assume: Assumptions) -> RankEstimate:
    memory = rank.memory
    if calibration.memory:
        memory = calibrated_memory(memory, calibration.memory, assume.range("context-bytes"))
    duration = rank.duration and _duration(rank.duration, answer, calibration.paces)
    usable = answer.usable_bytes
    left = spare(memory.fullest_band, usable) if usable else None
    return replace(
        rank,
        memory=memory,
        duration=duration,
        cost=cost(duration, answer.price) if duration else None,
        fit=fit(left, usable, assume.value("tight-share")) if left else None,
        spare=left,
        margin_bytes=round(usable.expected - memory.fullest_band.expected) if usable else None,
    )


def calibrated_memory(memory: MemoryEstimate, calibration: MemoryCalibration, context: Range) -> MemoryEstimate:
    """Without a measured share of what is reserved the estimate's own stays."""
    factor = calibration.working_factor
    parts = {name: round(factor * getattr(memory, name)) for name in ("activations", "logits", "other")}
    band = calibration.memory(memory.static, memory.working)
    share = calibration.reserved_share or memory.reserved_band.expected / memory.allocated
    reserved = band.times(max(1.0, share))
    return replace(memory, **parts, allocated_band=band, reserved_band=reserved, device_band=reserved.plus(context))


def _duration(duration: DurationEstimate, answer: Estimate, paces: Paces) -> DurationEstimate:
    setup = answer.question.training
    step = paces.training.of(duration.step) if paces.training else duration.step
    load = paces.load.of(duration.load) if paces.load else duration.load
    training = step.times(setup.total_steps)
    return replace(duration, step=step, load=load, total=load.plus(training) if setup.has_length else training)
