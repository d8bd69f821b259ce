"""What the guide says in numbers is what the core counts."""

import pytest
from rankviz.ui.guide.tab import HOW, numbers_html

from rankviz.api import Api
from rankviz.catalog.models import load_model
from rankviz.core.lora.config import UNSLOTH_SEVEN, LoraConfig
from rankviz.core.lora.resolve import resolve
from tests.support.runs.finished_runs import text_of
from tests.support.runs.toy import ASSETS


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    return Api(home=tmp_path_factory.mktemp("home"))


def test_the_number_of_an_older_notebook_is_attention_alone():
    model = load_model(ASSETS, "openai/gpt-oss-20b")
    today, attention = (
        resolve(model, LoraConfig(target_modules=targets), "unsloth", precision="nf4-dq").parameters(8)
        for targets in ("unsloth", UNSLOTH_SEVEN[:4])
    )

    assert f"has {today:,} trainable" in HOW
    assert f"printed {attention:,},\nwhich is attention alone" in HOW


def test_each_number_has_its_error_and_the_methods_are_folded_below(api):
    table, fold = numbers_html(api, use_case="instruction").split("<details")

    unseen, forecast = api.accuracy.shipped().left_out, api.forecasts.of("Qwen/Qwen3-8B", "instruction")
    words = text_of(table)
    assert f"{100 * unseen.overall.mean_abs_error:.1f} % on average" in words
    assert f"{unseen.overall.rows} published peaks" in words
    assert f"{unseen.time.rows} timings" in words
    assert f"{100 * forecast.coverage_80_left_out:.0f} % of left-out scores inside the band" in words
    assert "7 publications on instruction tuning" in words
    assert "fitted curve" not in fold
    for number in ("Trainable parameters", "Adapter file", "Memory", "Time", "Cost", "Quality forecast"):
        assert number in words
        assert f"<dt>{number}" in fold
