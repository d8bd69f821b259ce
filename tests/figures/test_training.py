"""Loss by step."""

from dataclasses import replace

from rankviz.core.runs.record import Sweep
from rankviz.figures import training_info
from tests.support.runs.finished_runs import plain_sweep


def long_run(count, peak):
    (run,) = plain_sweep({8: 2.0}).runs
    steps = [
        replace(run.steps[0], step=n, loss=99.0 if n == peak else 2.0 + n % 7, tokens=n, seconds=float(n))
        for n in range(1, count + 1)
    ]
    return Sweep(sweep_id="s1", runs=(replace(run, steps=tuple(steps)),))


def test_of_a_long_run_so_many_steps_are_drawn_as_a_screen_shows_and_no_peak_is_lost():
    info = training_info([long_run(100_000, peak=54_321)])

    (curve,) = info.curves
    assert 900 <= len(curve.steps) <= 1000 >= len(info.rows)
    assert (1, 100_000, 99.0) == (curve.steps[0], curve.steps[-1], curve.losses[curve.steps.index(54_321)])
    assert sorted(curve.steps) == list(curve.steps)
    assert "At most 1000 steps of each run are shown" in info.source
