"""What simulated training steps hold, on a card that is not there; worked out by rankviz.worker.simulate."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rankviz import units
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.lora.config import LoraConfig
from rankviz.core.quantity import Range


@dataclass(frozen=True, kw_only=True, slots=True)
class Simulated:
    """Bytes that the allocator of the simulated card holds; peaks over two optimizer steps."""

    depth: int
    loaded: int
    """The base alone."""
    static: int
    """Base and adapter, before the first step."""
    moments: Mapping[str, int]
    reserved: int
    kernels: Mapping[str, int] = field(default_factory=dict)
    """How often each attention kernel ran, recomputed blocks included."""
    trainable_parameters: int = 0
    workspaces: int = 0
    """cuBLAS's, part of every moment."""

    @property
    def allocated(self) -> int:
        """The highest of the moments."""
        return max(self.moments.values())

    @property
    def moment(self) -> str:
        """Which one that is."""
        return max(self.moments, key=lambda name: self.moments[name])


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulatedProbe:
    """A simulation with what was asked, and the estimate beside it."""

    model_id: str
    gpu: str
    lora: LoraConfig
    training: TrainingSetup
    padded: bool
    run: Simulated
    estimate: Range
    """Bytes that the formulas say are allocated."""
    mean_error: float
    worst_error: float
    """Of simulated peaks, as shares of the measured ones (assets/truth.json)."""

    def as_json(self) -> dict[str, Any]:
        """Flat, in bytes."""
        setup, run = self.training, self.run
        return {
            "simulated": True,
            "model_id": self.model_id,
            "gpu": self.gpu,
            "r": self.lora.r,
            "framework": setup.framework,
            "precision": setup.precision,
            "optim": setup.optim,
            "gradient_checkpointing": setup.gradient_checkpointing,
            "per_device_train_batch_size": setup.per_device_train_batch_size,
            "gradient_accumulation_steps": setup.gradient_accumulation_steps,
            "max_length": setup.max_length,
            "padded": self.padded,
            "allocated_bytes": run.allocated,
            "reserved_bytes": run.reserved,
            "base_bytes": run.loaded,
            "static_bytes": run.static,
            "moment": run.moment,
            "moments": dict(run.moments),
            "attention_kernels": dict(run.kernels),
            "trainable_parameters": run.trainable_parameters,
            "estimate_bytes": {name: round(getattr(self.estimate, name)) for name in ("low", "expected", "high")},
            "mean_error": self.mean_error,
            "worst_error": self.worst_error,
        }

    def lines(self) -> list[list[str]]:
        """Of a table: what, and how much."""
        run, size = self.run, units.memory_size
        peaks = [[f"Peak: {name}", size(value)] for name, value in run.moments.items()]
        return [
            ["Allocated (simulated)", size(run.allocated)],
            ["Reserved (simulated)", size(run.reserved)],
            ["Allocated (estimate)", f"{size(self.estimate.low)} to {size(self.estimate.high)}"],
            ["Base weights", size(run.loaded)],
            ["Base and adapter", size(run.static)],
            *peaks,
        ]

    def sentences(self) -> list[str]:
        """Below the table."""
        kernels = " and ".join(sorted(self.run.kernels)) or "eager"
        return [
            f"Nothing was measured: training steps of the real model code ran on a simulated {self.gpu}, without "
            "weights.",
            f"Compared with measured runs on a T4, simulated peaks are {units.rounded_percent(self.mean_error)} off on "
            f"average, {units.rounded_percent(self.worst_error)} at most.",
            f"The peak is at this moment of a step: {self.run.moment}. Attention kernel: {kernels}.",
        ]
