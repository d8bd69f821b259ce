"""Truncations that are offered."""

from rankviz.core.spectrum import LayerSpectrum, Spectrum, Truncation, truncations

BY_MODULE = Truncation(energy=0.99)


def adapter(*values):
    layer = LayerSpectrum(name="q", module="q", r=len(values), scale=1.0, singular_values=values)
    return Spectrum(name="mine", r=len(values), layers=(layer,))


def test_ranks_that_hold_90_95_and_99_percent_and_half_of_the_trained_rank():
    """Energies 90.25, 6.25, 2.89, 0.25 and twelve of 0.03: 1 holds 90 %, 2 holds 95 %, 3 holds 99 %."""
    values = (9.5, 2.5, 1.7, 0.5, *[0.03**0.5] * 12)

    assert (Truncation(r=1), Truncation(r=2), Truncation(r=3), Truncation(r=8), BY_MODULE) == truncations(
        adapter(*values)
    )


def test_an_adapter_that_needs_its_whole_rank_has_half_of_it_alone():
    assert (Truncation(r=2),) == truncations(adapter(1.0, 1.0, 1.0, 1.0))


def test_nothing_is_offered_below_rank_1_or_without_an_update():
    assert () == truncations(adapter(1.0))
    assert () == truncations(adapter(0.0, 0.0))
