"""Ranks by module in PEFT's settings r, rank_pattern and alpha_pattern.

A pattern is a regular expression for the end of a module's name; RankViz writes patterns anchored at the start, one for
all blocks that share a module and a value: "^model.layers.(0|3).self_attn.q_proj": 8.
"""

import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from rankviz.core.spectrum.spectrum import SHARES, Spectrum, alpha_for
from rankviz.errors import InvalidSettingError

Value = TypeVar("Value", bound=Hashable)
BLOCK = re.compile(r"(?P<before>.*?\.)(?P<block>\d+)(?P<after>\..*)")


def wanted_ranks(spectrum: Spectrum, *, r: int | None = None, energy: float | None = None) -> dict[str, int]:
    """A rank for each layer: one for all (a layer keeps its own where that is lower), or the smallest that keeps this
    share of the layer's energy, and 1 where there is no update, since PEFT has no rank 0."""
    if (r is None) == (energy is None):
        raise InvalidSettingError("Give either a rank or a share of the energy to keep.")
    if r is not None:
        if r < 1:
            raise InvalidSettingError(f"The rank must be 1 or more (got {r}).")
        if r >= spectrum.r:
            remedy = f"give a rank from 1 to {spectrum.r - 1}" if spectrum.r > 1 else "a lower rank is not possible"
            raise InvalidSettingError(
                f"This adapter has r = {spectrum.r}, and a resize only lowers the rank: {remedy}."
            )
        return {layer.name: min(r, layer.r) for layer in spectrum.layers}
    if not 0 < energy <= 1:
        raise InvalidSettingError(
            f"The share of energy to keep must be above 0 and at most 1, such as 0.99 (got {energy:g})."
        )
    return {layer.name: max(1, layer.rank_for(energy)) for layer in spectrum.layers}


def commonest(values: Sequence[Value]) -> Value:
    """The most frequent value; of several, the first."""
    return Counter(values).most_common(1)[0][0]


def patterns(values: Mapping[str, Value], default: Value) -> dict[str, Value]:
    """PEFT patterns for the modules whose value is not the default, blocks of one module and value together."""
    blocks: dict[tuple[str, str, Value], list[str]] = {}
    by_pattern: dict[str, Value] = {}
    for name, value in values.items():
        if value == default:
            continue
        match = BLOCK.fullmatch(name)
        if match is None:
            by_pattern[f"^{name}"] = value
        else:
            blocks.setdefault((match["before"], match["after"], value), []).append(match["block"])
    for (before, after, value), numbers in blocks.items():
        which = numbers[0] if len(numbers) == 1 else f"({'|'.join(numbers)})"
        by_pattern[f"^{before}{which}{after}"] = value
    return by_pattern


class Ranks(NamedTuple):
    """What to write into an adapter_config.json."""

    r: int
    lora_alpha: float
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]


def in_peft(spectrum: Spectrum, by_module: Mapping[str, int], scales: Mapping[str, float]) -> Ranks:
    """The settings that give each module its rank and leave its scale as it was."""
    alphas = {name: alpha_for(scales[name], r, use_rslora=spectrum.use_rslora) for name, r in by_module.items()}
    r = commonest(list(by_module.values()))
    alpha = commonest([alphas[name] for name, k in by_module.items() if k == r])
    return Ranks(r, alpha, patterns(by_module, r), patterns(alphas, alpha))


def by_module(spectrum: Spectrum, ranks: Mapping[str, int]) -> dict[str, int]:
    """A rank for each module: the highest of its layers', as all experts of a fused parameter share one."""
    wanted: dict[str, int] = {}
    for layer in spectrum.layers:
        wanted[layer.module] = max(wanted.get(layer.module, 0), ranks[layer.name])
    return wanted


def proposed_rank(spectrum: Spectrum) -> int:
    """One rank for all modules that keeps 99 % of the energy, lower than the trained one where that is above 1; after
    too few steps for that to mean anything, half the trained one."""
    if spectrum.after_few_steps:
        return max(1, spectrum.r // 2)
    return min(max(1, spectrum.rank_for(SHARES[-1])), max(1, spectrum.r - 1))


def suggested(spectrum: Spectrum, energy: float) -> Ranks | None:
    """For a new training: each module with the rank that this share of its energy needs, at the scale it had. None
    after few steps, when this is the random start."""
    if spectrum.after_few_steps:
        return None
    wanted = by_module(spectrum, wanted_ranks(spectrum, energy=energy))
    return in_peft(spectrum, wanted, {layer.module: layer.scale for layer in spectrum.layers})
