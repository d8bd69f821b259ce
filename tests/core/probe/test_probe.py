"""A probe as it is requested, queued and kept; the worker is a stand-in."""

import json
from dataclasses import replace

import pytest

from rankviz.api import Api
from rankviz.core.probe import ProbeQuestion, ProbeRecord, ProbeSummary, as_json, choose_depths, sentences
from rankviz.core.runs.events import DepthDidNotFit, DepthSkipped, ProbeCompleted, RunFailed, RunStarted, StageReached
from rankviz.core.runs.record import RunState
from rankviz.errors import InvalidSettingError, RunNotFoundError
from rankviz.store import RunStore
from tests.support.processes.workers import states, supervise, sweep, wait_for, worker
from tests.support.runs.probes import API, MIB, measured, request
from tests.support.runs.toy import ASSETS

PROBING = worker(
    """
from rankviz.core.runs.events import DepthMeasured, ProbeCompleted
probe_id = run_ids[0]
if begin(probe_id):
    for depth in store.probe(probe_id).request.depths:
        store.append(probe_id, DepthMeasured(
            time=1.0, depth=depth, baseline_bytes=0, load_peak_bytes=1, moments={"forward": 100 + 10 * depth},
            peak_kind="resident above baseline", timed_steps=(0.5 + 0.1 * depth,), first_step_seconds=1.0,
            tokens_per_step=256, trainable_parameters=depth, total_parameters=depth, took_seconds=1.0))
    store.append(probe_id, ProbeCompleted(time=2.0))
"""
)


def test_auto_is_settled_for_the_device():
    here, there = request().training, request(cuda=True).training

    assert ("fp32", "adamw_torch", "none") == (here.precision, here.optim, here.gradient_checkpointing)
    assert ("nf4-dq", "adamw_8bit", "unsloth") == (there.precision, there.optim, there.gradient_checkpointing)
    assert "hf" == request(cuda=True, framework="trl").training.gradient_checkpointing


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"precision": "nf4-dq"}, "no GPU here"),
        ({"optim": "adamw_8bit"}, "needs a GPU"),
        ({"gradient_checkpointing": "unsloth", "framework": "peft"}, "only in Unsloth"),
        ({"framework": "trl"}, "needs a GPU"),
        ({"gradient_checkpointing": "hf"}, "Choose auto or none"),
        ({"loss_path": "full"}, "the loss on the path fused"),
        ({"attn_implementation": "eager"}, "sdpa attention"),
        ({"r": 0}, "1 to 1,024"),
        ({"r": True}, "whole number"),
        ({"max_length": 4}, "8 to"),
        ({"per_device_train_batch_size": 4096, "max_length": 2048}, "at most 4,194,304 tokens per step"),
        ({"depths": (31,)}, "30 blocks"),
        ({"framework": "axolotl"}, "unsloth, trl, peft"),
        ({"time_limit_seconds": 0.0}, "Time limit in seconds must be a number from 1 to 86,400"),
        ({"memory_limit_bytes": 5}, "from 1,048,576 to"),
        ({"target_modules": ()}, "target module"),
        ({"moe_scheme": "linear-only"}, "MoE scheme of an Unsloth probe without a GPU must be one of default"),
        ({"finetune_mlp_modules": False}, "finetune_mlp_modules is a setting of Unsloth on a GPU"),
        (
            {"cuda": True, "framework": "peft", "finetune_vision_layers": False},
            "finetune_vision_layers is a setting of Unsloth on a GPU",
        ),
        ({"model": "google/gemma-3-4b-it:whole"}, "without a GPU trains on text only: choose google/gemma-3-4b-it"),
        (
            {"model": "google/gemma-3-4b-it:whole", "cuda": True, "framework": "trl"},
            "A probe trains on text only: choose google/gemma-3-4b-it",
        ),
    ],
)
def test_what_cannot_be_probed_is_said_with_what_to_change(settings, sentence):
    with pytest.raises(InvalidSettingError, match=sentence):
        request(**settings)


def test_a_probe_by_unsloth_on_a_gpu_takes_flags_and_whole_models():
    asked = request(cuda=True, model="google/gemma-3-4b-it:whole", finetune_mlp_modules=False)

    assert asked.lora.finetune_mlp_modules is False


def test_without_a_gpu_a_probe_has_no_vision_layers_to_turn_off():
    assert request(finetune_vision_layers=False, finetune_mlp_modules=True).lora.finetune_vision_layers is False


def test_depths_of_ones_own_must_keep_the_pattern_whole():
    model = API.models.get("google/gemma-3-1b-it")

    assert (8, 14, 26) == choose_depths(model, (14, 8), full=True)
    with pytest.raises(InvalidSettingError, match=r"26 blocks that repeat every 6.*must be one of 8, 14, 20"):
        choose_depths(model, (9,), full=False)


def test_a_shared_page_bounds_time_and_memory_whatever_is_asked():
    bounded = request(shared=True, time_limit_seconds=3600.0, memory_limit_bytes=2**40, timed_steps=50)

    assert (90.0, 4 * 2**30, 3) == (bounded.time_limit_seconds, bounded.memory_limit_bytes, bounded.timed_steps)
    assert 2**30 == request(shared=True, memory_limit_bytes=2**30).memory_limit_bytes


def test_a_record_is_the_fold_of_its_events_and_ends_once():
    record = ProbeRecord(request=request(full=True)).after_all(
        [
            StageReached(time=1.0, stage="4 blocks: importing"),
            RunStarted(time=2.0, environment={"device": "cpu"}),
            measured(4, forward=340),
            measured(12, forward=420),
            measured(30, forward=606),
            ProbeCompleted(time=9.0),
            RunFailed(time=10.0, error="too late"),
        ]
    )

    assert (RunState.COMPLETED, 1.0, 9.0, "") == (record.state, record.started_at, record.ended_at, record.error)
    assert 606 * MIB == record.full.peak_bytes
    # 300 + 10 d
    assert 600 * MIB == record.extrapolated.peak_bytes
    assert -6 / 606 == pytest.approx(
        as_json(ProbeSummary(record=record, estimate=None))["error_of_extrapolation"]["peak"]
    )


def test_what_did_not_fit_and_what_was_not_tried_is_said_in_sentences():
    record = ProbeRecord(request=request(full=True)).after_all(
        [
            DepthDidNotFit(
                time=1.0, depth=12, limit_bytes=2**30, short_bytes=64 * MIB, stage="training", why="memory limit"
            ),
            DepthSkipped(time=2.0, depth=30, reason="No time was left."),
            ProbeCompleted(time=3.0),
        ]
    )

    assert [
        "A model of 12 blocks does not fit the memory limit of 1.00 GiB, by at least 64 MiB (stage: training).",
        "No time was left.",
    ] == sentences(record)
    assert RunState.COMPLETED is record.state


def test_a_probe_waits_its_turn_behind_runs_and_lands_in_the_same_store(store):
    run_ids = sweep(store, 4)
    queued = replace(request(), created_at=store.get(run_ids[0]).request.created_at + 1)
    store.create_probe(queued, json.dumps({"num_hidden_layers": 30}))

    supervisor = supervise(store, worker("begin(run_ids[0]) and complete(run_ids[0])"), probe_command=PROBING)
    supervisor.settle()
    supervisor.stop()

    assert ["completed"] == states(store, run_ids)
    again = RunStore(store.home)
    record = again.probe("probe-1")
    assert (RunState.COMPLETED, (4, 12)) == (record.state, tuple(each.depth for each in record.measured))
    assert 400 == record.extrapolated.peak_bytes
    assert ["probe-1"] == [each.run_id for each in again.probes()]
    assert run_ids == [each.run_id for each in again.all()]
    with pytest.raises(RunNotFoundError):
        again.get("probe-1")
    with pytest.raises(RunNotFoundError):
        again.probe(run_ids[0])


def test_a_probe_is_cancelled_as_a_run_is(store):
    store.create_probe(request(), "{}")
    supervisor = supervise(store, (), probe_command=worker("begin(run_ids[0]); time.sleep(600)"))
    wait_for(lambda: store.probe("probe-1").state is RunState.RUNNING)

    supervisor.cancel("probe-1")
    supervisor.stop()

    assert RunState.CANCELLED is store.probe("probe-1").state


def test_a_model_that_is_not_there_or_targets_that_are_not_in_it_are_refused_before_anything_is_queued(tmp_path):
    api = Api(home=tmp_path / "home", assets=ASSETS)

    with pytest.raises(InvalidSettingError, match="c_attn"):
        api.probes.start(ProbeQuestion(model_id="gpt2"))
    assert not (tmp_path / "home").exists()
