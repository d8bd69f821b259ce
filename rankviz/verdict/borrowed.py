"""Noise between runs borrowed from other sweeps, for those of one run each: shown, marked, and never a verdict."""

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
    """Nats, pooled over the sweeps by degrees of freedom."""
    freedom: int
    sweeps: tuple[str, ...]
    same_setting: bool
    """Whether they had the same base, data and steps."""

    @property
    def difference(self) -> float:
        """Two runs of equal rank differ by less than this in 95 of 100 cases."""
        from scipy.special import stdtrit

        return float(stdtrit(self.freedom, 0.975)) * math.sqrt(2) * self.sd


def borrow(sweeps: Iterable[tuple[str, Sequence[RunLosses]]], *, same_setting: bool) -> Borrowed | None:
    """From (id, runs) of sweeps; those that can't say are passed over. None where none can."""
    from rankviz.verdict.noise import fit

    said = []
    for sweep_id, runs in sweeps:
        try:
            noise = fit(compare(runs)).runs
        except BadDataError:
            continue
        if noise is not None:
            said.append((sweep_id, noise))
    if not said:
        return None
    freedom = sum(noise.freedom for _, noise in said)
    return Borrowed(
        sd=math.sqrt(sum(noise.variance * noise.freedom for _, noise in said) / freedom),
        freedom=freedom,
        sweeps=tuple(sweep_id for sweep_id, _ in said),
        same_setting=same_setting,
    )
