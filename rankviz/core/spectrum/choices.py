"""Truncations worth a look: the ranks that hold a large share of an adapter's energy."""

from typing import NamedTuple

from rankviz.core.spectrum.spectrum import MOST, NEARLY_ALL, Spectrum

OFFERED = (MOST, 0.95, NEARLY_ALL)
"""Shares of the energy, each with the smallest rank that holds it."""


class Truncation(NamedTuple):
    """One rank for all modules, or for each module the smallest that keeps this share of its energy."""

    r: int | None = None
    energy: float | None = None


def truncations(spectrum: Spectrum) -> tuple[Truncation, ...]:
    """Lower ranks first, then each module with its own rank where that lowers any.

    Half the trained rank is among them, since an adapter that needs its whole rank has no other. After few steps it is
    the only one: the energy is that of the random start. None for an adapter that cannot be lower or has no update.
    """
    if spectrum.r == 1 or not spectrum.kept[-1]:
        return ()
    if spectrum.after_few_steps:
        return (Truncation(r=spectrum.r // 2),)
    ranks = {spectrum.rank_for(share) for share in OFFERED} | {spectrum.r // 2}
    uniform = [Truncation(r=r) for r in sorted(ranks) if 0 < r < spectrum.r]
    lowered = any(layer.rank_for(NEARLY_ALL) < layer.r for layer in spectrum.layers)
    return (*uniform, *([Truncation(energy=NEARLY_ALL)] if lowered else []))
