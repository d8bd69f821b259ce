"""A fast curve, worked by hand."""

from dataclasses import replace

import pytest

from rankviz.core.runs.events import AdapterCut, Evaluated
from rankviz.core.runs.fast_curve import (
    fast_curve,
    fast_curves,
    in_words,
    independent_runs,
    partings,
    pick,
    read,
    shippable,
)
from rankviz.core.runs.record import RunRecord
from tests.support.runs import questions


def run(r, loss, *, cuts=None, saved=True, run_id="top", **settings):
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
                time=2.0,
                r=k,
                loss=value,
                tokens=10,
                examples=2,
                seconds=1.0,
                example_losses=(value, value),
                recovery_steps=2 if k < 8 else 0,
                path=f"cuts/r{k}" if saved and k < 8 else "",
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


def test_a_run_without_cuts_has_none():
    assert fast_curve(run(8, 1.7)) is None


def test_of_two_cuts_of_one_rank_the_later_counts_and_a_cut_of_the_whole_rank_is_none():
    """As a journal that was imported may have them."""
    first, whole = TOP.cuts[1], replace(TOP.cuts[1], r=64, loss=9.0)
    again = replace(first, loss=1.7)
    curve = fast_curve(replace(TOP, cuts=(*TOP.cuts, again, whole)))

    assert [(2, 1.640), (8, 1.7), (32, 1.601), (64, 1.600)] == [(point.r, point.loss) for point in curve.points]


@pytest.mark.parametrize(("tolerance", "r"), [(0.02, 8), (0.05, 2), (0.0005, 64)])
def test_the_pick_is_the_lowest_rank_within_the_tolerance_of_the_best(tolerance, r):
    assert r == pick(fast_curve(TOP), tolerance).r


def test_an_anchor_parts_from_the_curve_beyond_two_standard_errors_of_a_difference():
    curve = fast_curve(TOP)
    near, far = run(2, 1.696, run_id="near"), run(2, 1.697, run_id="far")

    # 2 · √2 · 0.02 = 0.0566 above 1.640
    assert ["far"] == [a.run_id for a in (near, far) if partings(curve, [a], 0.02)]
    assert () == partings(curve, [TOP, run(4, 9.0, run_id="no cut to 4")], 0.02)


def test_a_run_worse_than_the_cut_raises_the_step_size_alarm():
    curve = fast_curve(TOP)

    sentences = in_words(curve, partings(curve, [run(2, 3.3, run_id="a")], 0.02), {2})

    assert sentences[0].startswith("This adapter was trained at r = 64 and needs at most r = 8: truncated to that rank")
    assert sentences[1].startswith(
        "Step-size alarm at r = 2: a run of that rank reached a loss of 3.3000, but the adapter truncated to that rank"
    )
    assert "this learning rate or alpha does not suit r = 2" in sentences[1]


def test_a_run_better_than_the_cut_says_that_low_ranks_are_judged_by_runs():
    curve = fast_curve(TOP)

    sentences = in_words(curve, partings(curve, [run(2, 1.5, run_id="a")], 0.02), {2})

    assert "Judge low ranks by runs" in sentences[1]


def test_a_low_rank_is_never_advised_against_on_the_curve_alone():
    sentences = in_words(fast_curve(TOP), (), ())

    assert "This does not rule out r = 2" in sentences[2]
    assert sentences[2].endswith("independent runs or a sweep can check this.")
    assert "Truncated adapters below r = 8 were trained for a few more steps, 2 in total." == sentences[3]


@pytest.mark.parametrize(("independent", "times"), [((), 1), ((2,), 1), ((8,), 0)])
def test_a_curve_says_what_it_does_not_show_of_its_pick_and_leaves_what_to_ship_to_the_answers(independent, times):
    text = " ".join(in_words(fast_curve(TOP), (), independent))

    assert times == text.count("A run of r = 8 from the start may end higher or lower than the truncated adapter")
    assert "ship" not in text


@pytest.mark.parametrize(
    ("independent", "check"),
    [
        ({2, 8}, "of these ranks, only r = 2 also ran independently."),
        ({2, 4}, "of these ranks, r = 2 and 4 also ran independently."),
        ({8}, "independent runs or a sweep can check this."),
    ],
)
def test_only_lower_ranks_that_ran_are_named_as_a_check(independent, check):
    curve = fast_curve(run(64, 1.5, cuts={8: 1.51, 4: 1.6, 2: 1.7}))

    (sentence,) = (each for each in in_words(curve, (), independent) if "does not rule out" in each)

    assert sentence.startswith("This does not rule out r = 2 to 4: ")
    assert sentence.endswith(check)


def test_where_no_noise_is_measured_the_curve_says_which_it_assumes():
    reading = read(fast_curve(TOP), [TOP, run(2, 1.7, run_id="low")], run_sd=None)

    assert reading.sentences[-1].endswith(
        "measure the noise of one run. To compare the curve with runs, 0.02 nats are assumed."
    )


def test_an_adapter_that_uses_all_its_rank_says_so():
    curve = fast_curve(run(64, 1.5, cuts={32: 1.6}))

    assert (
        "This adapter uses all of its r = 64: every truncation loses more than 0.02 nats." == in_words(curve, (), ())[0]
    )


def test_of_several_curves_the_best_trained_one_comes_first():
    other = run(64, 1.5, cuts={8: 1.6}, run_id="another rate")

    assert ["another rate", "top"] == [curve.run_id for curve in fast_curves([TOP, run(8, 1.0), other])]


def test_independent_runs_share_seed_and_learning_rate_with_the_run_that_was_cut():
    alike = run(2, 1.7, run_id="alike")
    others = [run(2, 1.7, run_id="seed", seed=1), run(2, 1.7, run_id="rate", learning_rate=1e-5), TOP]

    assert ["alike"] == [run.run_id for run in independent_runs(fast_curve(TOP), [*others, alike])]


@pytest.mark.parametrize(
    ("cuts", "saved", "r"),
    [
        ({32: 1.601, 8: 1.615, 2: 1.640}, True, 8),
        ({8: 1.601, 2: 1.602}, True, 2),
        ({8: 1.601, 2: 1.602}, False, 8),  # 2 would do after training on, but that adapter was not kept
        ({32: 1.9}, True, None),
    ],
)
def test_the_adapter_ships_at_the_lowest_rank_that_will_do_and_is_there(cuts, saved, r):
    point = shippable(fast_curve(run(64, 1.600, cuts=cuts, saved=saved)))

    assert r == (point.r if point else None)
