"""Estimates moved by what was measured here: a probe of the same model, in the same set-up, on the same device.

    working factor = (measured peak - base, adapter, gradients, states) / (estimated activations, logits, scratch)
    time factor    = measured step / estimated step

Both are asked of the formulas at the probe's own rank, batch and length, and then used at any other: weights and
states are known from shapes, so only what the formulas approximate is scaled. Of several probes the middle factor
counts. The band is as wide as calibrated estimates were off in assets/validation/cpu_probes.csv, or as the probes here
disagree, whichever is more. Not covered: other models and set-ups, other versions of the libraries, and lengths or
batches further than `probe-tokens-reach` times away.
"""

from dataclasses import dataclass
from typing import Any

from rankviz.core.quantity import Range


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What must be the same for a probe to say something of an estimate."""

    model_id: str
    framework: str
    precision: str
    optim: str
    checkpointing: str
    loss_path: str
    use_dora: bool


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
