"""The rule of thumb, and the advice with its reason."""

import pytest

from rankviz.core.guidance import RANK_RULES, SETTINGS, advise


def test_the_rule_of_thumb_has_four_lines_and_recommends_16():
    assert ["8", "16", "32", "64+"] == [rule.label for rule in RANK_RULES]
    assert [16] == [rule.r for rule in RANK_RULES if rule.recommended]
    assert "Standard instruction tuning" == RANK_RULES[1].use


def test_every_line_shows_its_source():
    for line in (*RANK_RULES, *SETTINGS):
        assert line.source


def test_unsloths_fast_path_wants_no_dropout_and_no_bias():
    values = {setting.name: setting.value for setting in SETTINGS}

    assert ("0", '"none"', "r or 2r") == (values["Dropout"], values["Bias"], values["alpha"])


def said(*rows):
    return {
        "ranks": [
            {"r": r, "adapter_bytes": r * 10**6, "memory_bytes": {"device": 2**30 + r * 2**20}, "fit": fit}
            for r, fit in rows
        ]
    }


@pytest.mark.parametrize(
    ("r", "sentence"),
    [
        (4, "r = 4 is small and may underfit: r = 8 would add 4.0 MB to the file and 4 MiB of memory, and 8 is where "),
        (8, "r = 8 suits simple tasks and quick experiments: r = 16 would add 8.0 MB to the file and 8 MiB of memory"),
        (16, "Keep r = 16, the usual choice for instruction tuning: r = 32 would add 16.0 MB to the file and 16 MiB "),
        (32, "r = 32 suits complex tasks and new domains: r = 64 would add 32.0 MB to the file and 32 MiB of memory"),
        (64, "r = 64 is near full fine-tuning capacity with diminishing returns: r = 128 would add 64.0 MB to the "),
    ],
)
def test_the_advice_says_what_doubling_costs(r, sentence):
    assert advise(said((r, "fits"), (2 * r, "fits")), r).startswith(sentence)


def test_without_the_doubled_rank_the_file_alone_is_the_reason():
    assert advise(said((16, None)), 16).startswith(
        "Keep r = 16, the usual choice for instruction tuning: r = 32 would add about 16.0 MB"
    )


def test_what_does_not_fit_is_not_mended_by_rank():
    sentence = advise(said((16, "does_not_fit"), (32, "does_not_fit")), 16)

    assert sentence.startswith("r = 16 does not fit this GPU, and rank is not the lever: r = 32 would add 16.0 MB")
    assert sentence.endswith("so change batch, length, precision or targets first.")
