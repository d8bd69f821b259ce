"""Planted cases: tables made with known noise, judged many times. Run-to-run noise is 0.02 nats, as it was measured."""

import numpy as np
import pytest

from rankviz.verdict import CANT_TELL, DIFFERENT, judge
from tests.support.runs.verdict_tables import planted

TIMES = 300
EQUAL_LOSSES = {2: 1.8, 4: 1.8, 8: 1.8, 16: 1.8, 64: 1.8}


def two(gap=0.0):
    return {4: 1.8 + gap, 16: 1.8}


def share(losses, says, *, times=TIMES, **noise):
    """Of so many planted tables, those of whose verdict it is true."""
    generator = np.random.default_rng(20)
    return sum(says(judge(planted(generator, losses, **noise))) for _ in range(times)) / times


def all_alike(verdict):
    return len(verdict.ranks) == len(verdict.indistinguishable_from_best)


def no_pair_differs(verdict):
    return all(pair.call != DIFFERENT for pair in verdict.pairs)


NOISES = {
    "as measured": {},
    "runs and nothing else": {"rank_by_example_sd": 0.0, "rest_sd": 0.01},
    "examples": {"rank_by_example_sd": 0.3},
    "rest": {"rest_sd": 0.3},
    "seeds shared": {"shared_seed_sd": 0.05},
    "no noise between runs": {"run_sd": 0.0},
    "few examples": {"examples": 8},
}


@pytest.mark.parametrize("noise", NOISES)
def test_two_equal_ranks_with_three_seeds_are_told_apart_in_at_most_one_of_ten_sweeps(noise):
    assert share(two(), all_alike, **NOISES[noise]) >= 0.9


@pytest.mark.parametrize("noise", NOISES)
def test_nor_are_five_equal_ranks_any_two_of_them(noise):
    assert share(EQUAL_LOSSES, no_pair_differs, **NOISES[noise]) >= 0.9


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_of_three_ranks_all_hold_their_truth_in_95_of_100_sweeps(seeds):
    """Three standard deviations of 600 trials are 0.027."""

    def hold(verdict):
        truth = {4: 0.3, 8: 0.1, 16: 0.0}
        return all(pair.low <= truth[pair.r] - truth[pair.s] <= pair.high for pair in verdict.pairs)

    assert share({4: 2.1, 8: 1.9, 16: 1.8}, hold, seeds=seeds, times=600) >= 0.95 - 0.027


@pytest.mark.parametrize("others", [{}, {8: 1.8}, {2: 1.8, 8: 1.8, 64: 1.8}], ids=["2 ranks", "3 ranks", "5 ranks"])
def test_a_gap_of_0_2_is_always_seen_with_three_seeds(others):
    def seen(verdict):
        return verdict.pair(4, 16).call == DIFFERENT and 4 not in verdict.indistinguishable_from_best

    assert 1.0 == share({**two(0.2), **others}, seen)
    assert share({**two(0.2), **others}, seen, shared_seed_sd=0.02) >= 0.99


def test_one_seed_never_yields_a_verdict():
    def silent(verdict):
        return all_alike(verdict) and {CANT_TELL} == {pair.call for pair in verdict.pairs}

    assert 1.0 == share({4: 2.8, 16: 1.8, 64: 1.8}, silent, seeds=1)


def test_examples_alone_would_have_been_confidently_wrong():
    """What a comparison of one run each says: the paired standard error over examples knows nothing of the runs."""

    generator, wrong = np.random.default_rng(20), 0
    for _ in range(TIMES):
        runs = planted(generator, two(), seeds=1, examples=256, rank_by_example_sd=0.02, rest_sd=0.05)
        a, b = (run.losses for run in runs)
        wrong += abs((a - b).mean()) > 1.96 * (a - b).std(ddof=1) / 16

    assert wrong / TIMES > 0.5
