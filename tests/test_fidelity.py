"""How a fast curve is compared with independent runs, worked by hand."""

import pytest

from rankviz.core import fidelity
from tests.test_fast_curve import TOP, run


def compared(**more):
    independent = {2: 1.61, 8: 1.62, 32: 1.59, **more.pop("independent", {})}
    runs = [run(r, loss, run_id=str(r)) for r, loss in independent.items()]
    return fidelity.case("a", [*runs, TOP, *more.pop("others", ())], base="b", data="d", alpha="fixed")


def test_a_case_has_the_cuts_minus_the_runs_and_the_regret_of_the_pick():
    found = compared()

    assert {2: 0.03, 8: -0.005, 32: 0.011} == pytest.approx(dict(found.differences))
    # the curve picks 8 (1.615 is within 0.02 of 1.600); its run has 1.62, and the best run, of 32, 1.59
    assert (8, pytest.approx(0.03)) == (found.picked, found.regret)
    assert pytest.approx(0.025) == found.regret_of_cut  # 1.615
    # the run of 64 has 1.600
    assert pytest.approx(0.01) == found.regret_of_highest


def test_a_rank_stands_at_its_best_learning_rate():
    found = compared(others=[run(8, 1.58, run_id="another rate")])

    assert 1.58 == found.independent[8]


def test_a_rank_without_a_run_is_no_case():
    assert fidelity.case("a", [TOP, run(8, 1.6)], base="b", data="d", alpha="fixed") is None


def test_the_report_has_medians_of_absolute_differences_and_counts_regrets_within_the_tolerance():
    cases = [compared(), compared(independent={32: 1.62})]
    said = fidelity.report(cases)

    # r = 8: 0.005 twice; r = 32: 0.011 and 0.019
    assert 0.008 == said["median_absolute_difference"]["r >= 8, fixed alpha"]
    assert 0.03 == said["median_absolute_difference"]["r = 2 and 4, fixed alpha"]
    assert None is said["median_absolute_difference"]["r >= 8, alpha = r"]
    # runs of 8, 32, 64: 1.62, 1.59, 1.60 apart by 0.03, 0.02, 0.01, and 1.62, 1.62, 1.60 by 0, 0.02, 0.02
    assert 0.02 == said["independent_runs_apart"]["r >= 8, fixed alpha"]
    assert (2, 1) == (said["highest_within_tolerance"], said["cut_within_tolerance"])
    assert (1, 0.03) == (said["regret_within_tolerance"], said["largest_regret"])
    # means over the two: r = 2 0.03; r = 8 -0.005, r = 32 -0.004; runs of 8 (the pick) 1.62 and of 64, the best, 1.60
    assert {
        "settings": 1,
        "cases": 2,
        "r >= 8": 0.0045,
        "r = 2 and 4": 0.03,
        "regret_within_tolerance": 2,
        "largest_regret": 0.02,
    } == said["averaged_over_seeds, fixed alpha"]
    assert {"cases": 2, "median_absolute": 0.015, "low": -0.019, "high": 0.011} == said["by_rank"]["32"]
    assert None is fidelity.report(cases[:1])["averaged_over_seeds, fixed alpha"]


def test_a_row_of_the_report_is_the_case_again():
    said = fidelity.report([compared()])
    (row,) = said["cases"]

    assert said == fidelity.report([fidelity.case_of_row(row)])
    assert "1970-01-01" == said["made"] == row["made"]
    assert {2, 8, 32} == fidelity.case_of_row(row).differences.keys()
