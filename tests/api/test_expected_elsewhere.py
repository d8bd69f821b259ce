"""Time and memory of runs elsewhere: known from the GPU there and from its runs, not from this machine."""

from rankviz.jobs import Nodes
from rankviz.store.ownership import WantedEngine
from tests.api.test_engines import completed
from tests.support.runs import questions

A_CPU = {"device": "cpu", "device_name": "a large CPU", "cpu_count": 64, "cpu_bf16": True}


def test_a_gpu_that_the_engine_names_gives_time_and_memory(own):
    api, there = own
    there.seen = Nodes(gpus=["L4"], has_gpu=True)

    plan = api.engines.check(questions.sweep(), "elsewhere")

    assert ("NVIDIA L4", "") == (plan.expected.device_name, plan.not_known)
    assert plan.sentences[0].startswith("3 runs on NVIDIA L4: estimated time ")


def test_a_run_that_has_completed_there_says_what_the_next_will_find(own):
    api, there = own
    completed(api, "elsewhere", A_CPU)

    assert api.engines.check(questions.sweep(), "elsewhere").sentences[0].startswith("3 runs on a large CPU: estimated")

    there.seen = Nodes(gpus=["T4"], has_gpu=True)  # other nodes have come since
    assert "Tesla T4" == api.engines.check(questions.sweep(), "elsewhere").expected.device_name


def test_the_wait_for_what_runs_elsewhere_is_not_told_from_this_machine(own):
    api, _ = own
    create = api.workspace.store.create
    _, here = (create(questions.sweep(ranks=(4,)), "", WantedEngine("local")) for _ in range(2))
    _, there = (create(questions.sweep(ranks=(4,)), "", WantedEngine("elsewhere")) for _ in range(2))

    assert (1, 1) == (api.runs.waiting(here).ahead, api.runs.waiting(there).ahead)
    assert api.runs.waiting(here).seconds.expected > 0
    assert api.runs.waiting(there).seconds is None
