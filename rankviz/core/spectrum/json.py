"""A spectrum as `rankviz spectrum --json` and the HTTP endpoint have it. Keys may be added, none renamed."""

from collections.abc import Callable
from typing import TypedDict

from rankviz.core.spectrum.spectrum import SHARES, LayerSpectrum, Spectrum, in_words


class LayerJSON(TypedDict):
    """One update, scale · B·A: its singular values, the ranks that they come to, its Frobenius norm, and the smallest
    rank that keeps each share of its energy."""

    name: str
    r: int
    scale: float
    singular_values: list[float]
    effective_rank: float
    stable_rank: float
    norm: float
    rank_for_energy: dict[str, int]


class SpectrumJSON(TypedDict):
    """A whole adapter. `rank_for_energy` is by share of all energy, `energy_kept` the share by rank; dead modules have
    no update, faint ones a far smaller one than the others."""

    name: str
    r: int
    lora_alpha: float | None
    use_rslora: bool
    base_model: str | None
    dtype: str
    file_bytes: int
    training_steps: int | None
    layers: list[LayerJSON]
    rank_for_energy: dict[str, int]
    energy_kept: dict[str, float | None]
    dead: list[str]
    faint: list[str]
    in_words: str
    notes: list[str]


def as_json(spectrum: Spectrum, part: slice = slice(None)) -> SpectrumJSON:
    """What `rankviz spectrum --json` prints. part: of its layers, those that are listed."""
    return {
        "name": spectrum.name,
        "r": spectrum.r,
        "lora_alpha": spectrum.lora_alpha,
        "use_rslora": spectrum.use_rslora,
        "base_model": spectrum.base_model or None,
        "dtype": spectrum.dtype,
        "file_bytes": spectrum.file_bytes,
        "training_steps": spectrum.training_steps,
        "layers": [_layer(layer) for layer in spectrum.layers[part]],
        "rank_for_energy": _shares(spectrum.rank_for),
        "energy_kept": {str(k): spectrum.energy_kept(k) for k in range(1, spectrum.r + 1)},
        "dead": list(spectrum.dead),
        "faint": list(spectrum.faint),
        "in_words": in_words(spectrum),
        "notes": list(spectrum.notes),
    }


def _layer(layer: LayerSpectrum) -> LayerJSON:
    return {
        "name": layer.name,
        "r": layer.r,
        "scale": layer.scale,
        "singular_values": list(layer.singular_values),
        "effective_rank": layer.effective_rank,
        "stable_rank": layer.stable_rank,
        "norm": layer.norm,
        "rank_for_energy": _shares(layer.rank_for),
    }


def _shares(rank_for: Callable[[float], int]) -> dict[str, int]:
    return {f"{share:g}": rank_for(share) for share in SHARES}
