"""The share of an adapter's energy that each rank keeps."""

import pytest

from rankviz.core.spectrum import LayerSpectrum, Spectrum
from rankviz.figures import energy_figure, energy_info


def layer(name, *values):
    return LayerSpectrum(name=name, module=name, r=len(values), scale=1.0, singular_values=values)


BOTH = Spectrum(name="mine", r=3, layers=(layer("a", 4.0, 3.0, 0.0), layer("b", 1.0, 1.0, 1.0)))
"""Energies 16 + 9 + 0 and 1 + 1 + 1: r = 1 keeps 17 of 28, and a third of b."""


def test_each_rank_shows_what_all_updates_and_the_weakest_module_keep():
    info = energy_info(BOTH, r=2)

    assert [1, 2, 3] == list(info.ranks)
    assert [100 * 17 / 28, 100 * 27 / 28, 100.0] == pytest.approx(info.kept)
    assert [100 / 3, 200 / 3, 100.0] == pytest.approx(info.weakest)
    assert {"r": 2, "energy_kept": 27 / 28, "weakest_module": pytest.approx(2 / 3)} == info.rows[1]


def test_a_point_reports_its_rank_and_the_selected_rank_is_a_line():
    figure = energy_figure(energy_info(BOTH, r=2))

    weakest, every = figure.data
    assert ("all updates", ("r1", "r2", "r3")) == (every.name, every.customdata)
    assert "the module that keeps least" == weakest.name
    assert [2] == [shape.x0 for shape in figure.layout.shapes if shape.yref == "paper"]


def test_a_high_rank_has_an_axis_in_powers_of_two():
    figure = energy_figure(energy_info(Spectrum(name="m", r=64, layers=(layer("a", *[1.0] * 64),))))

    assert "log" == figure.layout.xaxis.type
    assert (1, 2, 4, 8, 16, 32, 64) == figure.layout.xaxis.tickvals
