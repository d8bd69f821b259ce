"""What Explore's script gets for a question: all ranks with their costs, the chart, the words."""

import re

import pytest

from rankviz.api import Api
from rankviz.errors import RankVizError
from rankviz.ui.explore.answer import answer
from rankviz.ui.parts.question import DEFAULTS, ask
from rankviz.units import GIB
from tests.support.quick import chosen_quick
from tests.support.runs.finished_runs import text_of

SCREENS = ("meta-llama/Llama-3.1-8B", "openai/gpt-oss-20b", "google/gemma-3-4b-it:whole", "openai-community/gpt2")
LLAMA = {**DEFAULTS, "model": "meta-llama/Llama-3.1-8B"}


@pytest.fixture
def api(tmp_path):
    return Api(home=tmp_path)


@pytest.mark.parametrize(
    ("model", "gpu"), [("Qwen/Qwen3-8B", "l4"), ("meta-llama/Llama-3.1-70B", "a100-80gb"), ("Qwen/Qwen3-14B", "t4")]
)
def test_the_margin_is_what_the_memory_leaves_of_the_card(api, model, gpu):
    shown = answer(api, {"values": {**LLAMA, "model": model, "gpu": gpu}})["records"]["16"]["figures"][2]
    low, high = (float(end) for end in re.findall(r"[\d.]+", shown[0]))
    usable = api.estimates.estimate(ask({**LLAMA, "gpu": gpu})).estimate.usable_bytes

    left = (usable.low / GIB - high, usable.high / GIB - low)

    words = shown[2].split(": ")[1]
    signs = [-1 if "short" in words.split(" to ")[0] or "short" == words.split()[-1] else 1]
    signs.append(1 if "spare" in words else -1)
    ends = [float(end) for end in re.findall(r"[\d.]+", words)]
    ends = ends if signs[0] == 1 or signs[1] == 1 else ends[::-1]
    assert left == pytest.approx([sign * end for sign, end in zip(signs, ends, strict=True)], abs=0.06)


def test_a_model_that_cannot_be_read_is_answered_with_the_recommendation_and_what_its_counts_need(api):
    shown = answer(api, {"values": {**LLAMA, "model": "roberta-base", "use_case": "simple"}})

    notice, advice = text_of(shown["without_costs"]), text_of(shown["slots"]["advice"])
    assert "roberta-base" in notice and "or a config.json" in notice
    assert "Recommended: r = 16" in advice and "Reasons" in advice
    assert "Model and task alone do not tell which rank you need" in shown["heading"]
    assert ("rank", list(range(1, 257))) == (shown["x"], shown["chart"]["xs"])
    assert ["–"] * 5 == [value for value, *_ in shown["records"]["16"]["figures"]]
    assert "points" in shown["records"]["16"]["quality"]
    high = answer(api, {"values": {**LLAMA, "model": "roberta-base", "r": 1024}})
    assert "no forecast" == high["records"]["1024"]["quality"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"values": []},
        {"values": {"model": 3}},
        {"values": {"r": "16"}},
        {"values": {"r": None}},
        {"values": {"r": 10**6}},
        {"values": {"modules": [1]}},
        {"values": {"dora": "yes"}},
        {"values": {"batch": {"a": 1}}},
        {"values": LLAMA, "x": "weight"},
        {"values": LLAMA, "y": "taste"},
        {"values": LLAMA, "x": ["file"]},
        {"values": {**LLAMA, "examples": 10**400}},
        {"values": {**LLAMA, "alpha_fixed": float("nan")}},
        {"values": {**LLAMA, "alpha_fixed": float("inf")}},
        {"values": {**LLAMA, "model": "x" * 3000}},
        {"values": {**LLAMA, "model": "\ud800"}},
        {"values": {**LLAMA, "usd_per_hour": "cheap"}},
        {"values": {**LLAMA, "use_case": "fun"}},
    ],
)
def test_what_no_widget_sends_is_refused_in_a_sentence(api, body):
    with pytest.raises(RankVizError, match=r"[.?]$"):
        answer(api, body)


@pytest.mark.parametrize("model", chosen_quick([row.id for row in Api().models.all()], SCREENS))
def test_every_model_of_the_catalogue_has_a_first_screen(api, model):
    shown = answer(api, {"search": f"?model={model}"})

    assert "not known" not in shown["records"]["16"]["figures"][0]
    assert shown["chart"]["data"] and "Recommended" in shown["slots"]["advice"]


def test_a_sweep_of_the_model_offers_its_own_metrics(api):
    assert ["score", "percent"] == [key for key, _ in answer(api, {"values": LLAMA})["qualities"]]

    embedded = {**DEFAULTS, "model": "embedded"}
    shown = answer(api, {"values": embedded, "y": "loss"})

    assert {"loss", "token_accuracy"} <= {key for key, _ in shown["qualities"]}
    assert any(trace["name"].startswith("recorded runs") for trace in shown["chart"]["data"])
