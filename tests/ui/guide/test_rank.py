"""The rule of thumb with live numbers, and the evidence for each of its ranks."""

import pytest

from rankviz.api import Api
from rankviz.core.advice.use_case import RANK_RULES
from rankviz.ui.guide.tab import evidence_html, rules_html
from rankviz.ui.parts.question import DEFAULTS
from tests.support.runs.finished_runs import text_of

QWEN = DEFAULTS | {"model": "Qwen/Qwen3-8B"}


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    return Api(home=tmp_path_factory.mktemp("home"))


def test_each_rank_of_the_rule_has_this_models_numbers(api):
    """43,646,976 = 36 · 16 · Σ (in + out) over Unsloth's seven projections of Qwen3-8B."""
    projections = (4096 + 4096) + 2 * (4096 + 1024) + (4096 + 4096) + 3 * (4096 + 12288)
    table = rules_html(api, **QWEN)

    for rule in RANK_RULES:
        assert f'title="{36 * rule.r * projections:,}"' in table
    assert 1 == table.count("rv-chosen")


def test_each_line_of_the_rule_says_what_published_scores_say(api):
    shown = text_of(rules_html(api, **QWEN))

    assert "Recommended: r = 32 with alpha = r." in shown
    assert "8 here r = 16" in shown and "16 here r = 32, default" in shown and "32 here r = 64" in shown
    assert 2 == shown.count("Too low on average") and 1 == shown.count("No clear gain from a higher rank")
    assert 1 == shown.count("Not measured: on instruction tuning, 2 publications ran both r = 16 and r = 32.")


def test_the_regret_of_the_recommendation_stands_above_that_of_fixed_ranks_and_of_the_capacity_rule(api):
    shown = text_of(evidence_html(api))
    ours = api.advice.record().regret("advice")

    assert f"Recommended here {ours.mean_rank:.0f} {ours.score.mean:.2f} {ours.score.low:.2f} to" in shown
    for choice in ("Always r = 4", "Always r = 128", "Capacity rule"):
        assert choice in shown
