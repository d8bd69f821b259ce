"""Figures of large adapters: no more points than a screen can show, with the exact extremes."""

import json

import pytest

from rankviz.core.spectrum import LayerSpectrum, Spectrum
from rankviz.figures import energy_figure, energy_info, modules_figure, modules_info, spectrum_figure, spectrum_info
from rankviz.figures.adapter import MOST_POINTS

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


DEEP = in_blocks(blocks=2000, r=2)
WIDE = adapter([layer(f"module_{i}", (1.0, i / 5000)) for i in range(5000)])
HIGH = adapter([layer("q_proj", tuple(1 / i for i in range(1, 10_001)))])
"""One module of r = 10,000."""


def points(figure) -> int:
    traces = json.loads(figure.to_json())["data"]
    maps = sum(len(row) for trace in traces for row in trace.get("z", ()))
    return maps + sum(len(trace["x"]) for trace in traces if "z" not in trace)


@pytest.mark.parametrize("spectrum", [DEEP, WIDE, HIGH], ids=["deep", "wide", "high"])
def test_no_figure_or_table_has_more_than_a_screen_can_show(spectrum):
    kept, ranks, values = energy_info(spectrum, r=1), modules_info(spectrum, r=1), spectrum_info(spectrum)

    drawn = energy_figure(kept), modules_figure(ranks), spectrum_figure(values)

    assert all(points(figure) <= 1.5 * MOST_POINTS for figure in drawn)
    assert all(len(info.rows) <= 1.5 * MOST_POINTS for info in (kept, ranks, values))


BOTH = adapter(
    [layer("layers.0.a", (4.0, 3.0, 0.0)), layer("layers.0.b", (1.0, 1.0, 1.0)), layer("layers.1.b", (0.0,))]
)
"""Energies 16 + 9 + 0 and 1 + 1 + 1: r = 1 keeps 17 of 28, and a third of b. One has no update."""


def test_the_map_shows_what_each_module_keeps_and_a_cross_without_update():
    kept = modules_info(BOTH, r=1, ranks={"layers.0.a": 1}, chosen="layers.0.b")
    (drawn,) = modules_figure(kept).to_dict()["data"]

    assert [64.0, pytest.approx(100 / 3)] == [row[0] for row in drawn["z"]]
    assert [["", ""], ["", "×"]] == drawn["text"]
    assert "r = 1 keeps 64.00 %<br>99 % needs r = 2, 90 % needs r = 2" in drawn["hovertext"][0][0]
    assert (1, 0) == kept.chosen and (1, 0.64) == (kept.rows[0]["truncated_to"], kept.rows[0]["energy_kept"])


def test_the_spectrum_begins_with_the_module_that_needs_the_highest_rank_and_zero_is_no_point():
    first, dead, a = (spectrum_info(BOTH, module=name) for name in ("", "layers.1.b", "layers.0.a"))

    assert {1: 1.0, 2: 1.0, 3: 1.0} == first.values
    assert {} == dead.values and "layers.1.b has no update, so it has no singular values." == dead.empty
    assert (4.0, 3.0, None) == spectrum_figure(a).data[-1].y
