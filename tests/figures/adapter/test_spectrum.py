"""A trained adapter: singular values one by one, and a number per module and block."""

from rankviz.core.spectrum import LayerSpectrum, Spectrum
from rankviz.figures import (
    ModulesInfo,
    SpectrumInfo,
    modules_figure,
    modules_info,
    spectrum_figure,
    spectrum_info,
)
from rankviz.figures.adapter import ModuleCell, SpectrumLine

Q0, Q1, V0, V1 = (f"model.layers.{block}.self_attn.{name}" for name in ("q_proj", "v_proj") for block in (0, 1))


def layer(name, *values):
    return LayerSpectrum(name=name, module=name, r=len(values), scale=1.0, singular_values=values)


ADAPTER = Spectrum(
    name="toy",
    r=3,
    layers=(layer(Q0, 4.0, 3.0, 0.0), layer(Q1, 1.0, 1.0, 1.0), layer(V0, 5.0, 0.0, 0.0), layer(V1, 0.0, 0.0, 0.0)),
)
"""Energies of q_proj in block 0: 16, 9 and 0 of 25. v_proj of block 1 has no update."""


def test_at_one_rank_the_map_shows_the_energy_that_each_module_keeps():
    info = modules_info(ADAPTER, r=1, ranks={Q0: 1}, chosen=V0)

    assert (["q_proj", "v_proj"], ["0", "1"]) == (list(info.modules), list(info.blocks))
    assert [64.0, 100.0] == [row[0].value for row in info.cells]
    assert info.cells[1][1].value is None
    assert (1, 0) == info.chosen
    assert ("energy kept at r = 1", True) == (info.title, info.low_stands_out)
    assert [(1, 0.64), ("", "")] == [(row["truncated_to"], row["energy_kept"]) for row in info.rows[:2]]


def test_by_energy_the_map_shows_the_rank_that_each_module_needs():
    info = modules_info(ADAPTER, energy=0.9)

    assert [2.0, 3.0, 1.0] == [cell.value for row in info.cells for cell in row if cell.value is not None]
    assert ("rank for 90 %", 0.0, 3.0) == (info.title, info.low, info.high)


def test_a_module_without_update_is_a_cross_and_a_module_that_a_block_lacks_is_no_cell():
    cells = [[ModuleCell("m0", 50.0, "half"), None], [ModuleCell("m1", None, "none"), ModuleCell("m2", 100.0, "all")]]

    figure = modules_figure(
        ModulesInfo(
            ["q", "v"], ["0", "1"], cells, title="kept", unit=" %", low=0, high=100, low_stands_out=True,
            chosen=(1, 1),
        )
    ).to_dict()  # fmt: skip

    assert [[50.0, None], [100, 100.0]] == figure["data"][0]["z"]
    assert [["", ""], ["×", ""]] == figure["data"][0]["text"]
    assert (0.5, 1.5, 0.5, 1.5) == tuple(figure["layout"]["shapes"][0][side] for side in ("x0", "x1", "y0", "y1"))


def test_the_spectrum_begins_with_the_module_that_needs_the_highest_rank():
    info = spectrum_info(ADAPTER)

    assert SpectrumLine(Q1, [1.0, 1.0, 1.0], [1, 2, 3]) == info.chosen
    assert [Q0] == [line.name for line in info.others]
    assert 6 == len(info.rows)


def test_a_module_without_update_has_no_line_but_a_sentence():
    info = spectrum_info(ADAPTER, module=V1)

    assert info.chosen is None
    assert f"{V1} has no update, so it has no singular values." == info.empty


def test_other_blocks_are_drawn_faintly_and_zero_is_no_point():
    figure = spectrum_figure(
        SpectrumInfo(SpectrumLine("q", (2.0, 0.0), (1, 2)), [SpectrumLine("v", (1.0,), (1,))], r=1)
    )

    assert [(1.0, None), (2.0, None)] == [trace.y for trace in figure.data]
    assert 1.5 == figure.layout.shapes[0].x0


def test_few_singular_values_have_a_tick_each_and_an_axis_within_two_decades_has_ticks_between():
    def axes(*values):
        layout = spectrum_figure(SpectrumInfo(SpectrumLine("q", values, range(1, len(values) + 1)))).to_dict()["layout"]
        return layout["xaxis"].get("dtick"), layout["yaxis"]["dtick"]

    assert (1, "D2") == axes(3.0, 2.0, 0.5, 0.0)
    assert (1, 1) == axes(3.0, 0.03)
    assert (None, "D2") == axes(*[1.0] * 17)
    assert (1, "D2") == axes(0.0)
