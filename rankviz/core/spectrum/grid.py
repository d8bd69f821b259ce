"""A spectrum laid out as blocks × modules, for pictures and tables."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from rankviz.core.spectrum.rank_pattern import BLOCK
from rankviz.core.spectrum.spectrum import LayerSpectrum, Spectrum

REMEMBERED = 4
"""Adapters whose names are laid out; a page draws the same one again at each change of the rank."""
MOST_PARTS = 8
"""Of a name that is shortened, so that one made of dots alone takes no time."""
OUTSIDE = "–"
"""The block of a module that is in none."""
USUAL_ORDER = (
    "q_proj",
    "k_proj",
    "v_proj",
    "qkv_proj",
    "c_attn",
    "o_proj",
    "gate_proj",
    "up_proj",
    "gate_up_proj",
    "down_proj",
)


@dataclass(frozen=True)
class Grid:
    rows: Sequence[str]
    """Modules, as short as tells them apart: "q_proj", "self_attn.out_proj"."""
    blocks: Sequence[str]
    cells: Mapping[tuple[str, str], Sequence[LayerSpectrum]]
    """By row and block. Several where a block has many of a kind: experts."""

    def row(self, name: str) -> list[LayerSpectrum]:
        return [layer for block in self.blocks for layer in self.cells.get((name, block), ())]


def grid(spectrum: Spectrum) -> Grid:
    """The layers of a spectrum by module and block, rows in the usual order of modules."""
    rows, blocks, places = _laid_out(tuple(layer.name for layer in spectrum.layers))
    cells: dict[tuple[str, str], list[LayerSpectrum]] = {}
    for layer, place in zip(spectrum.layers, places, strict=True):
        cells.setdefault(place, []).append(layer)
    return Grid(rows, blocks, cells)


@lru_cache(REMEMBERED)
def _laid_out(names: tuple[str, ...]) -> tuple[Sequence[str], Sequence[str], Sequence[tuple[str, str]]]:
    """Rows, blocks, and the row and block of each name."""
    placed = [_place(name) for name in names]
    short = _short(list(dict.fromkeys(kind for _, kind in placed)))
    blocks = sorted(
        {block for block, _ in placed}, key=lambda block: (not block.isdigit(), int(block) if block.isdigit() else 0)
    )
    return sorted(short.values(), key=_order), blocks, [(short[kind], block) for block, kind in placed]


def _place(name: str) -> tuple[str, str]:
    """The block's number and the module without it, further numbers (experts) as stars."""
    match = BLOCK.fullmatch(name)
    if match is None:
        return OUTSIDE, name
    after = re.sub(r"\.\d+(?=\.|$)", ".*", match["after"])
    return match["block"], match["before"] + after[1:]


def _short(kinds: Sequence[str]) -> dict[str, str]:
    """Each kind by as few of its last parts as no other ends in; stars, "base_layer" and "weight" alone do not name a
    module."""
    alike = Counter(tail for kind in kinds for tail in _tails(kind))
    return {
        kind: next((tail for tail in _tails(kind) if alike[tail] == 1 and _names_a_module(tail)), kind)
        for kind in kinds
    }


def _tails(kind: str) -> list[str]:
    """Its last part, its last two, …"""
    parts = kind.rsplit(".", MOST_PARTS)
    return [".".join(parts[-n:]) for n in range(1, min(len(parts), MOST_PARTS) + 1)]


def _names_a_module(tail: str) -> bool:
    return any(part not in ("*", "base_layer", "weight") for part in tail.split("."))


def _order(row: str) -> tuple[int, str]:
    last = row.split(".")[-1]
    return (USUAL_ORDER.index(last), row) if last in USUAL_ORDER else (len(USUAL_ORDER), row)
