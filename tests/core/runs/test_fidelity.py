"""How a fast curve is compared with independent runs, worked by hand."""

import json

import pytest

from benchmarks import fidelity
from rankviz.core.runs import fast_curve
from tests.core.runs.test_fast_curve import TOP, run
from tests.support.runs.toy import ASSETS


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


def test_a_rank_stands_at_its_best_learning_rate():
    case = compared(others=[run(8, 1.58, run_id="another rate")])

    assert 1.58 == case.independent[8]


def test_a_rank_without_a_run_is_no_case():
    assert fidelity.case_of("a", [TOP, run(8, 1.6)], base="b", data="d", alpha="fixed") is None


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
    assert 1 == fidelity.report(cases[:1]).settings[0].cases


def test_a_report_is_read_as_it_was_written():
    report = fidelity.report([compared()])

    assert report == fast_curve.from_json(json.loads(json.dumps(fidelity.as_json(report))))
    assert "1970-01-01" == report.made == report.cases[0].made
    assert {2, 8, 32} == report.cases[0].differences.keys()


def test_the_shipped_report_is_read_and_written_without_a_change():
    text = (ASSETS / "fidelity.json").read_text(encoding="utf-8")

    assert text == json.dumps(fidelity.as_json(fast_curve.from_json(json.loads(text))), indent=1) + "\n"


def test_settings_keep_bases_tasks_and_rates_apart_and_a_tuned_rate_is_each_cases_own():
    first, *others = compared(), compared()._replace(learning_rate=0.5), compared()._replace(alpha="r", learning_rate=1)
    tuned_otherwise = others[1]._replace(learning_rate=2)

    settings = fidelity.as_json(fidelity.report([first, *others, tuned_otherwise]))["settings"]

    assert [(1, first.learning_rate), (1, 0.5), (2, None)] == [
        (each["cases"], each["learning_rate"]) for each in settings
    ]
