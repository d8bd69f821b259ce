"""The fifteen checks of the acceptance suite: their names, and what is expected of each."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.gpu import checks
from tests.gpu.bench import Bench
from tests.gpu.checks import Measured


@dataclass(frozen=True, kw_only=True)
class AcceptanceCheck:
    number: int
    what: str
    expected: str
    measure: Callable[[Bench], Measured]
    on_a_cpu: bool = False
    """Whether it says something without a card too."""


CHECKS = (
    AcceptanceCheck(
        number=1,
        what="Preflight",
        expected="no problem; torch and driver name one card",
        measure=checks.ready,
        on_a_cpu=True,
    ),
    AcceptanceCheck(number=2, what="Embedded base in NF4", expected="about 0.11 GB", measure=checks.embedded_base),
    AcceptanceCheck(
        number=3,
        what="Adapter, r = 16, seven modules",
        expected="4,884,480; 11,272,192; 41,943,040",
        measure=checks.adapter_parameters,
        on_a_cpu=True,
    ),
    AcceptanceCheck(
        number=4, what="Loss of the base", expected="transformers' within 0.01", measure=checks.base_loss, on_a_cpu=True
    ),
    AcceptanceCheck(
        number=5, what="40 steps", expected="loss falls, finite", measure=checks.forty_steps, on_a_cpu=True
    ),
    AcceptanceCheck(
        number=6,
        what="r = 4, 16, 4 with one seed",
        expected="third = first within 0.01, memory back within 5 MB",
        measure=checks.same_seed,
        on_a_cpu=True,
    ),
    AcceptanceCheck(
        number=7, what="Step times", expected="first far above the rest", measure=checks.step_times, on_a_cpu=True
    ),
    AcceptanceCheck(
        number=8,
        what="Truncation 16 to 8, 4, 2",
        expected="r = 2 has the same loss in plain PEFT",
        measure=checks.truncated,
        on_a_cpu=True,
    ),
    AcceptanceCheck(number=9, what="bf16, fp16, int8", expected="complete", measure=checks.precisions),
    AcceptanceCheck(number=10, what="DoRA, rsLoRA", expected="complete", measure=checks.variants, on_a_cpu=True),
    AcceptanceCheck(
        number=11, what="Rows of 256 and 1,024 tokens", expected="offloading off, on", measure=checks.offloading
    ),
    AcceptanceCheck(
        number=12,
        what="1B and 8B in NF4",
        expected="1.03 and 5.7 GB; peak inside the estimate",
        measure=checks.whole_models,
    ),
    AcceptanceCheck(
        number=13, what="Out of memory", expected="the sentence; the next run completes", measure=checks.out_of_memory
    ),
    AcceptanceCheck(
        number=14,
        what="Cancel in a step",
        expected="gone in 15 s, memory back",
        measure=checks.cancelled,
        on_a_cpu=True,
    ),
    AcceptanceCheck(
        number=15, what="Probes at two depths", expected="all measured", measure=checks.probes, on_a_cpu=True
    ),
)
