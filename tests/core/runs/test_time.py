"""Times of runs and sweeps, measured and announced, and estimates beside measured runs."""

import re
from collections import defaultdict
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from rankviz.api import Api
from rankviz.catalog.models import load_model
from rankviz.core.cost.pace import Workload
from rankviz.core.cost.setup import Device
from rankviz.core.lora.config import LoraConfig
from rankviz.core.quantity import Range
from rankviz.core.runs.estimate import estimate_run, refuse_base
from rankviz.core.runs.events import (
    AdapterCut,
    AttemptPlaced,
    Evaluated,
    RunCompleted,
    RunRequeued,
    RunStarted,
    StageReached,
    StepLogged,
)
from rankviz.core.runs.record import RunRecord, Sweep
from rankviz.core.runs.request import SHORT_TRAINING
from rankviz.core.runs.run_time import device_time, timing_of
from rankviz.core.runs.sweep_time import SweepTime, progress_of, sweep_time
from rankviz.errors import InvalidSettingError
from rankviz.paths import ASSETS
from tests.support.runs import questions
from tests.support.runs.questions import run
from tests.support.runs.toy import ASSUMPTIONS, TOY

HERE = Workload(base="a", parameters=1, kernels=())
ASKED = RunRecord(request=run(run_id="r"))


def evaluated(time, when, seconds):
    return Evaluated(time=time, when=when, loss=1.0, tokens=100, examples=20, seconds=seconds)


def begun(at, attempt=1, stage="loading the base"):
    return StageReached(time=at, stage=stage, attempt=attempt)


def stepped(at, number=1, attempt=1, seconds=1.0):
    fields = {"loss": 1.0, "learning_rate": 1e-3, "tokens": 1, "memory_bytes": 1}
    return StepLogged(time=at, step=number, seconds=seconds, attempt=attempt, **fields)


def done(at, attempt=1, train_seconds=1.0):
    peak = {"peak_memory_bytes": 1, "peak_memory_kind": "GPU allocated"}
    return RunCompleted(time=at, train_seconds=train_seconds, attempt=attempt, **peak)


FIRST = (
    StageReached(time=100.0, stage="reading the data"),
    begun(103.0),
    RunStarted(time=110.0, environment={}),
    evaluated(115.0, "before", 4.0),
    *(stepped(115.0 + 6 * n, n, seconds=6.0 * n) for n in range(1, 9)),
    evaluated(170.0, "after", 6.0),
    done(171.0, train_seconds=48.0),
)


def test_a_run_tells_its_pace_and_what_it_took_beside_training_and_evaluation():
    """A download of 3 s, 7 s of loading and 61 s: 48 of training, and 40 evaluated rows at twice 0.1 s."""
    timing = timing_of(ASKED.after_all([begun(100.0, stage="downloading the base"), *FIRST[1:]]), HERE, 24.0, 0.1)

    assert (2.0, 7.0, pytest.approx(61 - 48 - 8)) == (timing.ratio, timing.load, timing.rest)


def spent(*events, now=1000.0):
    return device_time([ASKED.after_all(events)], now)


def test_a_lost_attempt_counts_to_its_last_line_since_nobody_saw_its_end():
    lost = RunRequeued(time=90_000.0, attempt=1, lost="The machine stopped.")

    queued = spent(begun(100.0), stepped(120.0), lost)
    again = spent(begun(100.0), stepped(120.0), lost, begun(90_100.0, 2), done(90_130.0, 2))

    assert (20.0, 50.0) == (queued.device_seconds, again.device_seconds)


def test_a_run_that_its_engine_cannot_read_counts_to_its_last_line_and_says_that_it_may_be_more():
    waits = AttemptPlaced(time=0.0, attempt=1, engine="local", waits="It waits for its owner's login.")
    time = spent(begun(100.0), stepped(160.0), waits)

    assert (60.0, False, "at least 60 s") == (time.device_seconds, time.device_seconds_is_whole, time.in_words)


TIME = SweepTime(**{part: Range(60.0, 60.0, 60.0) for part in ("load", "training", "other", "longest_run")})
"""Of a whole sweep: 180 s, 60 of them neither loading nor training."""


IDS = map(str, count())


def record(*events, **settings):
    return RunRecord(request=questions.run(**{"max_steps": 40, "run_id": next(IDS), **settings})).after_all(events)


def training(at, *, done=10, pace=2.0, **settings):
    """A run that has trained so many of its 40 steps, at this pace."""
    steps = [stepped(at + 1 + number * pace, number, seconds=number * pace) for number in (1, done)]
    return record(RunStarted(time=at, environment={}), StageReached(time=at + 1, stage="training"), *steps, **settings)


def ended_at(at):
    return training(at, done=40, pace=3.0).after(done(at + 130, train_seconds=120.0))


def far(*runs, now, time=TIME):
    return progress_of(Sweep(sweep_id="s", runs=runs), now, time)


QUEUED = record()


def test_each_step_left_takes_as_long_as_those_so_far_and_the_rest_of_a_run_as_estimated():
    left = far(ended_at(0.0), training(200.0), QUEUED, now=221.0).seconds_left

    # of three runs, 20 s each are not training; the queued one has the middle of the two paces, 3 and 2
    assert (30 * 2 + 20) + (40 * 2.5 + 20) == pytest.approx(left)
    assert 30 * 2 + 40 * 2.5 == pytest.approx(
        far(ended_at(0.0), training(200.0), QUEUED, now=221.0, time=None).seconds_left
    )


def test_before_the_second_step_loading_runs_down_and_without_an_estimate_nothing_is_known():
    loading = record(StageReached(time=100.0, stage="loading the base"))

    assert 180.0 - 30 == far(loading, QUEUED, now=130.0).seconds_left
    late = far(loading, QUEUED, now=1000.0)  # a long download is no training
    assert (120.0, None) == (late.seconds_left, late.share)
    assert "not known" == far(loading, QUEUED, now=130.0, time=None).left_in_words
    assert (None, "") == (far(QUEUED, now=1.0).seconds_left, far(QUEUED, now=1.0).sentence)


def test_after_its_last_step_a_run_takes_the_rest_and_the_recovery_of_ranks_to_come():
    evaluating = training(0.0, done=40)
    truncating = training(0.0, done=40, r=64, cut_ranks=(8, 4))
    later = truncating.after(AdapterCut(time=90.0, r=4, loss=1.0, tokens=1, examples=1, seconds=1.0, example_losses=()))

    assert 60 - 9 == pytest.approx(far(evaluating, now=90.0).seconds_left)
    assert 2 * 2 + 60 - 9 == pytest.approx(far(truncating, now=90.0).seconds_left)  # two steps at r = 4, none at r = 8
    assert 60 - 9 == pytest.approx(far(later, now=90.0).seconds_left)


def test_of_a_sweep_that_several_workers_train_the_work_that_is_left_is_divided_among_them():
    running = [training(200.0) for _ in range(4)]

    progress = far(ended_at(10.0), *running, *[QUEUED] * 6, now=221.0, time=None)

    work = 4 * 60 + 6 * 80
    assert work / 4 == pytest.approx(progress.seconds_left)
    spent = 130 + 4 * 21
    assert spent / (spent + work) == pytest.approx(progress.share)


def test_of_the_shipped_sweeps_four_in_five_runs_after_three_like_ones_are_inside_a_range_of_twice_its_low_end():
    """The figures of docs/method.md."""
    api = Api(home=ASSETS / "recorded")
    runs = [run for run in api.workspace.store.records() if run.completed]
    estimates = zip(runs, api.runs.expected_runs(runs), strict=True)
    like = [(run, each) for run, each in estimates if each and each.timed_in_words == "from 3 finished runs here"]

    inside = sum(each.seconds.holds(run.completed.train_seconds) for run, each in like)
    assert inside >= 0.8 * len(like)
    assert max(each.seconds.high / each.seconds.low for _, each in like) <= 2
    prose = " ".join((Path(__file__).parents[3] / "docs" / "method.md").read_text("utf-8").split())
    figures = re.search(r"(\d+) runs came after three like ones, and (\d+) of them \((\d+) %\) were inside", prose)
    assert (len(like), inside, round(100 * inside / len(like))) == tuple(map(int, figures.groups()))

    by_sweep = defaultdict(list)
    for each in runs:
        trained = each.completed.train_seconds
        by_sweep[each.request.sweep_id].append((trained, trained / api.estimates.measured._timing(each).ratio))
    sweeps = [(first[0] / first[1], tuple(map(sum, zip(*later, strict=True)))) for first, *later in by_sweep.values()]
    least, low, *_, high = sorted(trained / (pace * formula) for pace, (trained, formula) in sweeps)
    assert f"took {low:.2f} to {high:.2f} times what the first run foretold in 4 sweeps, and {least:.2f} times" in prose


MIB = 2**20


def request(**more):
    return run(**{"base": "embedded", "data": "phonemes", "r": 16, **more})


@pytest.mark.parametrize(("max_length", "measured_mib"), [(32, 1652), (128, 2883), (256, 4412)])
def test_resident_memory_of_a_cpu_run_is_as_measured(max_length, measured_mib):
    smol = load_model(ASSETS, "HuggingFaceTB/SmolLM2-135M")
    full_rows = Range(max_length, max_length, max_length)

    estimate = estimate_run(smol, request(max_length=max_length), Device(cpu_count=2), ASSUMPTIONS, full_rows)

    assert "process resident" == estimate.memory_kind
    assert estimate.memory_bytes.low <= measured_mib * MIB <= estimate.memory_bytes.high
    assert 0.9 <= estimate.memory_bytes.expected / (measured_mib * MIB) <= 1.1


def test_cuts_of_a_fast_curve_and_exact_match_take_evaluations():
    def seconds(**more):
        settings = {"max_steps": 10, "per_device_train_batch_size": 8, "held_out_examples": 40, "r": 64}
        run_request = request(**settings, **more)
        estimate = estimate_run(TOY, run_request, Device(cpu_count=2), ASSUMPTIONS)
        hundred = [replace(estimate, seconds=Range(100.0, 100.0, 100.0))]
        return sweep_time(TOY, [run_request], hundred, ASSUMPTIONS).total.expected

    # 40 rows forward are a quarter of 80 rows of training; two cuts twice that, and r = 2 two steps of ten.
    assert 100 * (2 * 0.25 + 0.2) == pytest.approx(seconds(cut_ranks=(8, 2)) - seconds())
    # 40 rows forward take 25 s; base, adapter and its truncation answer 20 of them, at three passes each.
    without = seconds(cut_ranks=(8,))
    assert 3 * 12.5 * 3 == pytest.approx(seconds(cut_ranks=(8,), exact_match_examples=20) - without)
    assert 3 * 25.0 * 3 == pytest.approx(seconds(cut_ranks=(8,), exact_match_examples=1000) - without)


API = Api(assets=ASSETS)
CPU, GPU = Device(), Device(cuda=True)


def check(model_id, device, **lora):
    refuse_base(API.models.get(model_id), LoraConfig(**lora), SHORT_TRAINING, device)


@pytest.mark.parametrize(("device", "what"), [(CPU, "A run without a GPU"), (GPU, "A run")])
def test_a_whole_multimodal_model_is_refused_and_its_text_tower_named(device, what):
    with pytest.raises(InvalidSettingError, match=f"{what} trains on text only: choose google/gemma-3-4b-it instead.$"):
        check("google/gemma-3-4b-it:whole", device)


def test_a_vision_tower_that_would_train_with_its_text_tower_is_refused_on_a_gpu():
    lora = {"unsloth_class": "FastModel"}
    with pytest.raises(InvalidSettingError, match=r"would train too.*turn finetune_vision_layers off"):
        check("google/gemma-3-4b-it", GPU, **lora)

    with pytest.raises(InvalidSettingError, match=r"A run without a GPU does not train google/gemma-3-4b-it"):
        check("google/gemma-3-4b-it", CPU, **lora)
    check("google/gemma-3-4b-it", GPU, **lora | {"finetune_vision_layers": False})
