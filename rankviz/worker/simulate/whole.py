"""Simulates two shallow versions of a model, and draws lines through them to the whole: bytes grow with depth along a
line, at each moment of a step along its own (core.probe.record)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rankviz.core.cost.device import Gpu
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.lora.config import LoraConfig
from rankviz.core.model.spec import ModelSpec, periods
from rankviz.core.probe import fit
from rankviz.worker.simulate.step import Program, Simulated, simulate

LEAST_BLOCKS = 3
APART = 4
"""Blocks between the two depths: what the allocator leaves unused at the end of a block weighs less then."""


def simulate_whole(
    config: Mapping[str, Any],
    model: ModelSpec,
    lora: LoraConfig,
    training: TrainingSetup,
    gpu: Gpu,
    *,
    padded: bool = False,
    program: Program | None = None,
    full: bool = False,
) -> Simulated:
    """The whole model, from two depths, or as it is where that is less work, or `full`."""
    pattern = periods(model)
    low, high = depths(model)
    more = {"split": pattern.prefix + 1, "padded": padded, "program": program}
    if full or low + high >= pattern.blocks:
        return simulate(config, lora, training, gpu, depth=pattern.blocks, **more)
    return _at(pattern.blocks, [simulate(config, lora, training, gpu, depth=d, **more) for d in (low, high)])


def depths(model: ModelSpec) -> tuple[int, int]:
    """Whole periods below the whole model, a few blocks apart."""
    pattern = periods(model)
    low = max(pattern.prefix + pattern.period, pattern.prefix + 2, LEAST_BLOCKS)
    low += (pattern.blocks - low) % pattern.period
    return low, low + pattern.period * -(-APART // pattern.period)


def _at(depth: int, runs: list[Simulated]) -> Simulated:
    shallow = [run.depth for run in runs]

    def at(values: list[int]) -> int:
        return round(fit(shallow, values).at(depth))

    kernels = {name for run in runs for name in run.kernels}
    moments = {name: at([run.moments[name] for run in runs]) for name in runs[0].moments}
    return replace(
        runs[-1],
        depth=depth,
        loaded=at([run.loaded for run in runs]),
        static=at([run.static for run in runs]),
        moments=moments,
        # What is reserved beyond the peak is no line: the deeper model's.
        reserved=max(moments.values()) + runs[-1].reserved - runs[-1].allocated,
        kernels={name: at([run.kernels.get(name, 0) for run in runs]) for name in kernels},
        trainable_parameters=at([run.trainable_parameters for run in runs]),
    )
