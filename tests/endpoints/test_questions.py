"""Twelve questions that agents are asked: each is answered by one call, of the tool whose description has its words."""

import math
import re
from collections import Counter

import pytest

from rankviz.api import Api
from rankviz.endpoints import TOOLS
from rankviz.options import described
from tests.support.web.endpoints import ENDPOINTS, functions_of

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
def test_each_question_is_answered_by_one_call_of_the_tool_that_has_its_words(
    functions, question, name, arguments, answers
):
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
