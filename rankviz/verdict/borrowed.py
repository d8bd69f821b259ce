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


def borrow(sweeps: Iterable[tuple[str, Sequence[RunLosses]]], *, same_setting: bool) -> Borrowed | None:
    """From (id, runs) of sweeps; sweeps without repeated runs are skipped; None where no sweep is left."""
    from rankviz.verdict.noise import fit

    measured = []
    for sweep_id, runs in sweeps:
        try:
            noise = fit(compare(runs)).runs
        except BadDataError:
            continue
        if noise is not None:
            measured.append((sweep_id, noise))
    if not measured:
        return None
    freedom = sum(noise.freedom for _, noise in measured)
    return Borrowed(
        sd=math.sqrt(sum(noise.variance * noise.freedom for _, noise in measured) / freedom),
        freedom=freedom,
        sweeps=tuple(sweep_id for sweep_id, _ in measured),
        same_setting=same_setting,
    )
