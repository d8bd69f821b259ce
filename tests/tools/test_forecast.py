"""The published forecast, its left-out scores and what holds over published lines, on small lines by hand."""

import numpy as np
import pytest

from rankviz.catalog.forecast import load_rank_lines
from rankviz.catalog.studies import load_evidence
from rankviz.core.forecast.bands import RankLine
from rankviz.paths import ASSETS
from tools.forecast.lines import rank_lines
from tools.forecast.published import (
    DRAWS,
    Mixture,
    counted,
    crps,
    left_out,
    mixture,
)


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


def test_half_of_the_draws_are_the_rule_with_its_errors_and_half_published_gaps_of_either_sign():
    # The rule says 1.5 at r = 4 and 0.5 at r = 16. "a" is 1 short of it at both, "b" has 3 more at its only rank.
    known = mixture([line(49.5, 50.5, 50.0), line(45.5, 50.0, name="b", ranks=(4, 64))])

    assert (-1.0, 3.0) == (known.errors.min(), known.errors.max())
    # Half of the weight is on each publication.
    assert 0.5 == pytest.approx((known.errors < 1.0).mean(), abs=0.1)
    assert (-4.5, 4.5) == (known.gaps.min(), known.gaps.max())
    assert 0.0 == pytest.approx(np.median(known.gaps), abs=0.51)
    assert 2 * DRAWS == len(known.shortfall(4, 64))


def test_the_forecast_is_nothing_at_the_reference_and_turns_round_above_it():
    known = Mixture(slope=2.0, errors=np.array([-1.0, 1.0]), gaps=np.array([-3.0, 3.0]))

    assert [2.0, 4.0, -3.0, 3.0] == known.shortfall(4, 64).tolist()
    assert not known.shortfall(64, 64).any()
    assert [-2.0, -4.0, 3.0, -3.0] == known.shortfall(64, 4).tolist()


def test_each_publication_is_forecast_from_the_others_alone():
    seen = [line(20.0, 40.0, 50.0), *(line(49.0, 49.5, 50.0, name=name) for name in "bcd")]

    (lowest,) = [point for point in left_out(seen) if point.publication == "a" and point.gap == 30.0]

    assert not lowest.inside(80)
    assert lowest.crps <= max(lowest.crps_rule, lowest.crps_no_difference_band)


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
