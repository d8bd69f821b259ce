"""The API answers with types; only the command line and the endpoints turn them into JSON."""

import inspect
import json
import pkgutil
import re
from importlib import import_module

import pytest

import rankviz.api
from rankviz.api import Api
from rankviz.api.advice import advice_json
from rankviz.api.estimates import estimate_json
from rankviz.api.runs import run_json
from rankviz.core.advice.use_case import Goal
from rankviz.core.cost.question import Question
from rankviz.verdict import verdict_json

QUESTION = Question(model_id="Qwen/Qwen2.5-1.5B", ranks=(4, 8, 16), gpu="l4")
UNTYPED = re.compile(r"dict\[str, Any\]|list\[dict\b|\bdict$")


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    return Api(home=tmp_path_factory.mktemp("home"))


def operations():
    """Every public function and method of rankviz.api, with its name."""
    for info in pkgutil.walk_packages(rankviz.api.__path__, "rankviz.api."):
        module, module_name = import_module(info.name), info.name.removeprefix("rankviz.api.")
        for name, member in vars(module).items():
            if getattr(member, "__module__", "") != module.__name__:
                continue
            if inspect.isclass(member):
                methods = (m for m in vars(member).items() if inspect.isfunction(m[1]) and not m[0].startswith("_"))
                yield from ((f"{module_name}.{name}.{method}", function) for method, function in methods)
            elif inspect.isfunction(member) and not name.startswith("_"):
                yield f"{module_name}.{name}", member


def test_no_operation_returns_a_dict_of_anything():
    returned = {name: str(inspect.signature(f).return_annotation) for name, f in operations()}

    assert "estimates.Estimates.estimate" in returned and 40 < len(returned)
    untyped = {name for name, annotation in returned.items() if UNTYPED.search(annotation)}
    assert {"data.MeasuredData.as_json"} == untyped


def test_every_operation_has_a_return_type():
    missing = [n for n, f in operations() if inspect.signature(f).return_annotation is inspect.Signature.empty]

    assert [] == missing


def test_json_of_answers_is_plain(api):
    sweep = api.runs.recorded()[0]
    answers = (
        estimate_json(api.estimates.estimate(QUESTION)),
        advice_json(api.advice.advise(QUESTION, Goal())),
        verdict_json(api.verdicts.of_sweep(sweep.sweep_id)),
        run_json(api.runs.summary(sweep.runs[0].run_id)),
    )

    assert ["model_id", "model_id", "metric", "run_id"] == [next(iter(answer)) for answer in answers]
    assert all(json.loads(json.dumps(answer)) for answer in answers)
