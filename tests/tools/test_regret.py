"""The regret of choosing a rank, worked out by hand."""

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
    table = regret_table(both({4: 50.0, 64: 54.0}, {8: 60.0, 16: 59.0, 64: 59.0}))

    regret = {row["rule"]: row["score"]["regret"][0] for row in table["alternatives"]}
    assert ((3 + 0) / 2, (2 + 1) / 2, (0 + 1) / 2) == tuple(regret[r] for r in ("8", "16", "64"))


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


def test_the_capacity_rule_needs_data_and_size():
    """0.7 M parameters a rank hold 1.4 M tokens at 1.24 B."""
    assert (1, 2, 256) == tuple(capacity_rank(tokens, 1_240_000_000) for tokens in (1.4e6, 1.5e6, 1e12))
    assert capacity_rank(None, 10**9) is None and capacity_rank(10**6, None) is None
