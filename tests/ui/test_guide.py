"""The Guide tab: the rule of thumb with live numbers, how far off each number has been, and what estimates rest on."""

import pytest

from rankviz.api import Api
from rankviz.core.advice.use_case import RANK_RULES
from rankviz.ui import guide
from rankviz.ui.parts.question import DEFAULTS

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
