"""What Explore's script gets: all ranks with their costs, the chart, the recommendation, and pinned configurations."""

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from rankviz import visitor
from rankviz.api import Api
from rankviz.errors import InvalidSettingError, RankVizError
from rankviz.shared.identity import HEADER, Visitors, identify
from rankviz.ui.explore.answer import answer, compare, question_of, routes
from rankviz.ui.parts.question import DEFAULTS
from tests.support.runs.finished_runs import text_of

SCREENS = ("meta-llama/Llama-3.1-8B", "openai/gpt-oss-20b", "google/gemma-3-4b-it:whole", "openai-community/gpt2")
LLAMA = {**DEFAULTS, "model": "meta-llama/Llama-3.1-8B"}


def test_a_model_that_cannot_be_read_is_answered_with_the_recommendation_and_what_its_counts_need(api):
    shown = answer(api, {"values": {**LLAMA, "model": "roberta-base", "use_case": "simple"}})

    notice, advice = text_of(shown["without_costs"]), text_of(shown["slots"]["advice"])
    assert "roberta-base" in notice and "or a config.json" in notice
    assert "Recommended: r = 16" in advice and "Details" in shown["slots"]["why"]
    assert "Model and task alone do not tell which rank you need" in shown["caption"][0]
    assert ("rank", list(range(1, 257))) == (shown["x"], shown["chart"]["xs"])
    assert ["–"] * 5 == [value for value, *_ in shown["records"]["16"]["figures"]]
    assert "points" in shown["records"]["16"]["quality"]
    high = answer(api, {"values": {**LLAMA, "model": "roberta-base", "r": 1024}})
    assert "no forecast" == high["records"]["1024"]["quality"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"values": {"model": 3}},
        {"values": {"r": 10**6}},
        {"values": {"batch": {"a": 1}}},
        {"values": LLAMA, "x": "weight"},
        {"values": LLAMA, "x": ["file"]},
        {"values": {**LLAMA, "examples": 10**400}},
        {"values": {**LLAMA, "alpha_fixed": float("nan")}},
        {"values": {**LLAMA, "model": "x" * 3000}},
        {"values": {**LLAMA, "model": "\ud800"}},
        {"values": {**LLAMA, "use_case": "fun"}},
    ],
)
def test_what_no_widget_sends_is_refused_in_a_sentence(api, body):
    with pytest.raises(RankVizError, match=r"[.?]$"):
        answer(api, body)


@pytest.mark.parametrize("model", SCREENS)
def test_each_kind_of_model_has_a_first_screen_which_cautions_on_data_once(api, model):
    shown = answer(api, {"search": f"?model={model}&examples=9&example_tokens=900&longest=6000"})

    assert ["length-note"] == [name for name, text in shown["slots"].items() if "tokens are truncated" in text]
    assert "not known" not in shown["records"]["16"]["figures"][0]
    assert shown["chart"]["data"] and "Recommended" in shown["slots"]["advice"]


def test_for_what_cannot_run_no_time_and_money_are_compared_and_a_column_has_one_unit(api):
    shown = answer(api, {"search": "?model=deepseek-ai/DeepSeek-V3&gpu=l4"})

    assert "; neither fits L4." in shown["slots"]["message"] and "money" not in shown["slots"]["message"]
    figures = shown["records"]["16"]["figures"]
    assert {" GB"} == {shown["records"][r]["figures"][1][0][-3:] for r in ("1", "16", "256")}
    assert 1 == len({text.rpartition(" ")[2] for text in (figures[3][0], figures[3][2], figures[3][3])})


def test_the_verdict_is_of_the_targets_that_are_recommended_and_names_the_method(api):
    searches = "?model=Qwen/Qwen3-30B-A3B&gpu=l4&targets=attention", "?model=Qwen/Qwen3-14B&gpu=t4&use_case=rl"
    wide, rl = (text_of(answer(api, {"search": each})["slots"]["advice"]) for each in searches)

    assert "does not fit on L4 with these targets. What fits" in wide
    assert "tight on T4 in supervised training, without generation" in rl and "r = 16, the middle of 8 to 32" in rl


def test_a_sweep_of_the_model_offers_its_own_metrics(api):
    assert ["score", "percent"] == [key for key, _ in answer(api, {"values": LLAMA})["qualities"]]

    embedded = {**DEFAULTS, "model": "embedded"}
    shown = answer(api, {"values": embedded, "y": "loss"})

    assert {"loss", "token_accuracy"} <= {key for key, _ in shown["qualities"]}
    assert any(trace["name"].startswith("recorded runs") for trace in shown["chart"]["data"])


@pytest.mark.parametrize(("text", "gpu", "notes"), [("L4", "l4", 0), ("None", "none", 0), ("L5", DEFAULTS["gpu"], 1)])
def test_an_address_names_a_gpu_in_any_case(api, text, gpu, notes):
    values, sentences = question_of(api, {"gpu": text})

    assert (gpu, notes) == (values["gpu"], len(sentences))


def test_a_mistake_is_a_notice_with_its_text_escaped(api):
    answer = TestClient(Starlette(routes=routes(api))).post(
        "/rankviz/answer", json={"values": {**DEFAULTS, "model": "<img src=x>"}}
    )

    assert 200 == answer.status_code
    assert "&lt;img src=x&gt;" in answer.json()["without_costs"] and "<img" not in answer.json()["without_costs"]


def asks(*given):
    return {"asks": visitor.current().id}


def test_each_answer_is_made_for_the_visitor_who_asks(tmp_path, monkeypatch):
    for view in ("answer", "words", "given", "models", "compare"):
        monkeypatch.setattr(f"rankviz.ui.explore.answer.{view}", asks)
    visitors, addresses = Visitors("0" * 64), routes(Api(home=tmp_path, shared=True))
    app = Starlette(routes=addresses, middleware=[Middleware(identify, visitors=visitors)])

    visitor_ids = [
        TestClient(app).post(route.path, json={}, headers={HEADER: visitors.token(f"v{number}")}).json()["asks"]
        for number, route in enumerate(addresses)
    ]

    assert [f"v{number}" for number in range(len(addresses))] == visitor_ids


PINNED, QWEN = "?model=meta-llama/Llama-3.1-8B&r=16", "?model=Qwen/Qwen3-8B&r=64&dora=1&accum=2"


def test_only_rows_that_differ_are_marked(api):
    marked = compare(api, {"pins": [PINNED, QWEN]})["html"].split("<tr")
    differing = [text_of("<tr" + row).split("differs: ")[1] for row in marked if "rv-differs" in row]

    assert {"DoRA", "Rank", "Adapter", "Accumulation"} <= {row.split()[0] for row in differing}
    assert 0 == compare(api, {"pins": [PINNED, PINNED]})["html"].count("rv-differs")


def test_each_has_a_chart_with_its_rank_on_axes_of_its_own(api):
    first, second = compare(api, {"pins": [PINNED, QWEN]})["charts"]

    assert ["A: Llama-3.1-8B, r = 16", "B: Qwen3-8B, r = 64"] == [first["title"], second["title"]]
    every = next(trace for trace in first["data"] if trace["name"] == "every rank")
    assert [every["x"][15]] == [shape["x0"] for shape in first["layout"]["shapes"]]
    assert first["layout"]["height"] == second["layout"]["height"]


@pytest.mark.parametrize("pins", [None, [1], ["?r=8"] * 5])
def test_what_no_page_pins_is_refused(api, pins):
    with pytest.raises(InvalidSettingError):
        compare(api, {"pins": pins})


@pytest.mark.parametrize("bad", ["?model=nosuch", "?r=9999"])
def test_a_pin_that_cannot_be_shown_says_why_beside_the_others_and_can_be_unpinned(api, bad):
    shown = compare(api, {"pins": [PINNED, bad]})

    text = text_of(shown["html"])
    assert "41.94 M" in text and "Cannot be shown" in text
    assert 2 == shown["html"].count("data-unpin")


def test_a_pin_cannot_write_into_the_page(api):
    assert "<img" not in compare(api, {"pins": [PINNED + "&x=<img src=x>"]})["html"]
