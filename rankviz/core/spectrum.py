"""Singular values of a trained adapter: how much of its rank each module uses, and ranks by module from that."""

import math
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, repeat
from math import exp, floor, fsum, isclose, log, sqrt
from typing import NamedTuple, TypeVar

from rankviz.core.from_json import as_answer, shape
from rankviz.core.quantity import brief
from rankviz.errors import InvalidSettingError
from rankviz.units import counted

MOST, NEARLY_ALL = SHARES = (0.9, 0.99)
"""Shares of the energy (sum of squared singular values) for which the required rank is reported."""
FAINT = 0.01
"""Share of the median module's norm below which a module's update is reported as faint."""
FEW_STEPS = 200
"""Training steps below which ranks mostly reflect the random initial values (small Llama, r = 64; docs/method.md)."""
SAME = 1e-9
"""Relative rounding error within which a sum counts as reaching a share."""
Losses = Mapping[int, tuple[float, int]]
"""Measured losses of an adapter and its truncations: (nats per token, training steps after truncation) by rank."""
NO_RANK = "No rank is recommended."
FLAT = "The energy is spread over most of the rank, as in noise: it does not show that a lower rank is enough."


def alpha_for(scale: float, r: int, *, use_rslora: bool) -> float:
    """Return the lora_alpha that gives this scale at rank r, as an integer where possible."""
    alpha = scale * (sqrt(r) if use_rslora else r)
    return round(alpha) if isclose(alpha, round(alpha), rel_tol=1e-12) else alpha


class Shares:
    """Energy that lower ranks keep. kept: Energy (sum of squares) of the k largest singular values, for k = 0 to r."""

    r: int
    kept: tuple[float, ...]

    def energy_kept(self, k: int) -> float | None:
        """Return the share of the energy that rank k keeps; None where all updates are zero."""
        return self.kept[min(k, self.r)] / self.kept[-1] if self.kept[-1] else None

    def rank_for(self, share: float) -> int:
        """Return the smallest rank that keeps this share of the energy; 0 where all updates are zero."""
        return bisect_left(self.kept, share * self.kept[-1] * (1 - SAME)) if self.kept[-1] else 0

    @property
    def rank_for_energy(self) -> dict[str, int]:
        """Smallest rank that keeps each of SHARES, by share as text."""
        return {f"{share:g}": self.rank_for(share) for share in SHARES}


@dataclass(frozen=True, kw_only=True)
class LayerSpectrum(Shares):
    """Singular values of one update, scale · B·A. module: Name in PEFT's patterns, common to all experts of a fused
    parameter. singular_values: All r values, the largest first; 0 for a rank that the update does not use."""

    name: str
    module: str
    r: int
    scale: float
    singular_values: tuple[float, ...]

    @cached_property
    def kept(self) -> tuple[float, ...]:
        return (0.0, *accumulate(value * value for value in self.singular_values))

    @property
    def energy(self) -> float:
        return self.kept[-1]

    @property
    def norm(self) -> float:
        """Frobenius norm of the update."""
        return sqrt(self.energy)

    @property
    def is_dead(self) -> bool:
        return self.energy == 0

    @cached_property
    def effective_rank(self) -> float:
        """exp of the entropy of the singular values over their sum (Roy and Vetterli 2007); 0 for a zero update."""
        total = fsum(self.singular_values)
        shares = [value / total for value in self.singular_values if value > 0]
        return exp(-fsum(share * log(share) for share in shares)) if shares else 0.0

    @property
    def stable_rank(self) -> float:
        """Squared Frobenius norm over squared spectral norm (Rudelson and Vershynin 2007); 0 for a zero update."""
        return self.energy / self.singular_values[0] ** 2 if not self.is_dead else 0.0


@dataclass(frozen=True, kw_only=True)
class Spectrum(Shares):
    """Singular values of a whole adapter. r: Highest rank of any module. training_steps: Optimizer steps of its
    training; None where no run of RankViz trained it."""

    __repr__ = brief

    name: str
    r: int
    layers: tuple[LayerSpectrum, ...]
    base_model: str = ""
    lora_alpha: float | None = None
    use_rslora: bool = False
    dtype: str = ""
    file_bytes: int = 0
    notes: tuple[str, ...] = ()
    training_steps: int | None = None

    @cached_property
    def kept(self) -> tuple[float, ...]:
        """Energy of all updates together at rank k, for k = 0 to r; updates of a lower rank keep all of theirs."""
        lines = ((*layer.kept, *repeat(layer.energy, self.r - layer.r)) for layer in self.layers)
        return tuple(map(fsum, zip(*lines, strict=True)))

    @property
    def after_few_steps(self) -> bool:
        """True where the training was so short that ranks mostly reflect the random initial values."""
        return self.training_steps is not None and self.training_steps < FEW_STEPS

    @cached_property
    def used(self) -> tuple[LayerSpectrum, ...]:
        """Updates that are not zero."""
        return tuple(layer for layer in self.layers if not layer.is_dead)

    def weakest(self, k: int) -> float:
        """Return the smallest share that any module keeps of its own energy at rank k; 0 where all updates are zero."""
        return min((layer.energy_kept(k) for layer in self.used), default=0.0)

    @property
    def dead(self) -> tuple[str, ...]:
        """Names of modules whose update is zero."""
        return tuple(layer.name for layer in self.layers if layer.is_dead)

    @property
    def faint(self) -> tuple[str, ...]:
        """Names of modules whose update is not zero, but below FAINT of the median module's norm."""
        norms = sorted(layer.norm for layer in self.used)
        limit = FAINT * norms[len(norms) // 2] if norms else 0.0
        return tuple(layer.name for layer in self.used if layer.norm < limit)


def in_words(spectrum: Spectrum) -> str:
    """Return up to three sentences such as "Trained with r = 64; r = 12 is enough for 99 % of the update's energy"."""
    if not spectrum.kept[-1]:
        return "No module has an update: this adapter was saved before its first step, or never trained."
    low, high = (spectrum.rank_for(share) for share in SHARES)
    used = f"r = {high} is enough for 99 % of the update's energy" + (f", r = {low} for 90 %" if low < high else "")
    weakest = floor(1e4 * spectrum.weakest(high)) / 100
    used += f". At r = {high} every module keeps at least {weakest:.2f} % of its own energy."
    caution = ""
    if spectrum.training_steps is None:
        caution = f" Training steps are not known: below about {FEW_STEPS}, these ranks reflect the random start."
    elif spectrum.after_few_steps:
        caution = (
            f" It was trained for {counted(spectrum.training_steps, 'step')} only: below about {FEW_STEPS}, these "
            "ranks mostly reflect the random start. They do not say which rank the task needs."
        )
    return f"Trained with r = {spectrum.r}; {used}{caution}"


class Truncation(NamedTuple):
    """One rank for all modules (r), or for each module the smallest rank that keeps a share of its energy (energy)."""

    r: int | None = None
    energy: float | None = None


def truncations(spectrum: Spectrum) -> tuple[Truncation, ...]:
    """Return useful truncations: lower ranks for all modules, rising, then a rank for each module if that lowers any.
    Half the trained rank is always there, also for adapters that use their whole rank; after few steps it is the only
    one, as the energy is that of the random initial values. Empty for r = 1 or where all updates are zero."""
    if spectrum.r == 1 or not spectrum.kept[-1]:
        return ()
    if spectrum.after_few_steps:
        return (Truncation(r=spectrum.r // 2),)
    ranks = {spectrum.rank_for(share) for share in (MOST, 0.95, NEARLY_ALL)} | {spectrum.r // 2}
    uniform = [Truncation(r=r) for r in sorted(ranks) if 0 < r < spectrum.r]
    lowered = any(layer.rank_for(NEARLY_ALL) < layer.r for layer in spectrum.layers)
    return (*uniform, *([Truncation(energy=NEARLY_ALL)] if lowered else []))


def proposed_rank(spectrum: Spectrum, good: Sequence[int] | None = None) -> tuple[int, bool, str]:
    """Return a lower rank for all modules, at least 1, whether it is recommended, and a sentence on the reason. A
    recommended rank keeps 99 % of the energy and is in `good`, the ranks at which the measured loss of the truncated
    adapter is near the best; None where none was measured."""
    enough, half = max(1, spectrum.rank_for(NEARLY_ALL)), max(1, spectrum.r // 2)
    supported = min((k for k in good or () if k >= enough), default=spectrum.r)
    if spectrum.after_few_steps:
        steps = counted(spectrum.training_steps or 0, "step")
        again = f"Train for {FEW_STEPS} steps or more, then look again."
        return half, False, f"After {steps}, the spectrum is mostly noise. {NO_RANK} {again}"
    if spectrum.r > 1 and spectrum.rank_for(NEARLY_ALL) > spectrum.r / 2:
        return half, False, f"{NO_RANK} {FLAT}"
    if good is None:
        words = f"{NO_RANK} Energy is not loss, and no loss of the truncated adapter was measured."
        return max(1, min(enough, spectrum.r - 1)), False, words
    if supported == spectrum.r:
        return half, False, f"{NO_RANK} No measured lower rank that keeps 99 % of the energy has a loss near the best."
    why = "it keeps 99 % of the energy, and its measured loss is near the best."
    return supported, True, f"Recommended: r = {supported}, since {why}"


Value = TypeVar("Value", bound=Hashable)
BLOCK = re.compile(r"(?P<before>.*?\.)(?P<block>\d+)(?P<after>\..*)")


def wanted_ranks(spectrum: Spectrum, *, r: int | None = None, energy: float | None = None) -> dict[str, int]:
    """Return a rank for each module: `r`, or at most the module's own rank; or the smallest that keeps the share
    `energy` of the energy of each of its layers, as experts of a fused parameter share one. At least 1, since PEFT has
    no rank 0."""
    if (r is None) == (energy is None):
        raise InvalidSettingError("Give either a rank or a share of the energy to keep.")
    if r is not None:
        if r < 1:
            raise InvalidSettingError(f"The rank must be 1 or more (got {r}).")
        if r >= spectrum.r:
            remedy = f"give a rank from 1 to {spectrum.r - 1}" if spectrum.r > 1 else "a lower rank is not possible"
            raise InvalidSettingError(f"This adapter has r = {spectrum.r}, and a resize only lowers it: {remedy}.")
    elif not 0 < energy <= 1:
        raise InvalidSettingError(f"The share of energy to keep must be above 0, at most 1 (got {energy:g}).")
    wanted: dict[str, int] = {}
    for layer in spectrum.layers:
        rank = max(1, layer.rank_for(energy)) if r is None else min(r, layer.r)
        wanted[layer.module] = max(wanted.get(layer.module, 0), rank)
    return wanted


def patterns(values: Mapping[str, Value], default: Value) -> dict[str, Value]:
    """Return PEFT patterns for modules whose value is not the default; one for all blocks with equal values."""
    blocks: dict[tuple[str, str, Value], list[str]] = {}
    by_pattern: dict[str, Value] = {}
    for name, value in values.items():
        if value == default:
            continue
        if match := BLOCK.fullmatch(name):
            blocks.setdefault((match["before"], match["after"], value), []).append(match["block"])
        else:
            by_pattern[f"^{name}"] = value
    for (before, after, value), numbers in blocks.items():
        which = numbers[0] if len(numbers) == 1 else f"({'|'.join(numbers)})"
        by_pattern[f"^{before}{which}{after}"] = value
    return by_pattern


class Ranks(NamedTuple):
    """Rank and alpha settings of an adapter_config.json."""

    r: int
    lora_alpha: float
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]


def in_peft(spectrum: Spectrum, by_module: Mapping[str, int], scales: Mapping[str, float]) -> Ranks:
    """Return PEFT's settings that give each module its rank and its scale; both are given by module."""
    alphas = {name: alpha_for(scales[name], r, use_rslora=spectrum.use_rslora) for name, r in by_module.items()}
    ((r, _),) = Counter(by_module.values()).most_common(1)
    ((alpha, _),) = Counter(alphas[name] for name, k in by_module.items() if k == r).most_common(1)
    return Ranks(r, alpha, patterns(by_module, r), patterns(alphas, alpha))


MOST_PARTS = 8
"""Most parts of a shortened module name, so that a hostile name with many dots takes no time."""
USUAL_ORDER = (
    *("q_proj", "k_proj", "v_proj", "qkv_proj", "c_attn", "o_proj"),
    *("gate_proj", "up_proj", "gate_up_proj", "down_proj"),
)


def grid(spectrum: Spectrum) -> tuple[Sequence[str], Sequence[str], Mapping[tuple[str, str], Sequence[LayerSpectrum]]]:
    """Return the layers by module and block.

    Returns:
        The shortest distinct module names ("q_proj", "self_attn.out_proj"), in the usual order; block numbers as texts,
            "–" for modules outside blocks; and the layers by (module, block), several for a block with several experts.
    """
    by_kind: dict[str, list[tuple[str, LayerSpectrum]]] = {}
    for layer in spectrum.layers:
        block, kind = "–", layer.name
        if match := BLOCK.fullmatch(layer.name):  # numbers after the block's are experts'
            block, kind = match["block"], match["before"] + re.sub(r"\.\d+(?=\.|$)", ".*", match["after"])[1:]
        by_kind.setdefault(kind, []).append((block, layer))
    tails = {}
    for kind in by_kind:
        parts = kind.rsplit(".", MOST_PARTS)
        tails[kind] = [".".join(parts[-n:]) for n in range(1, min(len(parts), MOST_PARTS) + 1)]
    alike = Counter(tail for each in tails.values() for tail in each)
    cells: dict[tuple[str, str], list[LayerSpectrum]] = {}
    for kind, layers in by_kind.items():
        named = (tail for tail in tails[kind] if not {*tail.split(".")} <= {"*", "base_layer", "weight"})
        row = next((tail for tail in named if alike[tail] == 1), kind)
        for block, layer in layers:
            cells.setdefault((row, block), []).append(layer)
    usual = {name: place for place, name in enumerate(USUAL_ORDER)}
    rows = sorted({row for row, _ in cells}, key=lambda row: (usual.get(row.split(".")[-1], len(usual)), row))
    blocks = sorted({block for _, block in cells}, key=lambda block: int(block) if block.isdigit() else math.inf)
    return rows, blocks, cells


class LayerJSON(shape(LayerSpectrum, "name", "r", "scale", "singular_values")):
    """One update, scale · B·A: singular values, effective and stable rank, Frobenius norm, and the smallest rank that
    keeps each share of its energy."""

    effective_rank: float
    stable_rank: float
    norm: float
    rank_for_energy: dict[str, int]


class SpectrumJSON(
    shape(Spectrum, "name", "r", "lora_alpha", "use_rslora", "dtype", "file_bytes", "training_steps", "notes")
):
    """A whole adapter. `rank_for_energy`: smallest rank by share of all energy. `energy_kept`: share of all energy by
    rank. Dead modules have no update; the update of a faint module is far smaller than the others."""

    base_model: str | None
    layers: list[LayerJSON]
    rank_for_energy: dict[str, int]
    energy_kept: dict[str, float | None]
    dead: list[str]
    faint: list[str]
    in_words: str


def as_json(spectrum: Spectrum, part: slice = slice(None)) -> SpectrumJSON:
    """Return the JSON object that `rankviz spectrum --json` prints. part: slice of the layers to list."""
    return as_answer(
        SpectrumJSON,
        spectrum,
        base_model=spectrum.base_model or None,
        layers=[as_answer(LayerJSON, layer) for layer in spectrum.layers[part]],
        energy_kept={str(k): spectrum.energy_kept(k) for k in range(1, spectrum.r + 1)},
        in_words=in_words(spectrum),
    )


TERMS = (
    (
        "Energy",
        "The squared singular values of the update, scale · B·A: how much of the change to the weights a rank keeps. "
        "Truncation keeps the largest. [Eckart and Young 1936]",
    ),
    (
        "Effective rank",
        "How many singular values share the update: the exponential of their entropy. [Roy and Vetterli 2007]",
    ),
    (
        "Stable rank",
        "The energy of all singular values over that of the largest: 1 where one has all of it. [Rudelson and "
        "Vershynin 2007]",
    ),
)
"""(term, its meaning with the source) for each term used with spectra."""
