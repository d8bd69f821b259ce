"""Announced times of finished runs: by hand, and on the sweeps that RankViz ships."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.run_times import Finished, by_recording, coverage, groups, of_home, read, replay, write
from rankviz.core.cost.pace import UNSURE, Difference, Timing, Workload
from rankviz.core.runs.run_time import FormulaTimes
from rankviz.paths import ASSETS
from tests.support.runs.toy import ASSUMPTIONS

ROOT = Path(__file__).parents[4]
HERE = Workload(base="a", parameters=10**8, kernels=("unsloth", "fp32"), data="phonemes", tokens=128)
NOISE = ASSUMPTIONS.value("here-time-noise")
IDLE = ASSUMPTIONS.value("here-idle-noise")


def run(ended_at, training=1.0, workload=HERE, **parts):
    """Expected: load 40 s, training 100 s, 20 examples of 0.5 s."""
    timing = Timing(
        source_id=f"run-{ended_at}",
        kind="run",
        ended_at=ended_at,
        workload=workload,
        ratios={"training": training, "evaluation": 2.0, "rest": 3.0, **parts},
    )
    return Finished(
        timing=timing, expected=FormulaTimes(load=40.0, training=100.0, evaluation_of_one=0.5), evaluated=20
    )


def test_what_a_run_took_is_the_sum_of_its_parts():
    assert 100 + 20 + 3 == run(1.0).seconds
    assert 100 + 20 + 3 + 20 == run(1.0, load=0.5).seconds


def test_each_run_is_announced_from_those_that_ended_before_it_and_the_first_not_at_all():
    second, third = replay([run(3.0, 4.0), run(1.0, 1.0), run(2.0, 2.0)], ASSUMPTIONS)

    assert (1, 2) == (second.sources, third.sources)
    assert 100 + 20 + 3 == pytest.approx(second.seconds.expected)
    assert 100 * 2**0.5 + 20 + 3 == pytest.approx(third.seconds.expected)


def test_after_three_like_runs_the_range_is_as_wide_as_the_noise():
    *_, last = replay([run(float(i), 1.0 + (i == 4)) for i in range(1, 5)], ASSUMPTIONS)

    assert (123 / NOISE, 123 * NOISE) == pytest.approx((last.seconds.low, last.seconds.high))
    assert not last.inside
    assert (1, 0) == coverage([last])[:2]


def test_a_run_too_short_to_measure_its_training_is_not_announced_and_tells_what_it_did_measure():
    long, short = run(1.0), run(2.0)
    short = replace(short, timing=replace(short.timing, ratios={"evaluation": 2.0}))

    assert [] == replay([long, short], ASSUMPTIONS)
    assert 20.0 == short.seconds


def busy(ended_at, slowdown, load_average, **parts):
    """A run of 100 s times its slowdown, whose machine had so many other threads when it began."""
    found = run(ended_at, slowdown, **parts)
    known = {"slowdowns": {"training": slowdown}, "load_average": load_average, "began_at": ended_at - 500.0}
    return replace(found, timing=replace(found.timing, **known), cpus=2)


def test_a_run_is_announced_with_the_machine_as_busy_as_it_was_when_the_run_began():
    runs = [busy(1000.0 * i, 1.0, 0.0) for i in (1, 2, 3)]

    *_, quiet = replay([*runs, busy(4000.0, 1.0, 0.0)], ASSUMPTIONS)
    *_, slow = replay([*runs, busy(4000.0, 2.5, 2.0)], ASSUMPTIONS)

    assert quiet.inside
    assert 100 * IDLE + 23 * NOISE == pytest.approx(quiet.seconds.high)
    assert slow.inside
    # two other threads on two processors: twice as long, and more where there will be more of them
    highest = 1 + ASSUMPTIONS.value("here-others-drift") * (2 - UNSURE) / 2
    assert 100 * highest * IDLE + 23 * NOISE == pytest.approx(slow.seconds.high)


def test_what_earlier_runs_have_left_in_the_load_average_is_no_other_program():
    first, second = busy(1000.0, 1.0, 0.0), busy(1500.0, 1.0, 2.0)
    first = replace(first, timing=replace(first.timing, threads=2.0))

    *_, after = replay([first, second], ASSUMPTIONS)

    assert after.seconds.high < 1.01 * (100 * IDLE**3**0.5 + 23 * NOISE**3**0.5)


def test_loading_is_independent_of_the_rest():
    *_, last = replay([run(float(i), load=1.0) for i in range(1, 5)], ASSUMPTIONS)

    loading, rest = 40 * (ASSUMPTIONS.value("here-load-noise") - 1), 123 * (NOISE - 1)
    assert 163 + (loading**2 + rest**2) ** 0.5 == pytest.approx(last.seconds.high)


LATER = "20261126"
"""Recorded runs from this day on had no part in the choice of the width."""


@pytest.mark.parametrize(("later", "at_most"), [(False, 2.0), (True, 2.1)])
def test_of_the_shipped_sweeps_four_in_five_runs_are_inside_a_range_of_about_twice_its_low_end(later, at_most):
    """The figures of docs/method.md."""
    announced = [each for each in replay(of_home(ASSETS / "recorded"), ASSUMPTIONS) if each.sources >= 3]
    alike = [each for each in announced if each.differs is Difference.NONE]
    like = coverage([each for each in alike if later == (each.finished.timing.source_id >= LATER)])

    assert like.inside >= 0.8 * like.runs
    assert like.widest <= at_most
    prose = " ".join((ROOT / "docs" / "method.md").read_text("utf-8").split())
    figures = re.findall(
        r"had (\d+) runs after three like ones: (\d+) of them were inside the announced range \((\d+) %\), whose "
        r"high end was ([\d.]+) times the low end \(median; ([\d.]+) at most\)",
        prose,
    )
    runs, inside, share, width, widest = figures[later]
    assert (int(runs), int(inside)) == like[:2]
    assert int(share) == round(100 * like.inside / like.runs)
    assert (float(width), float(widest)) == (round(like.middle_width, 2), round(like.widest, 2))


def changes(finished, *, idle):
    """Of all setups the most that the training ratio changed between runs; idle: without what the threads waited."""
    ratios: dict[Workload, list[float]] = {}
    for timing in (run.timing for run in finished if "training" in run.timing.ratios):
        slowed = timing.slowdowns["training"] if idle else 1.0
        ratios.setdefault(timing.workload, []).append(timing.ratios["training"] / slowed)
    return max(max(each) / min(each) for each in ratios.values())


CHOSEN_ON = 10
"""So many of the runs that say how busy the machine was had ended before here-idle-noise and here-others-drift were
chosen."""


def test_the_figures_of_runs_that_say_how_busy_the_machine_was_are_those_of_their_rows():
    """The figures of docs/method.md."""
    finished, _ = by_recording(read(ASSETS / "run_times.csv"))
    first = {run.timing.source_id for run in finished[:CHOSEN_ON]}
    announced = replay(finished, ASSUMPTIONS)
    chosen_on = coverage([each for each in announced if each.finished.timing.source_id in first])
    later = [each for each in announced if each.finished.timing.source_id not in first]
    unseen = coverage(later)
    loads = [run.timing.load_average for run in finished]
    change, idle_change = changes(finished, idle=False), changes(finished, idle=True)

    prose = " ".join((ROOT / "docs" / "method.md").read_text("utf-8").split())
    assert f"{len(finished)} runs with the counts" in prose
    assert f"a load average of {min(loads):.0f} to {max(loads):.0f}" in prose
    assert f"by a factor of up to {change:.1f} between runs, and {idle_change:.1f} without the waiting" in prose
    assert f"{chosen_on.inside} of {chosen_on.runs} announced" in prose
    assert f"Of the {unseen.runs} after that, {unseen.inside} were inside" in prose
    assert f"({100 * unseen.inside / unseen.runs:.0f} %)" in prose
    assert f"{unseen.middle_width:.1f} times the low end (median; {unseen.widest:.1f} at most)" in prose
    assert f"{sum(each.sources >= 3 for each in later)} of them were announced from three runs" in prose
    assert unseen.inside >= 0.8 * unseen.runs


def test_times_are_read_as_they_were_written(tmp_path):
    finished = of_home(ASSETS / "recorded")

    write(finished, tmp_path / "times.csv")

    for mine, theirs in zip(
        read(tmp_path / "times.csv"), sorted(finished, key=lambda f: f.timing.ended_at), strict=True
    ):
        assert theirs.timing.workload == replace(mine.timing.workload, tokens=theirs.timing.workload.tokens)
        assert theirs.seconds == pytest.approx(mine.seconds, rel=1e-4)
        assert theirs.evaluated == mine.evaluated


def test_runs_are_grouped_by_what_they_were_announced_from():
    other = replace(HERE, base="b")
    runs = [run(1.0), run(2.0), run(3.0), run(4.0), run(5.0, workload=other)]

    assert ["1 like run", "2 like runs", "3 like runs", "other base"] == list(groups(replay(runs, ASSUMPTIONS)))
