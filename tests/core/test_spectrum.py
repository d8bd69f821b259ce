"""Spectra of adapters, worked by hand, and the ranks that follow."""

from math import sqrt

import pytest

from rankviz.core.spectrum import (
    LayerSpectrum,
    Ranks,
    Spectrum,
    Truncation,
    in_peft,
    in_words,
    proposed_rank,
    truncations,
    wanted_ranks,
)
from rankviz.errors import InvalidSettingError


def layer(name: str, *values: float, scale: float = 1.0, module: str = "") -> LayerSpectrum:
    return LayerSpectrum(name=name, module=module or name, r=len(values), scale=scale, singular_values=values)


def adapter(*layers: LayerSpectrum, **more) -> Spectrum:
    return Spectrum(name="toy", r=max(one.r for one in layers), layers=layers, **more)


def for_nearly_all(spectrum: Spectrum) -> Ranks:
    """PEFT's settings of the spectrum, truncated to 99 % of each module's energy."""
    ranks = wanted_ranks(spectrum, energy=0.99)
    return in_peft(spectrum, ranks, {each.module: each.scale for each in spectrum.layers})


Q = layer("model.layers.0.q", 4.0, 3.0, 0.0)
"""Energies 16, 9 and 0 of 25."""


def test_energy_kept_and_the_rank_that_an_energy_needs():
    assert [0.0, 0.64, 1.0, 1.0] == [Q.energy_kept(k) for k in range(4)]
    assert [1, 1, 2, 2] == [Q.rank_for(share) for share in (0.5, 0.64, 0.65, 1.0)]
    assert 5.0 == Q.norm


def test_a_whole_adapter_adds_energies_rank_by_rank():
    """16 + 9 and 1 + 1 + 1 + 1: at r = 1, 17 of 29."""
    both = adapter(Q, layer("v", 1.0, 1.0, 1.0, 1.0))

    assert [17 / 29, 27 / 29, 28 / 29, 1.0] == [both.energy_kept(k) for k in (1, 2, 3, 4)]
    assert [2, 4] == [both.rank_for(share) for share in (0.9, 0.99)]
    assert 0.25 == both.weakest(1)


def test_in_words():
    spectrum = adapter(layer("q", 10.0, 3.0, 0.1, 0.0), layer("v", 10.0, 0.0, 0.0, 0.0), training_steps=400)

    assert (
        "Trained with r = 4; r = 2 is enough for 99 % of the update's energy, r = 1 for 90 %. "
        "At r = 2 every module keeps at least 99.99 % of its own energy." == in_words(spectrum)
    )
    assert "r = 2 is enough for 99 % of the update's energy. At r = 2" in in_words(adapter(layer("q", 1.0, 1.0)))
    assert in_words(adapter(layer("q", 0.0))).startswith("No module has an update")
    short = in_words(adapter(layer("q", 4.0, 3.0, 0.0), training_steps=10))
    assert "It was trained for 10 steps only: below about 200, these ranks mostly reflect the random start." in short


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"r": 3}, "has r = 3, and a resize only lowers it: give a rank from 1 to 2"),
        ({"r": 0}, "The rank must be 1 or more"),
        ({"energy": 1.5}, "must be above 0, at most 1"),
        ({"r": 2, "energy": 0.9}, "Give either a rank or"),
    ],
)
def test_what_cannot_be_asked_is_said(options, message):
    with pytest.raises(InvalidSettingError, match=message):
        wanted_ranks(adapter(Q), **options)


def test_a_truncation_keeps_each_modules_scale():
    """Ranks 2, 2 and 1 at scale 2: alpha 4, and 2 where r is 1; with rsLoRA 2·√2, and 2."""
    layers = [layer(f"model.layers.{i}.q", 4.0, 3.0, 0.0, scale=2.0) for i in (0, 1)]
    layers.append(layer("model.layers.2.q", 4.0, 0.0, 0.0, scale=2.0))

    assert Ranks(2, 4, {"^model.layers.2.q": 1}, {"^model.layers.2.q": 2}) == for_nearly_all(adapter(*layers))
    with_rslora = for_nearly_all(adapter(*layers, use_rslora=True))
    assert 2 * sqrt(2) == pytest.approx(with_rslora.lora_alpha)
    assert {"^model.layers.2.q": 2} == with_rslora.alpha_pattern


def test_experts_of_a_fused_parameter_share_one_rank():
    """The experts need 1 and 3: the parameter gets 3, by a pattern with its name."""
    experts = [
        layer("m.0.experts.0", 9.0, 0.0, 0.0, module="m.0.experts.down_proj"),
        layer("m.0.experts.1", 1.0, 1.0, 1.0, module="m.0.experts.down_proj"),
    ]

    spectrum = for_nearly_all(adapter(*experts, layer("m.0.q", 5.0, 0.0), layer("m.1.q", 5.0, 0.0)))

    assert Ranks(1, 1, {"^m.0.experts.down_proj": 3}, {"^m.0.experts.down_proj": 3}) == spectrum


STEEP = (9.0, 3.0, 0.3, *[0.01] * 5)
"""Energies 81, 9, 0.09 and little: 2 of 8 hold 99 %."""


@pytest.mark.parametrize(
    ("values", "more", "good", "proposed", "reason"),
    [
        (STEEP, {}, [2, 8], (2, True), "Recommended: r = 2"),
        (STEEP, {}, [1, 4, 8], (4, True), "its measured loss is near the best"),
        (STEEP, {}, [1, 8], (4, False), "No measured lower rank that keeps 99 % of the energy has a loss near"),
        (STEEP, {}, None, (2, False), "no loss of the truncated adapter was measured"),
        (STEEP, {"training_steps": 10}, [2, 8], (4, False), "After 10 steps, the spectrum is mostly noise"),
        ((1.0, 1.1, 0.9, 1.0), {}, [2, 4], (2, False), "The energy is spread over most of the rank, as in noise"),
        ((1.0,), {}, None, (1, False), "No rank is recommended"),
    ],
)
def test_a_rank_is_recommended_where_spectrum_and_losses_support_it(values, more, good, proposed, reason):
    *found, words = proposed_rank(adapter(layer("m.0.q", *values), **more), good)

    assert [*proposed] == found and reason in words


def test_ranks_that_hold_90_95_and_99_percent_and_half_of_the_trained_rank():
    """Energies 90.25, 6.25, 2.89, 0.25 and twelve of 0.03: 1 holds 90 %, 2 holds 95 %, 3 holds 99 %."""
    values = (9.5, 2.5, 1.7, 0.5, *[0.03**0.5] * 12)

    assert [1, 2, 3, 8, Truncation(energy=0.99)] == [
        each.r or each for each in truncations(adapter(layer("q", *values)))
    ]
