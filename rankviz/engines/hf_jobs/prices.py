"""What a job costs: billed by the minute, from when its machine starts until it ends."""

import math
from dataclasses import dataclass

from rankviz import units
from rankviz.core.quantity import Range
from rankviz.errors import InvalidSettingError

STARTING = Range(120.0, 300.0, 600.0)
"""Seconds that a job is billed for before its base is loaded: pulling the image, packages, the base's download. A
choice, not a measurement; a job that has run says what it was."""
MOST_USD = 10**6
"""No sweep may cost more, whatever its owner says."""
MOST_SECONDS = 7 * 24 * 3600
"""No job takes longer, whatever its limit."""
DIGITS = 6
"""Of what is rounded up or down, so that 0.31 - 0.11 pays for what 0.2 pays for."""
LEAST_SECONDS = 300
"""A job with less time than this would hardly begin."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Flavor:
    """A machine that a job can rent."""

    name: str
    """As Hugging Face calls it: "l4x1"."""
    label: str
    """For people: "Nvidia L4"."""
    usd_per_minute: float
    gpu: str = ""
    """The model of its GPU, "L4"; empty where it has none."""
    gpus: int = 0
    memory_bytes: int | None = None
    """Of one GPU; None where it is not given."""

    @property
    def usd_per_hour(self) -> float:
        return 60.0 * self.usd_per_minute


def cost_of(seconds: float, usd_per_minute: float) -> float:
    """US dollars of a job that took so long; a minute that has begun counts whole."""
    return math.ceil(max(0.0, seconds) / 60.0) * usd_per_minute


def cost_range(training: Range, usd_per_minute: float) -> Range:
    """US dollars of a job whose runs take `training` seconds, with what it takes to start."""
    seconds = training.plus(STARTING)
    return Range(*(cost_of(each, usd_per_minute) for each in (seconds.low, seconds.expected, seconds.high)))


def require_limit(usd: float) -> None:
    """InvalidSettingError of what is no spending limit."""
    if not math.isfinite(usd) or usd <= 0:
        raise InvalidSettingError(f"The spending limit must be above 0 US dollars (got {usd:g}).")
    if usd > MOST_USD:
        raise InvalidSettingError(f"The spending limit must be at most {MOST_USD:,} US dollars (got {usd:g}).")


def timeout_seconds(usd: float, usd_per_minute: float) -> int:
    """The time limit that a job gets from a spending limit. InvalidSettingError where the limit is too low."""
    return seconds_left(usd, 0.0, usd_per_minute)


def longest_seconds(timeout: int) -> float:
    """The most that a job with this time limit is billed for."""
    return timeout + STARTING.high


def seconds_left(usd: float, spent: float, usd_per_minute: float, *, is_whole: bool = True) -> int:
    """The time limit of a job that the limit of its sweep still pays for, after what its other jobs have cost, at most.
    InvalidSettingError where that is too little; it says what would do.

    Starting is billed, and may not count against Hugging Face's time limit: the most that it is expected to take is
    kept back.

    Args:
        is_whole: Whether `spent` is what they have cost, and not only the most that it can be.
    """
    require_limit(usd)
    paid = 60.0 * (usd - spent) / usd_per_minute if usd_per_minute else 24 * 3600.0
    seconds = math.floor(round(min(paid, MOST_SECONDS) - STARTING.high, DIGITS))
    if seconds >= LEAST_SECONDS:
        return seconds
    least = spent + math.ceil((STARTING.high + LEAST_SECONDS) / 60.0) * usd_per_minute
    starting = f"starting may take {STARTING.high / 60:.0f} minutes and is billed"
    at_least = f"Give at least {units.usd(math.ceil(round(100 * least, DIGITS)) / 100)}"
    if not spent:
        raise InvalidSettingError(
            f"{units.usd(usd)} does not pay for a job: {starting}. {at_least}, or choose a cheaper machine."
        )
    cost = "have cost" if is_whole else "may have cost up to"
    raise InvalidSettingError(
        f"The spending limit of {units.usd(usd)} is used up: this sweep's jobs {cost} {units.usd(spent)}, and the rest "
        f"does not pay for another one: {starting}. {at_least} for the whole sweep, or choose a cheaper machine."
    )
