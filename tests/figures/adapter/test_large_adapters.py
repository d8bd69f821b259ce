"""Figures of large adapters: no more points than a screen can show, with the exact extremes."""

import json

import pytest

from rankviz.core.spectrum import MOST_POINTS, LayerSpectrum, Spectrum
from rankviz.figures import energy_figure, energy_info, modules_figure, modules_info, spectrum_figure, spectrum_info
from rankviz.figures.adapter import MOST_ROWS
from rankviz.ui.adapter.view import ROWS_SHOWN, table_html

MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def layer(name: str, values: tuple[float, ...]) -> LayerSpectrum:
    return LayerSpectrum(name=name, module=name, r=len(values), scale=1.0, singular_values=values)


def adapter(layers: list[LayerSpectrum]) -> Spectrum:
    return Spectrum(name="large", r=max(each.r for each in layers), layers=tuple(layers))


def in_blocks(blocks: int, r: int) -> Spectrum:
    """Each block's values fall a little more slowly than those of the one before."""
    return adapter(
        [
            layer(f"layers.{block}.{module}", tuple((0.5 + 0.4 * block / blocks) ** i for i in range(r)))
            for block in range(blocks)
            for module in MODULES
        ]
    )


LARGE = in_blocks(blocks=143, r=36)
"""1,001 modules, 36,036 singular values."""
DEEP = in_blocks(blocks=2000, r=2)
WIDE = adapter([layer(f"module_{i}", (1.0, i / 5000)) for i in range(5000)])
HIGH = adapter([layer("q_proj", tuple(1 / i for i in range(1, 10_001)))])
"""One module of r = 10,000."""


def points(figure) -> int:
    traces = json.loads(figure.to_json())["data"]
    maps = sum(len(row) for trace in traces for row in trace.get("z", ()))
    return maps + sum(len(trace["x"]) for trace in traces if "z" not in trace)


@pytest.mark.parametrize("spectrum", [LARGE, DEEP, WIDE, HIGH], ids=["large", "deep", "wide", "high"])
def test_no_figure_or_table_has_more_than_a_screen_can_show(spectrum):
    chosen = spectrum.layers[0]
    kept, ranks, values = energy_info(spectrum, r=1), modules_info(spectrum, r=1), spectrum_info(spectrum)

    drawn = energy_figure(kept), modules_figure(ranks), spectrum_figure(values)

    assert all(points(figure) <= 1.5 * MOST_POINTS for figure in drawn)
    assert all(len(info.rows) <= 1.5 * MOST_POINTS for info in (kept, ranks, values))
    assert table_html(spectrum, {}, chosen).count("<tr") <= ROWS_SHOWN + 2


def test_many_other_blocks_are_their_quantiles_with_the_exact_extremes():
    info = spectrum_info(LARGE, module="layers.70.q_proj")

    highest, _, median, _, lowest = info.others

    others = [each.singular_values for each in LARGE.layers if each.name.endswith("q_proj") and ".70." not in each.name]
    assert [max(column) for column in zip(*others, strict=True)] == highest.values
    assert [min(column) for column in zip(*others, strict=True)] == lowest.values
    assert sorted(column[1] for column in others)[70] == median.values[1]
    assert "the same module in 142 other blocks: highest, 90 %, median, 10 % and lowest" == info.others_name
    assert LARGE.layers[7 * 70].singular_values == tuple(info.chosen.values)


def test_neighbouring_blocks_share_a_column_that_shows_the_module_that_keeps_least():
    info = modules_info(DEEP, r=1, chosen="layers.1999.q_proj")

    column = -(-2000 // (MOST_POINTS // 7))
    assert f"one column for {column} blocks, with the module that stands out" == info.left_out
    assert f"0–{column - 1}" == info.blocks[0]
    assert min(100 * each.energy_kept(1) for each in DEEP.layers) == min(cell.value for cell in info.cells[0])
    assert (0, len(info.blocks) - 1) == info.chosen
    assert "block (one column for" in modules_figure(info).layout.xaxis.title.text


def test_of_very_many_modules_those_that_need_the_highest_ranks_are_drawn():
    info = modules_info(WIDE, r=1)

    assert f"{MOST_ROWS} of 5,000 modules: those that need the highest ranks" == info.left_out
    assert {2} == {layer.needs[-1] for layer in WIDE.layers if layer.name in info.modules}
