"""The singular values of a trained adapter: how much of its rank each module uses.

Energy is the square of a singular value; the energies of an update sum to its squared Frobenius norm, and the best
rank-k approximation keeps those of the k largest (Eckart and Young 1936). Singular values are those of the update as
the model gets it, scale · B·A.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, repeat
from math import exp, floor, fsum, isclose, log, sqrt
from statistics import median
from typing import Literal, NamedTuple

from rankviz.units import counted

MOST, NEARLY_ALL = SHARES = (0.9, 0.99)
"""Of the energy: for each the rank is given that holds it."""
FAINT = 0.01
"""As a share of the median module's norm: a smaller update is reported as faint."""
FEW_STEPS = 200
"""Training steps below which the rank that keeps 99 % of the energy mostly reflects the random start. Measured on a
small Llama with r = 64 (docs/method.md): 49 after the first step, 33 and 23 after ten at learning rates 2e-4 and 1e-3,
14 and 12 after 100, and from 200 to 400 steps 11 to 14."""
SAME = 1e-9
"""Relative: how close a sum of floats comes to the share that it should equal."""


def alpha_for(scale: float, r: int, *, use_rslora: bool) -> float:
    """The lora_alpha that gives this scale at this rank, as a whole number where it is one."""
    alpha = scale * (sqrt(r) if use_rslora else r)
    return round(alpha) if isclose(alpha, round(alpha), rel_tol=1e-12) else alpha


class Spread(NamedTuple):
    """Of one measure over modules."""

    low: float
    median: float
    high: float


@dataclass(frozen=True, kw_only=True)
class LayerSpectrum:
    """One update, scale · B·A."""

    name: str
    module: str
    """As PEFT's patterns name it: the name itself, except that all experts of a fused parameter share it."""
    r: int
    scale: float
    singular_values: tuple[float, ...]
    """r of them, falling; 0 beyond what the update uses."""

    @cached_property
    def energies(self) -> tuple[float, ...]:
        return tuple(value * value for value in self.singular_values)

    @cached_property
    def kept(self) -> tuple[float, ...]:
        """The energy of the first k values, k = 0 to r."""
        return (0.0, *accumulate(self.energies))

    @cached_property
    def energy(self) -> float:
        return self.kept[-1]

    @property
    def norm(self) -> float:
        """Frobenius norm of the update."""
        return sqrt(self.energy)

    @cached_property
    def is_dead(self) -> bool:
        """No update at all."""
        return self.energy == 0

    @cached_property
    def effective_rank(self) -> float:
        """exp of the entropy of the singular values, normalised to sum to 1 (Roy and Vetterli 2007); 0 when dead."""
        total = fsum(self.singular_values)
        shares = [value / total for value in self.singular_values if value > 0]
        return exp(-fsum(share * log(share) for share in shares)) if shares else 0.0

    @property
    def stable_rank(self) -> float:
        """Squared Frobenius norm over squared spectral norm (Rudelson and Vershynin 2007); 0 when dead."""
        return self.energy / self.energies[0] if not self.is_dead else 0.0

    @cached_property
    def needs(self) -> tuple[int, ...]:
        """The rank for each of SHARES."""
        return tuple(map(self.rank_for, SHARES))

    def energy_kept(self, k: int) -> float | None:
        """The share of its energy that the first k values hold; None when dead."""
        return None if self.is_dead else self.kept[min(k, self.r)] / self.energy

    def rank_for(self, share: float) -> int:
        """The smallest rank that keeps this share of the energy; 0 when dead."""
        if self.is_dead:
            return 0
        return bisect_left(self.kept, share * self.energy * (1 - SAME))


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """A whole adapter."""

    name: str
    r: int
    """The highest rank of any module."""
    layers: tuple[LayerSpectrum, ...]
    base_model: str = ""
    lora_alpha: float | None = None
    use_rslora: bool = False
    dtype: str = ""
    file_bytes: int = 0
    notes: tuple[str, ...] = ()
    training_steps: int | None = None
    """Optimizer steps that it was trained for; None where neither its files nor a run of RankViz says so."""

    @cached_property
    def kept(self) -> tuple[float, ...]:
        """Energy of all updates truncated to rank k, k = 0 to r."""
        return tuple(map(fsum, self._by_rank(layer.kept for layer in self.layers)))

    @property
    def after_few_steps(self) -> bool:
        """Whether its ranks are known to be mostly those of the random start."""
        return self.training_steps is not None and self.training_steps < FEW_STEPS

    def energy_kept(self, k: int) -> float | None:
        """The share of all updates' energy at one rank for all; None when there is none."""
        return self.kept[min(k, self.r)] / self.kept[-1] if self.kept[-1] else None

    def rank_for(self, share: float) -> int:
        """The smallest rank for all modules that keeps this share of all their energy; 0 when there is none."""
        return bisect_left(self.kept, share * self.kept[-1] * (1 - SAME)) if self.kept[-1] else 0

    def weakest(self, k: int) -> float | None:
        """The smallest share of its energy that any module keeps at this rank."""
        return self.weakest_by_rank[min(k, self.r)]

    @cached_property
    def weakest_by_rank(self) -> tuple[float | None, ...]:
        """The same for k = 0 to r."""
        used = [layer for layer in self.layers if not layer.is_dead]
        shares = ([kept / layer.energy for kept in layer.kept] for layer in used)
        return tuple(map(min, self._by_rank(shares))) if used else (None,) * (self.r + 1)

    def _by_rank(self, lines: Iterable[Sequence[float]]) -> Iterable[tuple[float, ...]]:
        """Values by k = 0 to r of each layer, as those of all layers by k; a layer of a lower rank keeps its last."""
        return zip(*((*line, *repeat(line[-1], self.r + 1 - len(line))) for line in lines), strict=True)

    @cached_property
    def dead(self) -> tuple[str, ...]:
        """Modules without any update."""
        return tuple(layer.name for layer in self.layers if layer.is_dead)

    @cached_property
    def faint(self) -> tuple[str, ...]:
        """Modules whose update has less than FAINT of the median module's norm, but not zero."""
        norms = sorted(layer.norm for layer in self.layers if not layer.is_dead)
        limit = FAINT * norms[len(norms) // 2] if norms else 0.0
        return tuple(layer.name for layer in self.layers if 0 < layer.norm < limit)


def spread(layers: Iterable[LayerSpectrum], measure: Literal["effective_rank", "stable_rank"]) -> Spread | None:
    """Over the updates that are not zero; None where all are."""
    values = [getattr(layer, measure) for layer in layers if not layer.is_dead]
    return Spread(min(values), median(values), max(values)) if values else None


def in_words(spectrum: Spectrum) -> str:
    """Up to three sentences, such as "Trained with r = 64; r = 12 keeps 99 % of the update's energy"."""
    if not spectrum.kept[-1]:
        return (
            "No module has an update, so this adapter changes nothing: it was saved before its first step, or never "
            "trained."
        )
    return " ".join(filter(None, (_used(spectrum), steps_caution(spectrum))))


def steps_caution(spectrum: Spectrum) -> str:
    """That the ranks are not yet those of the task, after few steps or an unknown number of them; "" after enough."""
    if spectrum.training_steps is None:
        return (
            f"The number of training steps is not known: below about {FEW_STEPS}, these ranks mostly reflect the "
            "random start, not the task."
        )
    if not spectrum.after_few_steps:
        return ""
    return (
        f"It was trained for {counted(spectrum.training_steps, 'step')} only: below about {FEW_STEPS}, these ranks "
        "mostly reflect the random start. They do not say which rank the task needs."
    )


def _used(spectrum: Spectrum) -> str:
    low, high = (spectrum.rank_for(share) for share in SHARES)
    some, most = (f"{100 * share:.0f} %" for share in SHARES)
    trained = f"Trained with r = {spectrum.r}"
    if low >= spectrum.r:
        return f"{trained}. Even {some} of the update's energy needs the full rank."
    if high >= spectrum.r:
        return f"{trained}. {most} of the update's energy needs the full rank; r = {low} keeps {some}."
    lower = "" if low == high else f", r = {low} keeps {some}"
    least = floor(1e4 * spectrum.weakest(high)) / 100
    return (
        f"{trained}; r = {high} keeps {most} of the update's energy{lower}. "
        f"At r = {high} every module keeps at least {least:.2f} % of its own energy."
    )
