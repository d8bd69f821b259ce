"""What one estimate rests on, in words."""

from dataclasses import replace

import pytest

from rankviz.core.accuracy.report import AccuracyByKind, KindAccuracy, basis_of, in_words
from tests.core.cost.toy_cost import stack


def evidence(kind, settings, group, mean_abs_error):
    return KindAccuracy(kind=kind, half_width=0.1, groups=(group,), settings=settings, mean_abs_error=mean_abs_error)


EVIDENCE = AccuracyByKind(
    static=(),
    memory=(replace(evidence("hf", 3, "lab-a", 0.012), left_out_error=0.034, left_out_inside=2 / 3),),
    lower=(evidence("unsloth", 8, "wiki", 0.048),),
    time=(),
)


def test_a_sentence_says_what_an_estimate_rests_on():
    sentence = in_words(basis_of(EVIDENCE, stack("trl")))

    assert "The memory range rests on 3 measured setups from 1 source with the same kernels" in sentence
    assert "without the measurements of its own source, a setup was 3.4 % off on average, and 67 %" in sentence
    assert "1.2 %" not in sentence


@pytest.mark.parametrize("settings", ({"framework": "unsloth"}, {"framework": "trl", "attn_implementation": "eager"}))
def test_a_kind_of_setting_without_measurements_quotes_no_figure(settings):
    """Rows that are shown and not counted are in-sample and say nothing about coverage."""
    sentence = in_words(basis_of(EVIDENCE, stack(**settings)))

    assert "There is no measurement of this kind of setup" in sentence
    assert "the width of the range is an assumption" in sentence
    assert not any(character.isdigit() for character in sentence)
