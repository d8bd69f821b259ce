"""Noise between runs from other sweeps, for sweeps with one run per rank: shown and marked as such, never a verdict."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rankviz.errors import BadDataError
from rankviz.verdict.choosing import compare
from rankviz.verdict.losses import RunLosses


@dataclass(frozen=True, kw_only=True)
class Borrowed:
    """How much one run's loss varies with its seed, in sweeps that ran several."""

    sd: float
    """Nats, or points of an accuracy; pooled over the sweeps by degrees of freedom."""
    freedom: int
    sweeps: tuple[str, ...]
    same_setting: bool
    """Whether they had the same base, data and steps."""

    @property
    def difference(self) -> float:
        """Two runs of equal rank differ by less than this in 95 of 100 cases."""
        from rankviz.verdict.distributions import student_t_quantile
        from rankviz.verdict.noise import CONFIDENCE

        return student_t_quantile((1 + CONFIDENCE) / 2, self.freedom) * math.sqrt(2) * self.sd


def noise_of(runs: Sequence[RunLosses]) -> tuple[float, int] | None:
    """What the runs of a sweep say of the noise between runs: variance and degrees of freedom; None without repeated
    runs."""
    from rankviz.verdict.noise import between_runs

    try:
        return between_runs(compare(runs))
    except BadDataError:
        return None


def borrow(noises: Iterable[tuple[str, tuple[float, int] | None]], *, same_setting: bool) -> Borrowed | None:
    """From (id, noise_of) of sweeps; None where none has noise."""
    measured = [(sweep_id, noise) for sweep_id, noise in noises if noise is not None]
    if not measured:
        return None
    freedom = sum(repeats for _, (_, repeats) in measured)
    return Borrowed(
        sd=math.sqrt(sum(variance * repeats for _, (variance, repeats) in measured) / freedom),
        freedom=freedom,
        sweeps=tuple(sweep_id for sweep_id, _ in measured),
        same_setting=same_setting,
    )
