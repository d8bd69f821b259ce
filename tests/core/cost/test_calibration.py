"""Estimates that probes on this machine move, worked by hand."""

from dataclasses import replace

import pytest

from rankviz import machine
from rankviz.api import Api
from rankviz.catalog.models import load_model
from rankviz.core.cost.device import Device
from rankviz.core.cost.estimate import estimate
from rankviz.core.cost.memory import MemoryEstimate
from rankviz.core.cost.pace import (
    LIBRARIES,
    Calibration,
    Difference,
    MemoryCalibration,
    Timing,
    Workload,
    calibrated_estimate,
    calibrated_memory,
    paces,
)
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.probe import ProbeEstimate, ProbeRecord, applies, calibrate, estimate_probe, timing_of
from rankviz.core.quantity import Range
from rankviz.core.runs.estimate import estimate_run, paced, workload_of
from rankviz.core.runs.events import ProbeCompleted, RunStarted
from rankviz.ui.train.before import before_start as before_button
from tests.support.runs import questions
from tests.support.runs.probes import MIB, measured, request
from tests.support.runs.toy import ASSETS, ASSUMPTIONS, TOY, gpu
from tests.support.web.train_form import FORM

HERE = {"device": "cpu", "device_name": "a CPU", "cpu_count": 2, "versions": {"torch": "2.13.0"}}
CPU = Device(cpu_count=2)


def record(*depths, environment=HERE, **settings):
    settings = {"per_device_train_batch_size": 2, **settings}
    events = [RunStarted(time=1.0, environment=environment), *depths, ProbeCompleted(time=2.0)]
    return ProbeRecord(request=request(**settings)).after_all(events)


def estimated(static_mib=100, working_mib=200, seconds=2.0):
    whole = static_mib * MIB + working_mib * MIB
    return ProbeEstimate(
        static_bytes=static_mib * MIB,
        working_bytes=working_mib * MIB,
        memory_bytes=Range(whole, whole, whole),
        step_seconds=Range(seconds / 4, seconds, 4 * seconds),
    )


def calibration(*factors_of_400_mib, steps=(3.0,)):
    """From probes whose whole model took 100 + 200 · factor MiB."""
    probes = [
        (record(measured(30, forward=100 + 200 * factor, steps=steps), full=True), estimated())
        for factor in factors_of_400_mib
    ]
    return calibrate(probes, ASSUMPTIONS)


def test_what_was_measured_beyond_weights_and_states_scales_what_the_formulas_approximate():
    calibrated = calibration(1.5)

    assert (1.5, 600 * MIB) == (calibrated.working_factor, calibrated.process_bytes)
    # 600 for the process, 50 known, 1.5 · 400
    assert 1250 * MIB == calibrated.memory(50 * MIB, 400 * MIB).expected


def test_the_band_is_as_wide_as_probes_were_off_or_as_they_disagree():
    width = ASSUMPTIONS.value("probe-memory-width")

    held = calibration(1.5).memory(0, 400 * MIB)
    assert (600 * MIB * (1 - width), 600 * MIB * (1 + width)) == pytest.approx(
        (held.low - 600 * MIB, held.high - 600 * MIB)
    )
    # the middle of 1.0 and 2.0 is 1.5, and both are 0.5 from it
    assert 1 / 3 == pytest.approx(calibration(1.0, 2.0).memory_width)


def test_a_step_timed_on_a_busy_machine_moves_no_time():
    busy = replace(measured(30, forward=400, steps=(30.0,)), busy_elsewhere=0.4)

    assert timing_of(record(busy, full=True), TOY, estimated()) is None
    assert (
        1.5 == timing_of(record(replace(busy, busy_elsewhere=0.0), full=True), TOY, estimated()).ratios["training"] / 10
    )
    assert 1.5 == calibrate([(record(busy, full=True), estimated())], ASSUMPTIONS).working_factor


def test_less_than_weights_and_states_alone_calibrates_nothing():
    assert calibrate([(record(measured(30, forward=90), full=True), estimated())], ASSUMPTIONS) is None
    assert calibrate([], ASSUMPTIONS) is None


def run(**more):
    return questions.run(**{"base": "embedded", "data": "phonemes", "r": 64, "lora_alpha": 64, **more})


def of_run(model_id="HuggingFaceTB/SmolLM2-135M", device=CPU, **more):
    """What a run is: its model, adapter and settled set-up."""
    return model_id, run(**more).lora, run(**more).training.without_auto(device)


def test_a_probe_speaks_of_the_same_model_setting_device_and_versions_at_any_rank_and_a_like_length():
    probe = record(measured(30, forward=400), full=True)

    assert applies(probe, *of_run(), 512, HERE, ASSUMPTIONS)
    reach = ASSUMPTIONS.value("probe-tokens-reach")
    assert applies(probe, *of_run(), 512 * reach, HERE, ASSUMPTIONS)
    for other in (
        (probe, *of_run("HuggingFaceTB/SmolLM2-360M"), 512, HERE),
        (probe, *of_run(precision="bf16"), 512, HERE),
        (probe, *of_run(use_dora=True), 512, HERE),
        (probe, *of_run(device=Device(cpu_count=2, cuda=True)), 512, HERE),
        (probe, *of_run(), 513 * reach, HERE),
        (probe, *of_run(), 512, {**HERE, "cpu_count": 4}),
        (probe, *of_run(), 512, {**HERE, "versions": {"torch": "2.14.0"}}),
        (record(measured(4, forward=40)), *of_run(), 512, HERE),
        (ProbeRecord(request=probe.request), *of_run(), 512, HERE),
    ):
        assert not applies(*other, ASSUMPTIONS)


def test_a_runs_estimate_at_the_probes_own_setting_is_what_the_probe_measured():
    smol = load_model(ASSETS, "HuggingFaceTB/SmolLM2-135M")
    rows = Range(256, 256, 256)
    probe = record(measured(30, forward=1500, steps=(3.0,)), full=True, r=16)
    by_formulas = estimate_probe(smol, probe.request, CPU, ASSUMPTIONS)
    calibrated = calibrate([(probe, by_formulas)], ASSUMPTIONS)
    run_request = run(r=16, lora_alpha=16, per_device_train_batch_size=2, max_steps=10)
    pace = paces([timing_of(probe, smol, by_formulas)], workload_of(smol, run_request, CPU, rows), ASSUMPTIONS)

    plain = estimate_run(smol, run_request, CPU, ASSUMPTIONS, rows)
    moved = paced(estimate_run(smol, run_request, CPU, ASSUMPTIONS, rows, calibrated), pace)

    assert 2100 * MIB == pytest.approx(moved.memory_bytes.expected, rel=1e-6)
    assert 30.0 == pytest.approx(moved.seconds.expected)
    assert moved.seconds.high / moved.seconds.low < plain.seconds.high / plain.seconds.low
    assert (("probe-1",), ()) == (moved.calibrated_by, plain.calibrated_by)
    assert (("probe-1",), ()) == (moved.timed_by, plain.timed_by)
    assert Difference.TOKENS == pace.training.differs


def test_a_probe_in_the_runs_folder_moves_what_a_sweep_here_is_expected_to_take(tmp_path):
    api = Api(home=tmp_path, assets=ASSETS)
    sweep = questions.sweep(base="embedded", data="phonemes", ranks=(16,), max_steps=10)
    before = api.runs.expected(sweep)
    probe = request(full=True, per_device_train_batch_size=8, max_length=32)
    api.workspace.store.create_probe(probe, "{}")
    here = {**machine.here(), "versions": machine.versions(LIBRARIES)}
    for event in (
        RunStarted(time=1.0, environment=here),
        measured(30, forward=1500, steps=(3.0,)),
        ProbeCompleted(time=2.0),
    ):
        api.workspace.store.append(probe.probe_id, event)

    after = api.runs.expected(sweep)

    assert () == before.ranks[16].calibrated_by
    assert ("probe-1",) == after.ranks[16].calibrated_by
    assert after.ranks[16].memory_bytes != before.ranks[16].memory_bytes
    assert ("probe-1",) == after.ranks[16].timed_by
    assert "Memory is calibrated by pr" in before_button(api, **FORM).breakdown


def test_runs_that_finished_on_this_gpu_move_time_and_cost_and_leave_memory():
    asked = questions.question(ranks=(8,), gpu="toy-16", training=TrainingSetup(precision="bf16", max_steps=100))
    plain = estimate(TOY, asked, gpu(), ASSUMPTIONS)
    here = Workload(base="toy", parameters=10**6, kernels=(), tokens=1)
    ran = [
        Timing(source_id=f"r{i}", kind="run", ended_at=i, workload=here, ratios={"training": 2.0, "load": 0.5})
        for i in range(3)
    ]
    before = plain.ranks[0].duration
    measured = Calibration(memory=None, paces=paces(ran, here, ASSUMPTIONS))

    moved = calibrated_estimate(plain, measured, ASSUMPTIONS)

    after = moved.ranks[0].duration
    assert (2 * before.step.expected, before.load.expected / 2) == pytest.approx(
        (after.step.expected, after.load.expected)
    )
    assert after.load.expected + 100 * after.step.expected == pytest.approx(after.total.expected)
    assert after.total.expected * moved.price.usd_per_hour / 3600 == pytest.approx(moved.ranks[0].cost.usd.expected)
    assert plain.ranks[0].memory == moved.ranks[0].memory
    assert ("Time is estimated from 3 finished runs here.", *plain.notes) == moved.notes


def test_on_a_gpu_the_components_still_add_up_and_the_totals_follow():
    memory = MemoryEstimate(
        base_weights=1000,
        adapter=100,
        gradients=100,
        optimizer=200,
        activations=400,
        logits=200,
        other=0,
        allocated_band=Range(1500, 2000, 2500),
        reserved_band=Range(1500, 2200, 3000),
        device_band=Range(1600, 2400, 3400),
    )
    calibrated = MemoryCalibration(
        probe_ids=("p",),
        process_bytes=0,
        working_factor=0.5,
        memory_width=0.1,
        reserved_share=1.25,
    )

    moved = calibrated_memory(memory, calibrated, Range(10, 20, 30))

    # 1,400 known and half of 600
    assert 1700 == moved.allocated == moved.allocated_band.expected
    assert (200, 100) == (moved.activations, moved.logits)
    assert 2125 == moved.reserved
    assert 2145 == moved.device
    assert 1530 * 1.25 + 10 == pytest.approx(moved.device_band.low)


def test_a_calibrated_estimate_compares_memory_with_the_card():
    small = gpu(usable_bytes=2**29)
    asked = questions.question(ranks=(8,), gpu="toy-16", training=TrainingSetup(precision="bf16", max_steps=100))
    plain = estimate(TOY, asked, small, ASSUMPTIONS)
    measured = MemoryCalibration(
        probe_ids=("probe-1",), process_bytes=0, working_factor=100.0, memory_width=0.1, reserved_share=None
    )

    moved = calibrated_estimate(plain, Calibration(memory=measured, paces=paces((), None, ASSUMPTIONS)), ASSUMPTIONS)

    (rank,) = moved.ranks
    assert plain.ranks[0].spare.expected > rank.spare.expected
    assert round(rank.spare.expected) == round(2**29 - rank.memory.device_band.expected) == rank.margin_bytes
