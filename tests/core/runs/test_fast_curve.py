"""A fast curve, worked by hand, and how far fast curves are from independent runs."""

from dataclasses import replace

import pytest

from rankviz.core.runs.events import AdapterCut, Evaluated
from rankviz.core.runs.fast_curve import fast_curve, pick, read
from rankviz.core.runs.record import RunRecord
from tests.support.runs import questions


def run(r, loss, *, cuts=None, run_id="top", **settings):
    request = questions.run(
        run_id=run_id, sweep_id="s", base="b", data="d", r=r, lora_alpha=32, cut_ranks=tuple(cuts or ()), **settings
    )
    evaluated = Evaluated(time=1.0, when="after", loss=loss, tokens=10, examples=2, seconds=1.0)
    return RunRecord(
        request=request,
        trainable_parameters=100 * r,
        adapter_bytes=400 * r,
        loss_before=replace(evaluated, when="before", loss=7.0),
        loss_after=evaluated,
        cuts=tuple(
            AdapterCut(
                **{"time": 2.0, "r": k, "loss": value, "tokens": 10, "examples": 2, "seconds": 1.0},
                example_losses=(value, value),
                recovery_steps=2 if k < 8 else 0,
                path=f"cuts/r{k}" if k < 8 else "",
            )
            for k, value in (cuts or {}).items()
        ),
    )


TOP = run(64, 1.600, cuts={32: 1.601, 8: 1.615, 2: 1.640})


def test_the_curve_runs_from_the_lowest_cut_to_the_rank_that_was_trained():
    curve = fast_curve(TOP)

    assert [2, 8, 32, 64] == [point.r for point in curve.points]
    assert (1.640, 200, 800, 2, "cuts/r2", None, None) == curve.points[0][1:]
    assert (1.600, 6400, 25600, 0, "", None, None) == curve.trained[1:]
    assert 7.0 == curve.base_loss


@pytest.mark.parametrize(("tolerance", "r"), [(0.02, 8), (0.05, 2), (0.0005, 64)])
def test_the_pick_is_the_lowest_rank_within_the_tolerance_of_the_best(tolerance, r):
    assert r == pick(fast_curve(TOP), tolerance).r


def sentences(*others, run_sd=0.02):
    return read(fast_curve(TOP), [TOP, *others], run_sd=run_sd).sentences


def test_a_run_parts_from_the_curve_beyond_two_standard_errors_of_a_difference():
    # 2 · √2 · 0.02 = 0.0566 above 1.640
    near, far = (" ".join(sentences(run(2, loss, run_id="a"))) for loss in (1.696, 1.697))

    assert "alarm" not in near
    assert "At r = 2 a run reached a loss of 1.6970" in far
    assert "Judge low ranks by runs." in " ".join(sentences(run(2, 1.5, run_id="a")))
