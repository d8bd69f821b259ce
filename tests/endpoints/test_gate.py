"""What is checked of an endpoint before its code runs, the types it returns, and which tool answers a question."""

import inspect
import json
import math
import re
from collections import Counter
from typing import Literal

import gradio as gr
import pytest

from rankviz.api import Api
from rankviz.endpoints import TOOLS, publish
from rankviz.endpoints.gate import MAX_ARGUMENT, MAX_LIST, finite, require
from rankviz.errors import InvalidSettingError
from rankviz.options import described
from rankviz.ui.wiring import with_defaults
from tests.support.web.endpoints import ENDPOINTS, functions_of

DEEP = json.loads("[" * 900 + "]" * 900)
HOSTILE = [
    *("x" * (MAX_ARGUMENT + 1), "\ud800", "\x00"),
    *(math.nan, math.inf, -math.inf, 1e300, 10**300),
    *([16] * (MAX_LIST + 1), ["x"] * 1_000_000, DEEP, {"path": "/etc/passwd"}),
    {"path": ["/etc/passwd"], "meta": {"_type": "gradio.FileData"}},
    {str(number): 1.0 for number in range(1000)},
]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with gr.Blocks() as page:
        publish(Api(home=tmp_path_factory.mktemp("home"), shared=True))
    return page


@pytest.fixture(scope="module")
def endpoints(page):
    return {fn.api_name: fn.fn for fn in page.fns.values()}


@pytest.mark.parametrize(
    ("kind", "accepted", "refused"),
    [
        (str, ["", "q_proj", "x" * MAX_ARGUMENT], [None, 1, ["x"]]),
        (int, [0, -1, 10**18], [None, "1", 1.0, True, 10**18 + 1]),
        (float, [0, 0.5], [None, "1", True, math.nan, math.inf]),
        (bool, [True, False], [0, "yes", None]),
        (int | None, [None, 3], ["3", 3.0]),
        (str | float, ["2r", 32, 0.5], [None, [1], True]),
        (list[int], [[], [1] * MAX_LIST], [None, 1, [1.5], [True], [[1]], [1] * (MAX_LIST + 1)]),
        (list[str], [["a"]], [["a", 1], ["\ud800"]]),
        (Literal["2r", "r"], ["r"], [None, 1, "x", ["r"]]),
        (Literal["2r", "r"] | None, [None, "2r"], [1, "x"]),
        (dict[str, float], [{"L4": 1}], [[1], {"L4": "1"}, {"L4": math.nan}, {"\ud800": 1.0}]),
    ],
)
def test_a_value_is_accepted_as_far_as_its_type_and_its_size_go(kind, accepted, refused):
    for value in accepted:
        require(value, kind, "it")
    for value in refused:
        with pytest.raises(InvalidSettingError, match=r"^it "):
            require(value, kind, "it")


def test_a_file_that_a_client_claims_to_have_uploaded_is_a_path_like_any_other(endpoints):
    forged = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}

    for name, argument in (("spectrum", "adapter"), ("resize", "adapter")):
        with pytest.raises(InvalidSettingError, match="it reads no files of its machine"):
            endpoints[name](**{argument: forged})
    with pytest.raises(InvalidSettingError, match="model must be a text"):
        endpoints["estimate"](model=forged)


def test_a_call_by_place_gets_the_defaults_of_what_it_leaves_out(page, endpoints):
    for function in page.fns.values():
        defaults = [each.default for each in inspect.signature(endpoints[function.api_name]).parameters.values()]
        assert defaults == with_defaults(function, [])
        assert not defaults or [5, *defaults[1:]] == with_defaults(function, [5])
        assert defaults == with_defaults(function, defaults)
        with pytest.raises(InvalidSettingError, match=rf"{function.api_name} has {len(defaults)} arguments \(got 50\)"):
            with_defaults(function, range(50))


@pytest.mark.parametrize("name", ENDPOINTS)
def test_every_argument_of_every_endpoint_refuses_what_is_hostile_with_a_sentence(endpoints, name):
    function = endpoints[name]
    for argument, parameter in inspect.signature(function).parameters.items():
        for value in HOSTILE:
            with pytest.raises(InvalidSettingError, match=argument) as refusal:
                function(**{argument: value})
            assert len(str(refusal.value)) < 400, parameter


def test_numbers_that_json_does_not_have_are_null():
    assert {"a": [None, 1.5, None]} == finite({"a": (math.nan, 1.5, math.inf)})


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    with gr.Blocks() as page:
        publish(Api(home=tmp_path_factory.mktemp("home")))
    return {
        name.strip("/"): each["returns"][0]["type"] for name, each in page.get_api_info()["named_endpoints"].items()
    }


def untyped(schema, path=""):
    """Where a schema says nothing of a value."""
    if isinstance(schema, list):
        return [found for each in schema for found in untyped(each, path)]
    if not schema or schema.get("additionalProperties") == {}:
        return [path]
    inner = {**schema.get("properties", {}), "[]": schema.get("items"), "{}": schema.get("additionalProperties")}
    found = [place for name, each in inner.items() if each is not None for place in untyped(each, f"{path}.{name}")]
    return found + untyped([*schema.get("oneOf", []), *schema.get("anyOf", [])], path)


@pytest.mark.parametrize("name", ENDPOINTS)
def test_each_field_of_a_result_has_a_type(published, name):
    assert [] == untyped(published[name], name)
    one = published[name].get("items", published[name])
    assert set(one["properties"]) == set(one["required"])


SWEEP = "20261125-015906-370c"
QWEN, EIGHT = "Qwen/Qwen3-4B", "meta-llama/Llama-3.1-8B"
QUESTIONS = (
    (
        "How much GPU memory and training time does QLoRA fine-tuning of Qwen3-4B need at rank 16 and 64?",
        *("estimate", {"model": QWEN, "ranks": [16, 64]}),
        lambda answer: [row["adapter_parameters"] for row in answer["ranks"]] == [33_030_144, 132_120_576],
    ),
    (
        "Does that batch size and length fit on a T4? If not, what is the smallest change that makes it fit?",
        *("fit", {"model": EIGHT, "r": 16, "gpu": "t4", "precision": "fp16"}),
        lambda answer: answer["sentence"] and "T4" == answer["gpu"] and answer["limits"] and answer["gpus"],
    ),
    (
        "Which rank, alpha and learning rate do you recommend for 20,000 examples of instruction data?",
        *("advise", {"model": QWEN, "use_case": "instruction", "examples": 20_000}),
        lambda answer: answer["r"] and answer["learning_rate"] and answer["reasons"] and "L4" == answer["gpu"],
    ),
    (
        "What quality do I lose with a low rank?",
        *("forecast", {"model": QWEN, "use_case": "complex"}),
        lambda answer: all(row["low_80"] <= row["median"] <= row["high_80"] for row in answer["ranks"]),
    ),
    (
        "Write the Axolotl configuration for this training.",
        *("export", {"model": QWEN, "format": "axolotl", "rslora": True, "optim": "adamw_torch"}),
        lambda answer: "peft_use_rslora: true\n" in answer["text"] and "trains 60 steps" in answer["notes"][-1],
    ),
    (
        "Search for the Qwen3 base models and their parameter counts.",
        *("models", {"words": "qwen3 4b"}),
        lambda answer: QWEN in [row["id"] for row in answer["models"]],
    ),
    (
        "Which GPUs are there, with how much memory, and what is the price per hour?",
        *("gpus", {}),
        lambda answer: {"l4", "t4"} <= {row["id"] for row in answer},
    ),
    (
        "Which published studies compared ranks, with what learning rates and caveats?",
        *("studies", {"model": QWEN}),
        lambda answer: answer[0]["source"] and answer[0]["points"],
    ),
    (
        "Which rank does this trained adapter really use?",
        *("spectrum", {"adapter": "sample"}),
        lambda answer: 3 == answer["rank_for_energy"]["0.99"],
    ),
    (
        "Shrink this adapter to a lower rank, as a file.",
        *("resize", {"adapter": "sample", "r": 4}),
        lambda answer: 4 == answer["r"] and answer["adapter_bytes"] < answer["adapter_bytes_before"],
    ),
    (
        "Is rank 16 of my sweep better than rank 4, or is that noise?",
        *("verdict", {"sweep_id": SWEEP}),
        lambda answer: answer["pairs"] and answer["in_words"],
    ),
    (
        "How far is the sweep, and how much time is left?",
        *("status", {"sweep_id": SWEEP}),
        lambda answer: answer["ended"],
    ),
)


@pytest.fixture(scope="module")
def functions(tmp_path_factory):
    return functions_of(Api(home=tmp_path_factory.mktemp("home")))


def words(text):
    return {re.sub("(ing|es|s)$", "", word) for word in re.findall("[a-z]{3,}", text.lower())}


@pytest.mark.parametrize(("question", "name", "arguments", "answers"), QUESTIONS, ids=[each[1] for each in QUESTIONS])
def test_each_question_is_answered_by_one_call_of_its_tool(functions, question, name, arguments, answers):
    tools = {tool: words(f"{tool} {described(function)[0]}") for tool, function in functions.items()}
    often = Counter(word for each in tools.values() for word in each)
    score = {tool: sum(math.log(len(tools) / often[w]) for w in has & words(question)) for tool, has in tools.items()}

    assert name == max(score, key=score.get), sorted(score.items(), key=lambda each: -each[1])[:3]
    assert answers(functions[name](**arguments))


def test_every_tool_says_what_it_needs_and_changes(functions):
    assert set(ENDPOINTS) == TOOLS.keys()
    for name, (needed, hints) in TOOLS.items():
        assert not needed or described(functions[name])[1][needed]
        assert hints["readOnlyHint"] != ("destructiveHint" in hints)
    for arguments, count, more in (({}, 20, 108), ({"limit": 5, "offset": 120}, 5, 3), ({"words": "no such"}, 0, 0)):
        answer = functions["models"](**arguments)
        assert (count, more) == (len(answer["models"]), answer["more"])
        assert bool(more) == (f"{more} more" in answer["in_words"])
