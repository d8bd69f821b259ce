"""The published forecast, the quick look and the regret of a choice, on shipped lines and on small lines by hand."""

import numpy as np
import pytest

from rankviz.catalog.studies import load_evidence, load_rank_lines, read_forecast
from rankviz.core.forecast.bands import RankLine
from rankviz.paths import ASSETS
from tests.support.runs.studies_toy import base, evidence, point, study
from tools.forecast.lines import rank_lines
from tools.forecast.published import counted, crps
from tools.forecast.quick_look import quick_look_check
from tools.forecast.regret import chosen_rank, regret_table


def line(*values, name="a", kind="simple", metric="score", ranks=(4, 16, 64), error=0.2):
    return RankLine(
        metric=metric,
        kind="loss" if metric == "loss" else kind,
        publication=name,
        study_id=name,
        base_model=name,
        task="task",
        ranks=ranks,
        values=values,
        standard_errors=(error,) * len(ranks),
        parameters=10**9,
        base=True,
    )


def test_the_crps_of_two_draws_by_hand():
    # E|X - y| = (1 + 3) / 2, E|X - X'| = 2 / 2
    assert 1.5 == crps(np.array([1.0, 3.0]), 0.0)
    assert 0.0 == crps(np.array([2.0, 2.0]), 2.0)


def test_what_holds_is_a_share_of_publications_with_the_error_of_one_that_is_left_out():
    lines = [
        *(line(50.0, 52.0, 50.5) for _ in range(3)),
        line(50.0, 50.0, 50.0, name="b"),
        line(50.0, 50.0, 52.0, name="c", kind="shift"),
    ]

    found = counted(lines)

    (worse,) = found["high_worse"]
    assert ("any", 3, 5, 0.333, 0.6) == tuple(worse.values())[:5]
    # 1 against 0, and 0 against the mean of 1 and 0, twice.
    assert 0.667 == worse["left_out_error"]


def test_the_shipped_forecast_is_of_the_shipped_evidence():
    evidence = load_evidence(ASSETS)

    assert (*rank_lines(evidence), *rank_lines(evidence, rl=True)) == load_rank_lines(ASSETS), "run `make forecast`"


@pytest.fixture(scope="module")
def check():
    return quick_look_check(load_evidence(ASSETS))


def test_the_shipped_record_is_of_the_shipped_evidence(check):
    assert read_forecast(ASSETS)["quick_look"] == check, "run `make forecast`"


def test_it_holds_on_the_shipped_lines(check):
    loss, score = check["loss"], check["score"]

    assert 0.95 <= loss["within"]
    assert 0.80 <= loss["inside_80"] <= 0.97
    assert loss["width_in_ranges"] <= 1.2
    assert 0.78 <= min(score["within"], score["within_of_all_ranks"])
    assert score["within_always_16"] < score["within"]


def lines_of(values, name="a"):
    """One publication with a line of scores by rank."""
    return [
        point(r, value, study_id=name, metric="accuracy_percent", higher_is_better=True) for r, value in values.items()
    ]


def test_the_advice_for_a_publication_is_chosen_from_the_others():
    """r = 16 where doubling gained nothing in three others, and the default where only two ran both ranks."""
    flat = {16: 50.0, 32: 50.0, 64: 50.0}
    points = [point for name in "abc" for point in lines_of(flat, name)] + lines_of({16: 50.0, 64: 54.0}, "d")
    losses = [point(16, 2.0, study_id="a", task="loss"), point(64, 1.0, study_id="a", task="loss")]
    table = regret_table(evidence([*points, *losses], [study(n, task_kind="simple") for n in "abcd"], [base()]))

    assert {"simple": {"16": 1, "32": 3}} == table["chosen"]
    (advice,) = [row for row in table["alternatives"] if row["rule"] == "advice"]
    assert 4 / 4 == advice["score"]["regret"][0]
    assert 32 == chosen_rank([])
