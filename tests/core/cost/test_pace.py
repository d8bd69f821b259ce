"""Time and money, worked out by hand on the toy, and what finished runs and probes say of the next run."""

import math
from dataclasses import replace

import pytest

from rankviz.catalog.models import load_model
from rankviz.core.cost.duration import DurationTerms, duration_terms, price_of, usd_of, work_of
from rankviz.core.cost.estimate import estimate
from rankviz.core.cost.memory import MemoryEstimate
from rankviz.core.cost.pace import (
    Calibration,
    MemoryCalibration,
    Timing,
    Workload,
    calibrated_estimate,
    calibrated_memory,
    pace_of,
)
from rankviz.core.cost.setup import Device, Price, TrainingSetup, card
from rankviz.core.cost.stack import Habits
from rankviz.core.probe import ProbeRecord, applies, calibrate, estimate_probe, timing_of
from rankviz.core.quantity import Range
from rankviz.core.runs.estimate import estimate_run, paced, workload_of
from rankviz.core.runs.events import ProbeCompleted, RunStarted
from tests.core.cost.toy_cost import shape_of, stack
from tests.support.runs import questions
from tests.support.runs.probes import MIB, measured, request
from tests.support.runs.toy import ASSETS, ASSUMPTIONS, TOY, gpu


def terms(load=None):
    setup = TrainingSetup(gradient_accumulation_steps=2, max_steps=3 if load else None)
    work, of_rank, floor, loading = (0.9, 2.7, 4.5), (0.05, 0.15, 0.25), (2, 4, 6), (1, 2, 3)
    return DurationTerms(*(Range(*each) for each in (work, of_rank, floor, loading)), setup)


def test_a_micro_step_adds_floor_and_compute_at_right_angles_and_loading_counts_with_a_length():
    duration, whole = terms().at(2), terms(load=True).at(2)

    assert pytest.approx(2 * 5) == duration.step.expected  # 3 s of compute, a floor of 4 s, two micro-steps
    assert pytest.approx((2 * 5**0.5, 2 * (25 + 36) ** 0.5)) == (duration.step.low, duration.step.high)
    assert duration.total == duration.step
    assert pytest.approx(3 * 10 + 2) == whole.total.expected


def test_cost_is_hours_times_price_ones_own_first_and_no_price_is_not_zero():
    price = Price(usd_per_hour=7.2, provider="", source="", checked="")

    assert pytest.approx(32 * 0.002) == usd_of(terms(load=True).at(2), price).expected
    assert usd_of(terms().at(2), price_of(gpu(prices=()), None)) is None
    assert (0.5, 3.6) == (price_of(gpu(), 0.5).usd_per_hour, price_of(gpu(), None).usd_per_hour)


def test_products_and_bytes_moved_add_up_to_the_work():
    trl = stack("trl", max_length=1000)
    work = work_of(TOY, shape_of(TOY), trl)

    products = work.operations / (1e14 * ASSUMPTIONS.value("matmul-efficiency-a100"))
    moved = work.bytes_moved / (1e12 * ASSUMPTIONS.value("bandwidth-efficiency"))
    assert 0 == work.operations_fp32
    assert pytest.approx(products + moved) == duration_terms(TOY, shape_of(TOY), trl, card(gpu())).work.expected


def work(spec=TOY, framework="trl", habits=None, **setup):
    return work_of(spec, shape_of(spec), stack(framework, habits=habits, **setup))


def test_operations_with_loras_own_terms_and_twice_nothing_without_checkpointing():
    counted, kept = work(), work(gradient_checkpointing="none")

    attention = 2 * 4 * 16 * 5  # blocks × 4 · Q · half the length
    assert 10 * (6 * 4608 + 4.5 * attention + 4 * 16 * 100) == counted.operations
    assert 10 * 8 * 2 * (32 + 24) == counted.operations_per_rank  # q and v of two blocks
    assert (0, 0) == (counted.operations_fp32, counted.operations_fp32_per_rank)
    assert 10 * (4 * 4608 + 3.5 * 640 + 6400) == kept.operations
    assert 10 * 6 * 112 == kept.operations_per_rank
    base_too = work_of(TOY, shape_of(TOY), stack("trl"), weight_gradients=True)
    assert 10 * (2 * 4608 + 2 * 1600) == base_too.operations - counted.operations


def test_bytes_moved_by_operators_and_by_dequantizing_and_the_share_of_fused_kernels():
    block = 368 * 16 + 43 * 48 + 12.7 * 96 + 42 * 32 + 24 * 24  # H, 2Q + 2K, 3M, in and out features of q and v
    logits = 45 * 100

    assert pytest.approx(10 * (2 * block + logits)) == work().bytes_moved
    own_dtype = block - (42 - 6) * 32
    weights = 3 * 4608 * (0.5625 + 4)
    assert pytest.approx(10 * (2 * own_dtype + logits) + weights) == work(precision="nf4").bytes_moved
    saved = work().bytes_moved - work(habits=Habits(triton_kernels=True)).bytes_moved
    assert pytest.approx(0.4 * 10 * 2 * block) == saved


HERE = Workload(base="a", parameters=10**8, kernels=("unsloth", "fp32"))
NOISE = ASSUMPTIONS.value("here-few-noise")


def timings(*ratios, workload=HERE, kind="run", rest=None):
    shared = {"kind": kind, "workload": workload, "rest": rest}
    ids = (f"{kind}-{workload.base}-{i}" for i in range(len(ratios)))
    each = zip(ids, map(float, range(len(ratios))), ratios, strict=False)
    return [Timing(source_id=name, ended_at=at, ratio=ratio, **shared) for name, at, ratio in each]


PROBED = MemoryCalibration(probe_ids=("p",), process_bytes=0, working_factor=0.5, memory_width=0.1, reserved_share=1.25)


def test_three_like_runs_move_the_time_to_their_middle_and_the_high_end_is_at_most_twice_the_low():
    seconds = pace_of(timings(9.0, 1.9, 2.0, 2.2), HERE, ASSUMPTIONS).of(Range(1.0, 10.0, 100.0))

    noise = ASSUMPTIONS.value("here-time-noise")
    assert (20 / noise, 20.0, 20 * noise) == pytest.approx((seconds.low, seconds.expected, seconds.high))
    assert seconds.high / seconds.low <= 2


@pytest.mark.parametrize(
    ("estimated", "moves"), [((9, 10, 11), False), ((5, 10, 11), True), ((9, 10, 30), True), ((5, 10, 30), True)]
)
def test_a_pace_whose_range_holds_the_formulas_says_nothing_new(estimated, moves):
    moved = replace(pace_of(timings(1.1), HERE, ASSUMPTIONS), spread=1.3).of(Range(*estimated))

    assert pytest.approx((11 / 1.3, 11, 11 * 1.3) if moves else estimated) == (moved.low, moved.expected, moved.high)


def test_after_two_runs_the_range_is_a_little_wider_and_after_probes_alone_much():
    probes = timings(2.0, 2.0, 2.0, kind="probe")

    spreads = [pace_of(few, HERE, ASSUMPTIONS).spread for few in (timings(2.0, 2.0), probes)]

    assert [ASSUMPTIONS.value("here-first-noise"), NOISE] == pytest.approx(spreads)


def test_what_differs_widens_the_range():
    pace = pace_of(timings(2.0, 2.0, 2.0, workload=replace(HERE, kernels=("unsloth", "bf16"))), HERE, ASSUMPTIONS)

    assert "another precision or training setup" == pace.differs
    wider = ASSUMPTIONS.value("here-base-width") + ASSUMPTIONS.value("here-kernels-width")
    assert math.log(NOISE) + wider == pytest.approx(math.log(pace.spread))


def test_the_nearest_runs_count_and_later_ones_of_another_base_do_not():
    other = timings(9.0, 9.0, 9.0, 9.0, workload=replace(HERE, base="b"))

    pace = pace_of([*timings(2.0, rest=5.0), *other], HERE, ASSUMPTIONS)

    assert (2.0, 5.0, "") == (pytest.approx(pace.factor), pace.parts["rest"], pace.differs)
    assert pace_of(timings(2.0, workload=replace(HERE, parameters=10**10)), HERE, ASSUMPTIONS) is None


ENVIRONMENT = {"device": "cpu", "device_name": "a CPU", "cpu_count": 2, "versions": {"torch": "2.13.0"}}
CPU = Device(cpu_count=2)


def record(*depths, environment=ENVIRONMENT, **settings):
    settings = {"per_device_train_batch_size": 2, **settings}
    events = [RunStarted(time=1.0, environment=environment), *depths, ProbeCompleted(time=2.0)]
    return ProbeRecord(request=request(**settings)).after_all(events)


def run(**more):
    return questions.run(**{"base": "embedded", "data": "phonemes", "r": 64, "lora_alpha": 64, **more})


def of_run(model_id="HuggingFaceTB/SmolLM2-135M", device=CPU, **more):
    """What a run is: its model, adapter and settled set-up."""
    return model_id, run(**more).lora, run(**more).training.without_auto(device)


def test_a_probe_speaks_of_the_same_model_setting_device_and_versions_at_any_rank_and_a_like_length():
    probe = record(measured(30, forward=400), full=True)

    assert applies(probe, *of_run(), 512, ENVIRONMENT, ASSUMPTIONS)
    reach = ASSUMPTIONS.value("probe-tokens-reach")
    assert applies(probe, *of_run(), 512 * reach, ENVIRONMENT, ASSUMPTIONS)
    for other in (
        (probe, *of_run("HuggingFaceTB/SmolLM2-360M"), 512, ENVIRONMENT),
        (probe, *of_run(use_dora=True), 512, ENVIRONMENT),
        (probe, *of_run(), 513 * reach, ENVIRONMENT),
        (probe, *of_run(), 512, {**ENVIRONMENT, "cpu_count": 4}),
        (probe, *of_run(), 512, {**ENVIRONMENT, "versions": {"torch": "2.14.0"}}),
        (record(measured(4, forward=40)), *of_run(), 512, ENVIRONMENT),
        (ProbeRecord(request=probe.request), *of_run(), 512, ENVIRONMENT),
    ):
        assert not applies(*other, ASSUMPTIONS)


def test_a_runs_estimate_at_the_probes_own_setting_is_what_the_probe_measured():
    smol = load_model(ASSETS, "HuggingFaceTB/SmolLM2-135M")
    rows = Range(256, 256, 256)
    probe = record(measured(30, forward=1500, steps=(3.0,)), full=True, r=16)
    by_formulas = estimate_probe(smol, probe.request, CPU, ASSUMPTIONS)
    calibrated = calibrate([(probe, by_formulas)], ASSUMPTIONS)
    run_request = run(r=16, lora_alpha=16, per_device_train_batch_size=2, max_steps=10)
    pace = pace_of([timing_of(probe, smol, by_formulas)], workload_of(smol, run_request, CPU), ASSUMPTIONS)

    plain = estimate_run(smol, run_request, CPU, ASSUMPTIONS, rows)
    moved = paced(estimate_run(smol, run_request, CPU, ASSUMPTIONS, rows, calibrated), pace)

    assert 2100 * MIB == pytest.approx(moved.memory_bytes.expected, rel=1e-6)
    assert 30.0 == pytest.approx(moved.seconds.expected)
    assert moved.seconds.high / moved.seconds.low < plain.seconds.high / plain.seconds.low
    assert (("probe-1",), ()) == (moved.calibrated_by, plain.calibrated_by)
    assert (("probe-1",), ()) == (moved.timed_by, plain.timed_by)


def test_runs_that_finished_on_this_gpu_move_time_and_cost_and_leave_memory():
    asked = questions.question(ranks=(8,), gpu="toy-16", training=TrainingSetup(precision="bf16", max_steps=100))
    plain = estimate(TOY, asked, gpu(), ASSUMPTIONS)
    before = plain.ranks[0].duration
    measured = Calibration(memory=None, pace=pace_of(timings(2.0, 2.0, 2.0), HERE, ASSUMPTIONS))

    moved = calibrated_estimate(plain, measured, ASSUMPTIONS)

    after = moved.ranks[0].duration
    assert (2 * before.step.expected, before.load) == (pytest.approx(after.step.expected), after.load)
    assert after.load.expected + 100 * after.step.expected == pytest.approx(after.total.expected)
    assert after.total.expected * moved.price.usd_per_hour / 3600 == pytest.approx(moved.ranks[0].usd.expected)
    assert plain.ranks[0].memory == moved.ranks[0].memory
    assert ("Time is estimated from 3 finished runs here.", *plain.notes) == moved.notes


def test_on_a_gpu_the_components_still_add_up_and_the_totals_follow():
    static = {"base_weights": 1000, "adapter": 100, "gradients": 100, "optimizer": 200}
    memory = MemoryEstimate(
        **{**static, "activations": 400, "logits": 200, "other": 0},
        loading_band=Range(0, 0, 0),
        allocated_band=Range(1500, 2000, 2500),
        reserved_band=Range(1500, 2200, 3000),
        device_band=Range(1600, 2400, 3400),
    )

    moved = calibrated_memory(memory, PROBED, Range(10, 20, 30))

    # 1,400 known and half of 600
    assert 1700 == moved.allocated == moved.allocated_band.expected
    assert (200, 100) == (moved.activations, moved.logits)
    assert 2125 == moved.reserved
    assert 2145 == moved.device
    assert 1530 * 1.25 + 10 == pytest.approx(moved.device_band.low)


def test_the_sources_of_an_estimate_are_named_and_counted():
    here, probes = timings(2.0), timings(2.0, 2.0, kind="probe")
    elsewhere = [replace(here[0], is_here=False, workload=replace(HERE, base="b"))]
    words = [pace_of(each, HERE, ASSUMPTIONS).in_words for each in ([*here, *probes], probes, elsewhere)]
    both = Calibration(memory=replace(PROBED, probe_ids=("p", "")), pace=pace_of([*here, *probes], HERE, ASSUMPTIONS))

    other = "from 1 finished run with another base model, so the range is wider"
    assert ["from 1 finished run and 2 probes here", "from 2 finished probes here", other] == words
    assert {
        "calibrated": "on this machine",
        "probe_ids": ["p", "probe-a-0", "probe-a-1"],
        "run_ids": ["run-a-0"],
        "working_factor": 0.5,
        "seconds_factor": pytest.approx(2.0),
        "in_words": f"Memory is calibrated by 2 probes of this model here; time is estimated {words[0]}.",
    } == both.as_json()
    assert (None, None, "") == tuple(Calibration(memory=None, pace=None).as_json().values())[3:]


def test_runs_of_a_model_so_many_times_as_large_or_as_small_count_and_the_range_widens_by_that():
    reach, slope = (ASSUMPTIONS.value(name) for name in ("here-base-reach", "here-size-width"))
    fixed = math.log(NOISE) + ASSUMPTIONS.value("here-base-width")
    for times in (3, reach, reach + 1):
        large = replace(HERE, parameters=HERE.parameters * times, base="b")
        paces = [pace_of(timings(2.0, workload=a), b, ASSUMPTIONS) for a, b in ((HERE, large), (large, HERE))]
        spread = pytest.approx(fixed + slope * math.log(times)) if times <= reach else None
        assert [spread] * 2 == [pace and math.log(pace.spread) for pace in paces]
