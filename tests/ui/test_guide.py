"""The Guide tab: the rule of thumb with live numbers, how far off each number has been, and what estimates rest on."""

import pytest

from rankviz.api import Api
from rankviz.core.advice.use_case import RANK_RULES
from rankviz.ui import guide
from rankviz.ui.parts.question import DEFAULTS
from tests.support.runs.finished_runs import text_of

QWEN = DEFAULTS | {"model": "Qwen/Qwen3-8B"}


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    return Api(home=tmp_path_factory.mktemp("home"))


def test_each_rank_of_the_rule_has_this_models_numbers(api):
    """43,646,976 = 36 · 16 · Σ (in + out) over Unsloth's seven projections of Qwen3-8B."""
    projections = (4096 + 4096) + 2 * (4096 + 1024) + (4096 + 4096) + 3 * (4096 + 12288)
    table = guide.rules_html(api, **QWEN)

    for rule in RANK_RULES:
        assert f'title="{36 * rule.r * projections:,}"' in table
    assert 1 == table.count("rv-chosen")


def test_each_number_has_its_error_and_the_methods_are_folded_below(api):
    table, fold = guide.numbers_html(api, use_case="instruction").split("<details")

    unseen, forecast = api.accuracy.shipped().left_out, api.forecasts.of("Qwen/Qwen3-8B", "instruction")
    words = text_of(table)
    assert f"{100 * unseen.overall.mean_abs_error:.1f} % on average" in words
    assert f"{unseen.overall.rows} published peaks" in words
    assert f"{unseen.time.rows} timings" in words
    assert f"{100 * forecast.coverage_80_left_out:.0f} % of left-out scores inside the band" in words
    for number in ("Trainable parameters", "Adapter file", "Memory", "Time", "Cost", "Quality forecast"):
        assert number in words
        assert f"<dt>{number}" in fold
