"""What finished runs say of the time of the next one, worked by hand."""

import math
from dataclasses import replace

import pytest

from rankviz.core.cost.pace import Difference, Others, Timing, Workload, kernels, machine_of, paces
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.quantity import Range
from tests.support.runs.toy import ASSUMPTIONS

HERE = Workload(base="a", parameters=10**8, kernels=("unsloth", "fp32"), data="phonemes", tokens=128)
NOISE = ASSUMPTIONS.value("here-time-noise")
IDLE = ASSUMPTIONS.value("here-idle-noise")
ENDS = ("low", "expected", "high")
QUIET, BUSY = Others(threads=0.0, cpus=2), Others(threads=2.0, cpus=2)


def timings(*ratios, workload=HERE, kind="run", **parts):
    return [
        Timing(
            source_id=f"{kind}-{workload.base}-{i}",
            kind=kind,
            ended_at=float(i),
            workload=workload,
            ratios={"training": ratio, **parts},
        )
        for i, ratio in enumerate(ratios)
    ]


def training(finished, workload=HERE):
    return paces(finished, workload, ASSUMPTIONS).training


def test_three_like_runs_move_the_time_to_their_middle_and_the_high_end_to_less_than_twice_the_low():
    seconds = training(timings(1.9, 2.0, 2.2)).of(Range(1.0, 10.0, 100.0))

    assert (20 / NOISE, 20.0, 20 * NOISE) == pytest.approx((seconds.low, seconds.expected, seconds.high))
    assert seconds.high / seconds.low <= 2


def test_only_the_latest_three_count_so_that_the_range_follows_the_machines_load():
    assert 3.0 == pytest.approx(training(timings(1.0, 1.0, 1.0, 1.0, 3.0, 3.1, 2.9)).factor)
    # whatever the order in which they come
    assert 3.0 == pytest.approx(training(timings(1.0, 1.0, 3.0, 3.1, 2.9)[::-1]).factor)


def test_one_or_two_runs_give_a_wider_range():
    assert NOISE ** math.sqrt(3) == pytest.approx(training(timings(2.0)).spread)
    assert NOISE ** math.sqrt(1.5) == pytest.approx(training(timings(2.0, 2.0)).spread)


def test_runs_that_disagree_widen_the_range_but_one_odd_run_does_not():
    assert 2 ** ASSUMPTIONS.value("here-disagreement") == pytest.approx(training(timings(1.0, 2.0, 4.0)).spread)
    assert NOISE == pytest.approx(training(timings(2.0, 2.0, 9.0)).spread)


@pytest.mark.parametrize(
    ("other", "differs", "width"),
    [
        (replace(HERE, data="syllables"), Difference.TOKENS, "here-data-width"),
        (replace(HERE, base="b"), Difference.BASE, "here-base-width"),
        (replace(HERE, kernels=("unsloth", "bf16")), Difference.KERNELS, "here-kernels-width"),
    ],
)
def test_what_differs_widens_the_range(other, differs, width):
    pace = training(timings(2.0, 2.0, 2.0, workload=other))

    assert differs == pace.differs
    assert math.hypot(math.log(NOISE), ASSUMPTIONS.value(width)) == pytest.approx(math.log(pace.spread))


def test_another_bases_size_widens_it_too_and_far_from_it_says_nothing():
    near, far = (
        training(timings(2.0, 2.0, 2.0, workload=replace(HERE, base="b", parameters=n))) for n in (2 * 10**8, 10**10)
    )

    widths = ASSUMPTIONS.value("here-base-width"), ASSUMPTIONS.value("here-size-width") * math.log(2)
    assert math.hypot(math.log(NOISE), *widths) == pytest.approx(math.log(near.spread))
    assert far is None


def test_all_that_differs_adds_up():
    other = replace(HERE, base="b", data="syllables", kernels=("unsloth", "bf16"))

    pace = training(timings(2.0, 2.0, 2.0, workload=other))

    widths = [ASSUMPTIONS.value(f"here-{name}-width") for name in ("base", "data", "kernels")]
    assert Difference.KERNELS == pace.differs
    assert math.hypot(math.log(NOISE), *widths) == pytest.approx(math.log(pace.spread))


def test_other_lengths_widen_it_by_how_far_they_are():
    near, far = (training(timings(2.0, 2.0, 2.0, workload=replace(HERE, tokens=n))).spread for n in (256, 2048))

    assert NOISE == training(timings(2.0, 2.0, 2.0, workload=replace(HERE, tokens=130))).spread
    assert NOISE < near < far


def test_the_nearest_runs_count_and_later_ones_of_another_base_do_not():
    other = timings(9.0, 9.0, 9.0, 9.0, workload=replace(HERE, base="b"))

    pace = training([*timings(2.0), *other])

    assert (2.0, Difference.NONE) == (pytest.approx(pace.factor), pace.differs)


def test_a_pace_that_holds_the_formulas_range_leaves_it_and_one_that_contradicts_it_does_not():
    narrow = Range(9.0, 10.0, 11.0)

    assert narrow == training(timings(1.1)).of(narrow)
    assert 20.0 == pytest.approx(training(timings(2.0)).of(narrow).expected)


def test_loading_does_not_depend_on_the_rows_and_is_known_only_from_runs_that_loaded():
    other_rows = timings(2.0, 2.0, workload=replace(HERE, data="other", tokens=4096), load=0.5)

    found = paces([*other_rows, *timings(1.0)], HERE, ASSUMPTIONS)

    assert (0.5, Difference.NONE, 2) == (pytest.approx(found.load.factor), found.load.differs, len(found.load.sources))
    assert found.evaluation is None


def slowed(*pairs, **more):
    """Runs with (ratio, how many times longer others made it)."""
    found = timings(*(ratio for ratio, _ in pairs), **more)
    return [replace(timing, slowdowns={"training": times}) for timing, (_, times) in zip(found, pairs, strict=True)]


def test_runs_that_others_slowed_say_what_the_machine_takes_without_them():
    pace = training(slowed((2.0, 1.0), (6.0, 3.0), (4.0, 2.0)))

    assert 2.0 == pytest.approx(pace.idle)
    # the next one may be slowed as little or as much as these
    assert (2 / IDLE, 4.0, 6 * IDLE) == pytest.approx(tuple(getattr(pace.range(1.0), end) for end in ENDS))


def test_on_a_quiet_machine_the_high_end_stays_below_twice_the_low_end():
    seconds = paces(slowed((2.0, 1.01), (2.1, 1.02), (1.9, 1.0)), HERE, ASSUMPTIONS, QUIET).training.range(10.0)

    assert seconds.high / seconds.low <= 2


def test_a_machine_that_is_busy_now_is_announced_as_slower():
    quiet, busy = (paces(slowed(*3 * [(2.0, 1.0)]), HERE, ASSUMPTIONS, now).training for now in (QUIET, BUSY))

    assert 2.0 == pytest.approx(quiet.factor)
    # two more busy threads on two processors: twice as long, and more where there will be more of them
    assert 2 * 2**0.5 == pytest.approx(busy.factor)
    highest = 2 * (1 + ASSUMPTIONS.value("here-others-drift"))
    assert (2 / IDLE, highest * IDLE) == pytest.approx((busy.range(1.0).low, busy.range(1.0).high))


def test_runs_of_which_it_is_not_known_are_left_out_where_others_say_it():
    pace = training([*slowed((2.0, 1.0)), *timings(9.0, 9.0, 9.0, 9.0)])

    assert (2.0, 1) == (pytest.approx(pace.idle), len(pace.sources))


@pytest.mark.parametrize(
    ("finished", "now", "words"),
    [
        ([], Others(threads=0.1, cpus=2), ""),
        ([], Others(threads=1.6, cpus=2), "other programs take about 80 % of its processors, so this may take longer"),
        (slowed((2.0, 1.0)), Others(threads=1.6, cpus=2), "take about 80 % of its processors, so this takes longer."),
        ([], Others(threads=5.0, cpus=2), "other programs need 2.5 times as many processors as it has, so this may"),
        (slowed((2.0, 1.0), (6.0, 3.0)), QUIET, "Other programs made one of the last runs here take 3.0 times as long"),
        (slowed((2.0, 3.0), (6.0, 3.0)), None, ""),
        (slowed((2.0, 1.0), (6.0, 1.1)), QUIET, ""),
    ],
)
def test_a_sentence_says_how_busy_the_machine_is(finished, now, words):
    sentence = paces(finished, HERE, ASSUMPTIONS, now).busy_in_words

    assert words in sentence
    assert bool(words) is bool(sentence)


@pytest.mark.parametrize(
    ("finished", "words"),
    [
        ([], ""),
        (timings(1.0), "from 1 finished run here"),
        (timings(1.0, 1.0, 1.0, 1.0), "from 3 finished runs here"),
        (timings(1.0, kind="probe"), "from 1 finished probe here"),
        ([replace(each, is_here=False) for each in timings(1.0, 1.0)], "from 2 finished runs"),
        ([*timings(1.0, 1.0), *timings(1.0, kind="probe")], "from 2 finished runs and 1 probe here"),
        (
            timings(1.0, workload=replace(HERE, base="b")),
            "from 1 finished run here with another base model, so the range is wider",
        ),
    ],
)
def test_the_sentence_says_what_the_time_rests_on(finished, words):
    assert words == paces(finished, HERE, ASSUMPTIONS).in_words


def test_another_device_or_version_is_another_machine():
    here = {"device": "cpu", "device_name": "a CPU", "cpu_count": 2, "versions": {"torch": "2.13.0", "pandas": "3"}}

    assert machine_of({**here, "versions": {"torch": "2.13.0"}}) == machine_of(here)
    for other in ({"device": "cuda"}, {"device_name": "b"}, {"cpu_count": 4}, {"versions": {"torch": "2.14.0"}}):
        assert machine_of({**here, **other}) != machine_of(here)


def test_kernels_are_what_time_and_memory_are_made_of():
    setup = TrainingSetup(framework="trl", precision="bf16", gradient_checkpointing="unsloth")

    assert kernels(setup, use_dora=False) == kernels(replace(setup, gradient_checkpointing="hf"), use_dora=False)
    assert kernels(setup, use_dora=False) != kernels(setup, use_dora=True)
    assert kernels(setup, use_dora=False) != kernels(replace(setup, precision="fp32"), use_dora=False)
