"""Time and memory of runs elsewhere: known from the GPU there and from its runs, not from this machine."""

import time

import pytest

from rankviz import machine
from rankviz.api import Api
from rankviz.core.cost.pace import LIBRARIES
from rankviz.core.runs.events import StageReached
from rankviz.jobs import Nodes
from rankviz.store.ownership import WantedEngine
from rankviz.store.runs import IMPORTED
from tests.api.test_engines import completed
from tests.support.runs import questions

A_CPU = {"device": "cpu", "device_name": "a large CPU", "cpu_count": 64, "cpu_bf16": True}


def test_what_is_not_known_of_the_machines_there_is_said_and_not_estimated_from_this_one(own):
    api, _ = own

    plan = api.engines.check(questions.sweep(), "elsewhere")

    assert plan.expected is None
    assert ["On Other machines: time and memory are not known until a run has completed there."] == list(plan.sentences)


def test_a_gpu_that_the_engine_names_gives_time_and_memory(own):
    api, there = own
    there.seen = Nodes(gpus=["L4"], has_gpu=True)

    plan = api.engines.check(questions.sweep(), "elsewhere")

    assert ("NVIDIA L4", "") == (plan.expected.device_name, plan.not_known)
    assert plan.sentences[0].startswith("3 runs on NVIDIA L4: estimated time ")


@pytest.mark.parametrize(
    ("gpus", "name"), [(["A100"], "A100"), (["A100", "L4"], "A100 or L4"), (["GB300"], "GB300"), ([], "a GPU")]
)
def test_a_gpu_of_which_there_are_several_or_that_no_row_has_gives_memory_alone(own, gpus, name):
    api, there = own
    there.seen = Nodes(gpus=gpus, has_gpu=True)

    plan = api.engines.check(questions.sweep(), "elsewhere")

    assert f"3 runs on {name}: time not known." == plan.expected.sentences[0]
    assert "It is known once a run has completed there on a GPU that RankViz lists." == plan.sentences[-1]
    assert plan.expected.ranks[4].memory_bytes.low > 0


def test_a_run_that_has_completed_there_says_what_the_next_will_find(own):
    api, there = own
    completed(api, "elsewhere", A_CPU)

    assert api.engines.check(questions.sweep(), "elsewhere").sentences[0].startswith("3 runs on a large CPU: estimated")

    there.seen = Nodes(gpus=["T4"], has_gpu=True)  # other nodes have come since
    assert "Tesla T4" == api.engines.check(questions.sweep(), "elsewhere").expected.device_name


def test_a_run_that_was_not_sent_there_says_nothing(own):
    api, _ = own
    completed(api, "elsewhere", A_CPU, destination=WantedEngine("local"))

    assert api.engines.check(questions.sweep(), "elsewhere").expected is None


@pytest.mark.parametrize(("engine", "counts"), [("elsewhere", True), ("hf-jobs", False), ("local", False)])
def test_a_shared_page_learns_from_what_its_owners_clusters_have_completed(tmp_path, engine, counts):
    api = Api(home=tmp_path, shared=True)
    completed(api, engine, A_CPU | {"versions": machine.versions(LIBRARIES)})

    (record,) = api.workspace.store.records()
    found = api.measured.completed_runs(A_CPU)

    assert counts == (record in found)


def test_a_shared_page_learns_nothing_from_an_import(tmp_path):
    api = Api(home=tmp_path, shared=True)
    completed(api, "elsewhere", A_CPU | {"versions": machine.versions(LIBRARIES)})
    (record,) = api.workspace.store.records()
    (api.workspace.store.run_dir(record.run_id) / IMPORTED).touch()

    assert () == tuple(api.measured.completed_runs(A_CPU))


def test_why_nothing_would_start_there_now_is_a_note_and_the_runs_are_queued(own):
    api, there = own
    there.seen = Nodes(trouble="The other room is closed.")

    notes = api.engines.check(questions.sweep(), "elsewhere").notes

    assert ["The other room is closed. The runs wait until that has changed."] == notes


def test_what_here_takes_is_as_before(own):
    api, _ = own

    plan = api.engines.check(questions.sweep())

    assert plan.expected.sentences == api.runs.expected(questions.sweep()).sentences


def test_the_wait_for_what_runs_elsewhere_is_not_told_from_this_machine(own):
    api, _ = own
    create = api.workspace.store.create
    _, here = (create(questions.sweep(ranks=(4,)), "", WantedEngine("local")) for _ in range(2))
    _, there = (create(questions.sweep(ranks=(4,)), "", WantedEngine("elsewhere")) for _ in range(2))

    assert (1, 1) == (api.runs.waiting(here).ahead, api.runs.waiting(there).ahead)
    assert api.runs.waiting(here).seconds.expected > 0
    assert api.runs.waiting(there).seconds is None


def test_how_far_a_sweep_elsewhere_is_does_not_follow_from_runs_of_this_machine(own):
    api, _ = own
    here = {**machine.here(), "versions": machine.versions(LIBRARIES)}
    completed(api, "local", here, stages=("importing Unsloth", "training"))
    begun = [
        api.workspace.store.create(questions.sweep(ranks=(8,), shown_answers=0), "", WantedEngine(engine))
        for engine in ("local", "elsewhere")
    ]
    for sweep_id in begun:
        (run_id,) = api.workspace.store.run_ids(sweep_id)
        api.workspace.store.append(run_id, StageReached(time=time.time(), stage="importing Unsloth"))

    on_this_machine, there = (api.runs.progress(api.runs.sweep(sweep_id)) for sweep_id in begun)

    assert on_this_machine.stage_seconds_left > 0
    assert there.stage_seconds_left is None
