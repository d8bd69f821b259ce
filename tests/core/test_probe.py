"""Probes: lines through measured depths worked by hand, what is refused and records."""

import pytest

from rankviz.children import Children
from rankviz.core.probe import ProbeRecord, as_json, extrapolate
from rankviz.core.runs.events import ProbeCompleted, RunFailed, RunStarted, StageReached
from rankviz.core.runs.record import RunState
from rankviz.errors import InvalidSettingError
from tests.support.runs import questions
from tests.support.runs.probes import API, MIB, measured, request


def test_two_depths_make_a_line_that_goes_through_both():
    # 300 + 10 d MiB and 0.5 + 0.1 d seconds; at 30 blocks 600 MiB, 3.5 s
    extrapolation = extrapolate(
        [measured(4, forward=340, backward=200, steps=(0.9,)), measured(8, forward=380, backward=240, steps=(1.3,))], 30
    )

    assert 600 * MIB == pytest.approx(extrapolation.peak_bytes)
    assert (300 * MIB, 10 * MIB) == pytest.approx((extrapolation.once_bytes, extrapolation.per_block_bytes))
    assert 3.5 == pytest.approx(extrapolation.step_seconds)
    assert (0.5, 0.1) == pytest.approx((extrapolation.once_seconds, extrapolation.per_block_seconds))
    assert (100 + 20 * 30) * MIB == pytest.approx(extrapolation.load_peak_bytes)
    assert 30_000 == extrapolation.trainable_parameters
    assert 8_000 == extrapolation.total_parameters


def test_where_the_counter_is_exact_the_moment_that_rules_the_deep_model_may_not_rule_the_shallow_one():
    # forward 400 + 10 d, optimizer 100 + 30 d: they cross at 15 blocks
    shallow = [
        measured(4, kind="allocated", forward=440, optimizer=220),
        measured(8, kind="allocated", forward=480, optimizer=340),
    ]

    assert ("optimizer", 1000 * MIB) == (extrapolate(shallow, 30).moment, extrapolate(shallow, 30).peak_bytes)
    assert ("forward", 500 * MIB) == (extrapolate(shallow, 10).moment, extrapolate(shallow, 10).peak_bytes)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"precision": "nf4-dq"}, "precision must be fp32 or bf16"),
        ({"per_device_train_batch_size": 4096, "max_length": 2048}, "at most 4,194,304 tokens per step"),
        ({"time_limit_seconds": 0.0}, "Time limit in seconds must be a number from 1 to 86,400"),
        (
            {"cuda": True, "framework": "peft", "finetune_vision_layers": False},
            "finetune_vision_layers is a setting of Unsloth on a GPU",
        ),
        ({"model": "google/gemma-3-4b-it:whole"}, "without a GPU trains on text only: choose google/gemma-3-4b-it"),
    ],
)
def test_what_cannot_be_probed_is_said_with_what_to_change(settings, sentence):
    with pytest.raises(InvalidSettingError, match=sentence):
        request(**settings)


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
    assert -6 / 606 == pytest.approx(as_json(record, None)["error_of_extrapolation"]["peak"])


RUN = {
    "depth": 2,
    "loaded": 2**30,
    "static": 2**30 + 2**20,
    "moments": {"forward": 3 * 2**30, "optimizer": 2 * 2**30},
    "reserved": 4 * 2**30,
    "kernels": {"math": 8},
}


def test_beside_a_simulated_step_stand_the_estimate_of_such_batches_and_the_error_of_simulations(monkeypatch):
    monkeypatch.setattr(Children, "ask", lambda *_args, **_more: RUN)
    asked = questions.probe("meta-llama/Llama-3.1-8B", framework="trl", precision="nf4-dq", max_length=4096)

    plain = API.machine.simulate(asked, "T4")

    with pytest.raises(InvalidSettingError, match="Choose the framework trl or peft"):
        API.machine.simulate(questions.probe("meta-llama/Llama-3.1-8B"), "T4")
    nothing, error, moment = plain.sentences()
    assert nothing.startswith("Nothing was measured")
    assert "0.2 % off on average, 0.8 % at most" in error
    assert "forward. Attention kernel: math" in moment
    value = plain.as_json()
    assert (3 * 2**30, 4 * 2**30, "forward") == (value["allocated_bytes"], value["reserved_bytes"], value["moment"])
