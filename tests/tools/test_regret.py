"""The regret of choosing a rank, worked out by hand."""

import pytest

from rankviz.core.forecast.lines import rank_lines
from tests.support.runs.studies_toy import base, evidence, point, study
from tools.forecast.regret import capacity_rank, chosen_rank, regret_table


def lines_of(values, name="a"):
    """One publication with a line of scores by rank."""
    return [
        point(r, value, study_id=name, metric="accuracy_percent", higher_is_better=True) for r, value in values.items()
    ]


def both(first, second):
    losses = [point(4, 2.0, study_id="a", task="loss"), point(64, 1.0, study_id="a", task="loss")]
    return evidence(
        [*lines_of(first), *losses, *lines_of(second, "b")],
        [study("a", task_kind="simple"), study("b", task_kind="simple")],
        [base()],
    )


def test_regret_is_interpolated_over_log2_and_publications_weigh_the_same():
    """a: 50 at r = 4, 54 at r = 64, so 52 at r = 16; b: 60 at r = 8, its best, and 59 at r = 16 and above."""
    table = regret_table(both({4: 50.0, 64: 54.0}, {8: 60.0, 16: 59.0}))

    regret = {row["rule"]: row["score"]["regret"][0] for row in table["alternatives"]}
    assert ((4 + 0) / 2, (3 + 0) / 2, (2 + 1) / 2, (0 + 1) / 2) == tuple(regret[r] for r in ("4", "8", "16", "64"))
    assert [0.5, 0.0, 1.0] == pytest.approx(table["gains"]["all"]["16"]["gain"])


def test_the_advice_for_a_publication_is_chosen_from_the_others():
    """From b alone r = 16 is chosen, since r = 32 gains nothing; from a alone, which rises a point a doubling, 64."""
    table = regret_table(both({4: 50.0, 64: 54.0}, {8: 60.0, 16: 59.0}))

    assert {"simple": {"16": 1, "64": 1}} == table["chosen"]
    (advice,) = [row for row in table["alternatives"] if row["rule"] == "advice"]
    assert (2 + 1) / 2 == advice["score"]["regret"][0]
    assert 32 == chosen_rank([])


def test_a_doubling_that_gains_a_quarter_of_a_point_is_chosen():
    rising = rank_lines(both({16: 50.0, 32: 50.25}, {16: 60.0, 32: 60.25}))

    assert 32 == chosen_rank([line for line in rising if line.metric == "score"])


def test_the_capacity_rule_needs_data_and_size():
    """0.7 M parameters a rank hold 1.4 M tokens at 1.24 B."""
    assert (1, 2, 256) == tuple(capacity_rank(tokens, 1_240_000_000) for tokens in (1.4e6, 1.5e6, 1e12))
    assert capacity_rank(None, 10**9) is None and capacity_rank(10**6, None) is None
