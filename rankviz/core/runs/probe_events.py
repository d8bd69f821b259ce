"""Defines the events of a probe; a journal's other events are in events.py."""

from dataclasses import dataclass
from typing import Annotated, Literal

from rankviz.core.bounds import Between, Bytes, BytesMoved, Count, Items, Moment, Prose, Seconds, Word
from rankviz.core.quantity import median_error, middle
from rankviz.core.runs.attempts import AttemptEvent

MAX_TIMED_STEPS = 10_000
MAX_REASON = 4000
StepSeconds = Annotated[float, Between(1e-9, 10**7)]
Moments = Literal["forward", "backward", "optimizer"]
NoRoom = Literal["memory limit", "GPU", "system"]
Blocks = Annotated[int, Between(1, 10_000)]


@dataclass(frozen=True, kw_only=True, slots=True)
class DepthMeasured(AttemptEvent):
    """A probe ran true training steps on the model cut to so many blocks."""

    time: Moment
    depth: Blocks
    baseline_bytes: Bytes
    """Just before the base was loaded: the resident set, or what the GPU's allocator held."""
    load_peak_bytes: BytesMoved
    """The peak while the base was loaded, above the baseline."""
    moments: Annotated[dict[Moments, Annotated[int, Between(1, 2**60)]], Items(1, 3)]
    """{"forward", "backward", "optimizer": the peak in that part of a step, bytes above the baseline}."""
    peak_kind: Word
    """"resident above baseline" or "allocated"."""
    timed_steps: Annotated[tuple[StepSeconds, ...], Items(1, MAX_TIMED_STEPS)]
    """Seconds of each step after the first, which warms up."""
    first_step_seconds: Seconds
    tokens_per_step: Count
    trainable_parameters: Count
    total_parameters: Count
    took_seconds: Seconds
    """From the start of the process to its end."""
    static_bytes: BytesMoved | None = None
    """Base and adapter, before the first step, above the baseline; None in probes of before 26 November 2026."""
    peak_reserved_bytes: Bytes | None = None
    """What torch's caching allocator held at most; None on a CPU."""
    attn_implementation: Word = ""
    """What transformers chose: "sdpa", "eager", ..."""
    busy_elsewhere: Annotated[float, Between(0, 1)] = 0.0
    """The share of the machine's CPU time that other processes had while steps were timed."""

    @property
    def peak_bytes(self) -> int:
        """Over the steps, above the baseline."""
        return max(self.moments.values())

    @property
    def counts_exactly(self) -> bool:
        """Whether the counter is the allocator's own, which knows what is in use from what it only keeps."""
        return self.peak_kind == "allocated"

    @property
    def step_seconds(self) -> float:
        """Median of the timed steps."""
        return middle(self.timed_steps)

    @property
    def step_noise_seconds(self) -> float:
        """Standard error of that median."""
        return median_error(self.timed_steps)

    @property
    def tokens_per_second(self) -> float:
        return self.tokens_per_step / self.step_seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class DepthDidNotFit(AttemptEvent):
    """Memory ran out: a result."""

    time: Moment
    depth: Blocks
    limit_bytes: Bytes
    """What could be had."""
    short_bytes: Bytes
    """At least so much more was needed."""
    stage: Word
    """What was being done."""
    why: NoRoom
    """Who said no."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DepthSkipped(AttemptEvent):
    time: Moment
    depth: Blocks
    reason: Annotated[str, Prose(MAX_REASON)]
    """A sentence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeCompleted(AttemptEvent):
    time: Moment
