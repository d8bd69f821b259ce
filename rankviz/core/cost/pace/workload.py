"""What of a machine and of a training must be the same for one to say how long the other takes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.setup import TrainingSetup

SAME_TOKENS = 1.1
"""Times more or fewer tokens per micro-step that still count as the same."""
LIBRARIES = ("torch", "transformers", "peft", "trl", "unsloth", "bitsandbytes")
"""Versions that memory and time depend on."""
Part = Literal["load", "training", "evaluation", "rest"]
PARTS: tuple[Part, ...] = ("load", "training", "evaluation", "rest")


def machine_of(environment: Mapping[str, Any]) -> tuple[Any, ...]:
    """What must be equal for two environments to be the same machine: device, number of CPUs, versions of LIBRARIES."""
    versions = environment.get("versions", {})
    return (
        *(environment.get(name) for name in ("device", "device_name", "cpu_count")),
        *(versions.get(name) for name in LIBRARIES),
    )


def kernels(setup: TrainingSetup, *, use_dora: bool) -> tuple[str, ...]:
    """What must be the same for memory and time to be made of the same parts. setup: with nothing "auto" in it."""
    checkpointing = setup.gradient_checkpointing
    if checkpointing == "unsloth" and setup.framework != "unsloth":
        checkpointing = "hf"
    dora = "dora" if use_dora else "lora"
    return setup.framework, setup.precision, setup.optim, checkpointing, setup.loss_path, dora


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """What is trained, as far as the pace of a machine may depend on it."""

    base: str
    """Id of the ModelSpec."""
    parameters: int
    """Of the base."""
    kernels: tuple[str, ...]
    data: str = ""
    """As a run's request tells it apart; empty for a probe and for an estimate without data."""
    tokens: float
    """Of a micro-step, as expected before it runs."""


class Difference(IntEnum):
    """What a finished run or probe has otherwise than what is asked, the least first."""

    NONE = 0
    TOKENS = 1
    BASE = 2
    KERNELS = 3


def differences(there: Workload, here: Workload, part: Part) -> tuple[Difference, ...]:
    """All of them, the largest last. Loading reads no rows, so it is the same whatever the data."""
    rows = part != "load" and (there.data != here.data or abs(_log_tokens(there, here)) > math.log(SAME_TOKENS))
    return (
        Difference.NONE,
        *([Difference.TOKENS] if rows else []),
        *([Difference.BASE] if there.base != here.base else []),
        *([Difference.KERNELS] if there.kernels != here.kernels else []),
    )


def width_of(there: Workload, here: Workload, differs: Sequence[Difference], assume: Assumptions) -> float:
    """What differs, as a half-width of ln seconds."""
    widths = {
        Difference.NONE: 0.0,
        Difference.TOKENS: math.hypot(
            assume.value("here-data-width"), assume.value("here-tokens-width") * _log_tokens(there, here)
        ),
        Difference.BASE: math.hypot(
            assume.value("here-base-width"), assume.value("here-size-width") * log_sizes(there, here)
        ),
        Difference.KERNELS: assume.value("here-kernels-width"),
    }
    return math.hypot(*(widths[each] for each in differs))


def _log_tokens(there: Workload, here: Workload) -> float:
    return math.log(there.tokens / here.tokens)


def log_sizes(there: Workload, here: Workload) -> float:
    return math.log(there.parameters / here.parameters)
