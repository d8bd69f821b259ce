"""What a program sends the endpoints: all arguments of each, made from its signature."""

import json
from functools import cache, partial
from inspect import signature
from types import NoneType
from typing import Literal, get_args, get_origin

import gradio as gr
import pytest

from rankviz.api import Api
from rankviz.core.lora.config import PRESETS
from rankviz.core.runs.events import HF_JOBS, LOCAL, RAY, SLURM
from rankviz.core.runs.request import SHORT_TRAINING, SweepRequest
from rankviz.endpoints import TOOLS, publish
from rankviz.options import GRPO, IMAGES
from rankviz.ui.explore.answer import answer
from rankviz.ui.parts.question import DEFAULTS
from rankviz.visitor import Visitor, acting_as
from tests.fuzz import mutate
from tests.fuzz.in_process import InProcess

SHIPPED, QUEUED, ENDED = "20261125-015906-370c", "queued", "ended"
"""Sweeps: one that RankViz ships, and for the time of a case two of the visitor's own."""
VALUES = {
    "adapter": ("sample",),
    "alpha": ("r", "2r", 16, "32"),
    "columns": ("", "instruction=q,output=a", "text=line"),
    "data": ("phonemes", "syllables", "pairs"),
    "energy": (0.5, 0.99),
    "engine": (LOCAL, HF_JOBS, RAY, SLURM),
    "epochs": (0.5, 1, 3.0),
    "expert_rank": ("r", "r/active", "r/all", "3"),
    "flavor": ("cpu-basic", "l4x1"),
    "gpu": ("l4", "t4", "h100-80gb-sxm"),
    "id": (QUEUED, ENDED, SHIPPED),
    "ids": ([f"{SHIPPED}-001-r1"], [QUEUED], [QUEUED, ENDED]),
    "image_size": ("", "640x480"),
    "independent": ([4], [1, 2]),
    "learning_rates": ([1e-4], [1e-3, 1e-4]),
    "max_length": range(64, 1025),
    "model": ("Qwen/Qwen3-4B", "Qwen/Qwen3-30B-A3B", "google/gemma-3-4b-it", "embedded"),
    "modules_to_save": ("", "lm_head", "lm_head,embed_tokens"),
    "prices": ({"l4": 0.5}, {"l4": 0.75, "t4": 0.2}),
    "ranks": ([4], [4, 16], [2, 8, 64]),
    "run_id": (f"{SHIPPED}-001-r1",),
    "runs": (SHIPPED,),
    "sweep_id": (SHIPPED, QUEUED, ENDED),
    "targets": (*PRESETS, "q_proj,v_proj"),
    "tolerance": ("2%", 0.02),
    "words": ("qwen3 4b", "apache", "no such"),
}
"""What an argument of this name may be, besides its default, and besides true, false and nothing where its type has
them; of numbers some small ones by their type."""
NUMBERS = {int: range(1, 100), float: (1e-4, 0.5, 2.0)}
OF_ONE = {
    ("start_sweep", "model"): ("embedded", "Qwen/Qwen3-4B"),
    ("start_sweep", "precision"): ("auto", "bf16", "fp32"),
    ("resume", "sweep_id"): (ENDED, ENDED, QUEUED, SHIPPED),
    ("delete", "id"): (ENDED, ENDED, QUEUED, SHIPPED),
    ("resize", "r"): range(1, 9),
}
"""Where an argument of that name is another at one endpoint."""
SHARE = 0.25
"""Of the cases of a reader: there are twenty endpoints."""
LEAST = 0.05
"""The share of cases that must give a result: in too few, most of an endpoint is never reached."""
ANN = Visitor("ann")


def endpoints_of(api):
    with gr.Blocks() as page:
        publish(api)
    return {fn.api_name: fn.fn for fn in page.fns.values()}


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    api = Api(home=tmp_path_factory.mktemp("home"), shared=True)
    api.workspace.work_queue = lambda: None  # what is queued here is not trained
    InProcess.of(api.workspace)
    api.adapters.spectrum("sample")
    answer(api, {"values": dict(DEFAULTS)})  # reads what RankViz ships, once and not in every process
    with acting_as(ANN):
        own_sweep(api, ENDED)
        remove_all(api)
    del api.workspace.supervisor  # each process makes its own, since it has a lock, which none inherits
    return api


@pytest.fixture(scope="module")
def endpoints(api):
    return endpoints_of(api)


def listed(endpoint, parameter):
    """Values that an argument may have."""
    options = get_args(parameter.annotation) or (parameter.annotation,)
    kinds = [kind for each in options for kind in (get_args(each) if get_origin(each) is Literal else (each,))]
    choices = [each for each in kinds if isinstance(each, str)]
    by_type = NUMBERS.get(next((kind for kind in kinds if kind in NUMBERS), None), choices)
    by_name = OF_ONE.get((endpoint, parameter.name), VALUES.get(parameter.name, by_type))
    values = [*by_name, *((True, False) if bool in kinds else ()), *((None,) if NoneType in kinds else ())]
    assert values, f"{parameter.name} of {endpoint} has no values here: add some to VALUES"
    return values


def valid(endpoint, parameters, rng):
    """Each argument. What must be given is; of the others most have their defaults, and in some calls most do not.
    Options of GRPO and images seldom come without it."""
    others, needed = rng.random() ** (1 + len(parameters) // 10), {"model", TOOLS[endpoint][0]}
    row = {
        name: rng.choice(listed(endpoint, each)) if name in needed or rng.random() < others else each.default
        for name, each in parameters.items()
    }
    unused = () if rng.random() < 0.1 else (*IMAGES, *(GRPO if row.get("method") != "grpo" else ()))
    return row | {name: parameters[name].default for name in unused if name in parameters}


def own_sweep(api, name):
    """The id of a sweep of the visitor's, started here."""
    request = SweepRequest(base="embedded", data="phonemes", ranks=(4,), training=SHORT_TRAINING)
    sweep_id = api.runs.start(request)
    if name == ENDED:
        api.runs.cancel(sweep_id)
    return sweep_id


def remove_all(api):
    """What the visitor has: else their places would be taken after a few cases."""
    for sweep_id in {each.request.sweep_id for each in api.workspace.store.records()}:
        api.runs.cancel(sweep_id)
        api.runs.delete(sweep_id)


def with_own_sweeps(api, row):
    """The arguments with ids of the visitor's sweeps in place of their names: each is started where it is asked for."""

    def in_place(value):
        if isinstance(value, list):
            return [in_place(each) for each in value]
        return started(value) if value in (QUEUED, ENDED) else value

    started = cache(partial(own_sweep, api))
    return {key: in_place(value) for key, value in row.items()}


ENDPOINTS = {name: signature(call).parameters for name, call in endpoints_of(None).items()}
"""The arguments of each, by name."""


@pytest.mark.parametrize("name", ENDPOINTS)
def test_any_arguments_of_an_endpoint_are_answered_or_refused(fuzz, api, endpoints, name):
    parameters = ENDPOINTS[name]

    def arguments(rng):
        row = valid(name, parameters, rng)
        row = mutate.value(row, rng) if rng.random() < 0.6 else row
        return {key: value for key, value in row.items() if key in parameters} if isinstance(row, dict) else {}

    def called(row):
        with acting_as(ANN):
            try:
                given = endpoints[name](**with_own_sweeps(api, row))
            finally:
                remove_all(api)
        json.dumps(given, allow_nan=False, default=str).encode()

    fuzz(arguments, called, least=LEAST, refuses=bool(parameters), share=SHARE)
