"""Measure it here, as Gradio calls it: what the button queues, and what the panel shows at each state."""

import json

import pytest

from rankviz.api import Api
from rankviz.core.runs.events import ProbeCompleted, RunStarted
from rankviz.ui.explore import sections
from rankviz.ui.parts.question import DEFAULTS
from tests.support.runs.finished_runs import text_of
from tests.support.runs.probes import SMOL, measured, request
from tests.support.runs.toy import ASSETS

HERE = {"device": "cpu", "device_name": "a CPU", "cpu_count": 2, "versions": {"torch": "2.13.0"}}


@pytest.fixture
def api(tmp_path):
    """Its queue nobody works, so that what is queued stays so."""
    api = Api(home=tmp_path, assets=ASSETS, shared=False)
    api.workspace.work_queue = lambda: None
    return api


def queued(api, *events, **settings):
    probe_request = request(**settings)
    api.workspace.store.create_probe(probe_request, "{}")
    for event in events:
        api.workspace.store.append(probe_request.probe_id, event)
    return probe_request.probe_id


def panel(api):
    return sections.probing(api, model=SMOL)


def widget_values(**more):
    return {**DEFAULTS, "model": SMOL, "own_batch": 2, "own_length": 64, "full": True, **more}


def test_the_button_queues_what_the_question_asks_as_far_as_this_machine_can(api):
    sections.begun(api, **widget_values(precision="nf4-dq", optim="adamw_8bit", checkpointing="unsloth"))

    (record,) = api.machine.probes()
    assert (SMOL, 32, 2, 64) == (
        record.request.model_id,
        record.request.lora.r,
        record.request.training.per_device_train_batch_size,
        record.request.training.max_length,
    )
    assert (4, 12, 30) == record.request.depths
    config = json.loads((api.workspace.store.run_dir(record.run_id) / "config.json").read_text())
    assert ("LlamaForCausalLM", 30) == (config["architectures"][0], config["num_hidden_layers"])
    if not api.workspace.here().cuda:
        assert ("fp32", "adamw_torch", "none") == (
            record.request.training.precision,
            record.request.training.optim,
            record.request.training.gradient_checkpointing,
        )


def test_a_finished_probe_shows_both_depths_the_line_the_whole_and_the_estimate(api):
    whole = measured(30, forward=606, steps=(3.5,))
    depths = (measured(4, forward=340, steps=(0.9,)), measured(12, forward=420, steps=(1.7,)), whole)
    queued(api, RunStarted(time=1.0, environment=HERE), *depths, ProbeCompleted(time=2.0), full=True)

    shown = panel(api)

    text = text_of(shown.panel)
    assert "4 blocks, measured 340 MiB" in text
    assert "Per block 10 MiB" in text
    assert "All 30 blocks, extrapolated 600 MiB 3.5 s" in text
    assert "All 30 blocks, measured 606 MiB" in text
    assert "Error of the extrapolation -1.0%" in text
    assert "All 30 blocks, estimated" in text
    assert "Measured on a CPU, " in text
    assert not shown.timer.active
