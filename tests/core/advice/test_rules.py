"""The rule of thumb, and what other settings mean."""

from rankviz.core.advice.rules import RANK_RULES, SETTINGS


def test_the_rule_of_thumb_has_four_lines():
    assert ["8", "16", "32", "64+"] == [rule.label for rule in RANK_RULES]
    assert "Standard instruction tuning" == RANK_RULES[1].use


def test_every_line_shows_its_source():
    for line in (*RANK_RULES, *SETTINGS):
        assert line.source


def test_unsloths_fast_path_wants_no_dropout_and_no_bias():
    values = {setting.name: setting.value for setting in SETTINGS}

    assert ("0", '"none"', "r or 2r") == (values["Dropout"], values["Bias"], values["alpha"])


def test_the_rule_of_thumb_holds_no_count_of_its_own():
    for rule in RANK_RULES:
        assert not any(digits in rule.reason for digits in ("22", "17", "0.5 %"))
