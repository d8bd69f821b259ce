"""A fast curve, worked by hand, and how far fast curves are from independent runs."""

import json
from dataclasses import replace

import pytest

from benchmarks import fidelity
from rankviz.core.runs.events import AdapterCut, Evaluated
from rankviz.core.runs.fast_curve import (
    fast_curve,
    from_json,
    pick,
    read,
    shippable,
)
from rankviz.core.runs.record import RunRecord
from tests.support.runs import questions
from tests.support.runs.toy import ASSETS


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


@pytest.mark.parametrize(("tolerance", "r"), [(0.02, 8), (0.05, 2), (0.0005, 64)])
def test_the_pick_is_the_lowest_rank_within_the_tolerance_of_the_best(tolerance, r):
    assert r == pick(fast_curve(TOP), tolerance).r


def sentences(*others, run_sd=0.02):
    return read(fast_curve(TOP), [TOP, *others], run_sd=run_sd).sentences


def test_a_run_parts_from_the_curve_beyond_two_standard_errors_of_a_difference():
    # 2 · √2 · 0.02 = 0.0566 above 1.640
    near, far = (" ".join(sentences(run(2, loss, run_id="a"))) for loss in (1.696, 1.697))

    assert "alarm" not in near
    assert "Step-size alarm at r = 2: a run of that rank reached a loss of 1.6970" in far
    assert "Judge low ranks by runs." in " ".join(sentences(run(2, 1.5, run_id="a")))


def test_only_runs_with_the_seed_and_rate_of_the_truncated_run_are_compared_with_it():
    others = [run(2, 3.3, run_id="seed", seed=1), run(2, 3.3, run_id="rate", learning_rate=1e-5)]

    assert sentences() == sentences(*others)
    assert "0.02 nats are assumed" in sentences(run(2, 1.64, run_id="a"), run_sd=None)[-1]


def test_a_low_rank_is_never_advised_against_on_the_curve_alone():
    first, rules_out, steps = sentences()

    assert first.startswith("This adapter was trained at r = 64 and needs at most r = 8: truncated to that rank")
    assert rules_out.startswith("This does not rule out r = 2")
    assert "Truncated adapters below r = 8 were trained for a few more steps, 2 in total." == steps


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


def compared(**more):
    independent = {2: 1.61, 8: 1.62, 32: 1.59, **more.pop("independent", {})}
    runs = [run(r, loss, run_id=str(r)) for r, loss in independent.items()]
    return fidelity.case_of("a", [*runs, TOP, *more.pop("others", ())], base="b", data="d", alpha="fixed")


def test_a_case_has_the_cuts_minus_the_runs_and_the_regret_of_the_pick():
    case = compared()

    assert {2: 0.03, 8: -0.005, 32: 0.011} == pytest.approx(dict(case.differences))
    # the curve picks 8 (1.615 is within 0.02 of 1.600); its run has 1.62, and the best run, of 32, 1.59
    assert (8, pytest.approx(0.03)) == (case.picked, case.regret)
    assert pytest.approx(0.025) == case.regret_of_cut  # 1.615
    # the run of 64 has 1.600
    assert pytest.approx(0.01) == case.regret_of_highest


def test_the_report_has_medians_of_absolute_differences_and_counts_regrets_within_the_tolerance():
    cases = [compared(), compared(independent={32: 1.62})]
    result = fidelity.as_json(fidelity.report(cases))

    # r = 8: 0.005 twice; r = 32: 0.011 and 0.019
    assert 0.008 == result["median_absolute_difference"]["r >= 8, fixed alpha"]
    assert 0.03 == result["median_absolute_difference"]["r = 2 and 4, fixed alpha"]
    assert None is result["median_absolute_difference"]["r >= 8, alpha = r"]
    # runs of 8, 32, 64: 1.62, 1.59, 1.60 apart by 0.03, 0.02, 0.01, and 1.62, 1.62, 1.60 by 0, 0.02, 0.02
    assert 0.02 == result["independent_runs_apart"]["r >= 8, fixed alpha"]
    assert (2, 1) == (result["highest_within_tolerance"], result["cut_within_tolerance"])
    assert (1, 0.03) == (result["regret_within_tolerance"], result["largest_regret"])
    # means over the two: runs of 32 1.605, and of 64, the best, 1.60; of 8, the pick, 1.62 and its cut 1.615
    (setting,) = result["settings"]
    assert {"2": 0.03, "8": -0.005, "32": -0.004} == setting["differences"]
    assert (2, [8], 0.02, 0.015, 0.0) == tuple(
        setting[name] for name in ("cases", "picked", "regret", "regret_of_cut", "regret_of_highest")
    )
    assert {"base": "b", "data": "d", "steps": cases[0].steps, "alpha": "fixed"}.items() <= setting.items()
    assert {"cases": 2, "median_absolute": 0.015, "low": -0.019, "high": 0.011} == result["by_rank"]["32"]
    assert 1 == fidelity.report(cases[:1]).settings[0]["cases"]


def test_the_shipped_report_is_read_and_written_without_a_change():
    text = (ASSETS / "fidelity.json").read_text(encoding="utf-8")

    assert text == json.dumps(fidelity.as_json(from_json(json.loads(text))), indent=1) + "\n"


def test_settings_keep_bases_tasks_and_rates_apart_and_a_tuned_rate_is_each_cases_own():
    first, *others = compared(), compared()._replace(learning_rate=0.5), compared()._replace(alpha="r", learning_rate=1)
    tuned_otherwise = others[1]._replace(learning_rate=2)

    settings = fidelity.as_json(fidelity.report([first, *others, tuned_otherwise]))["settings"]

    assert [(1, first.learning_rate), (1, 0.5), (2, None)] == [
        (each["cases"], each["learning_rate"]) for each in settings
    ]
