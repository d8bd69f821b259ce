"""The noise of a sweep: distributions against scipy's, how often verdicts on planted tables are right, and what would
decide a pair, against simulation."""

import numpy as np
import pytest
from scipy import stats

from rankviz.core.runs.metric import EXACT_MATCH
from rankviz.verdict import CANT_TELL, DIFFERENT, judge
from rankviz.verdict.noise import PairNoise, RunNoise, chance_to_tell, needed, studentized_range_quantile
from tests.support.runs.verdict_tables import planted, table

CLOSE = 1e-7


@pytest.mark.parametrize("freedom", (1, 1e4))
@pytest.mark.parametrize(("p", "k"), [(0.95, 3), (0.975, 20)])
def test_the_quantile_of_the_range(p, k, freedom):
    quantile = studentized_range_quantile(p, k, freedom)

    # scipy integrates to about 1e-7 of a probability, and at one degree of freedom q is steep in it
    assert float(stats.studentized_range.cdf(quantile, k, freedom)) == pytest.approx(p, abs=CLOSE)


RUN, LIKES, REST, EXAMPLES = 0.02, 0.05, 0.1, 64


def noise(ranks, seeds):
    """What fit() finds on average where the runs' luck is RUN, and so on."""
    variance = RUN**2 + REST**2 / EXAMPLES
    freedoms = {"paired_freedom": (ranks - 1) * (seeds - 1), "freedom": ranks * (seeds - 1)}
    runs = RunNoise(ranks=ranks, paired_variance=variance, variance=variance, rest_variance=REST**2, **freedoms)
    return runs, PairNoise(seeds=seeds, weight=2 / seeds, examples_variance=2 * LIKES**2 / EXAMPLES)


@pytest.mark.parametrize(
    ("ranks", "seeds", "gap", "tolerance"),
    [(2, 3, 0.1, 0.02), (3, 5, 0.05, 0.02), (3, 6, 0.0, 0.06)],
    ids=["two ranks", "three ranks", "to show them equal"],
)
def test_the_chance_to_tell_is_the_share_of_planted_sweeps_that_tell(ranks, seeds, gap, tolerance):
    generator, times = np.random.default_rng(5), 300
    losses = {4: 1.8 + gap, 16: 1.8, 64: 1.8} if ranks == 3 else {4: 1.8 + gap, 16: 1.8}
    tables = [planted(generator, losses, seeds=seeds, rank_by_example_sd=LIKES, rest_sd=REST) for _ in range(times)]
    decided = sum(judge(runs, tolerance=tolerance).pair(4, 16).call != CANT_TELL for runs in tables) / times

    chance = chance_to_tell(*noise(ranks, seeds), seeds, EXAMPLES, EXAMPLES, gap, tolerance)

    assert pytest.approx(decided, abs=0.1) == chance
    assert 0.2 < chance < 0.99


def test_more_examples_do_not_help_where_runs_are_the_noise_and_do_where_examples_are():
    runs, pair = noise(3, 3)
    quiet = RunNoise(**{**vars(runs), "paired_variance": 1e-6, "variance": 1e-6, "rest_variance": 1e-6})
    fussy = PairNoise(seeds=3, weight=2 / 3, examples_variance=0.02**2)

    assert needed(runs, pair, EXAMPLES, 0.03, 0.02).examples is None
    # The interval is about 2.4 · 0.02 / sqrt(examples / 64): 0.024 with four times as many, 0.017 with eight times.
    assert 8 * EXAMPLES == needed(quiet, fussy, EXAMPLES, 0.03, 0.001).examples


TIMES = 300


def share(losses, says, *, times=TIMES, **noise):
    """Of so many planted tables, those of whose verdict it is true."""
    generator = np.random.default_rng(20)
    return sum(says(judge(planted(generator, losses, **noise))) for _ in range(times)) / times


def no_pair_differs(verdict):
    return all(pair.call != DIFFERENT for pair in verdict.pairs)


@pytest.mark.parametrize("seeds", [2, 3])
def test_intervals_of_three_ranks_all_hold_their_truth_in_95_of_100_sweeps(seeds):
    """Three standard deviations of 600 trials are 0.027."""

    def hold(verdict):
        truth = {4: 0.3, 8: 0.1, 16: 0.0}
        return all(pair.low <= truth[pair.r] - truth[pair.s] <= pair.high for pair in verdict.pairs)

    assert share({4: 2.1, 8: 1.9, 16: 1.8}, hold, seeds=seeds, times=600) >= 0.95 - 0.027


def answers(generator, chances, *, seeds=3, examples=64, spread=0.8, run_sd=0.0):
    """Right or wrong answers as errors in points. chances: of a rank, to answer an example of middle difficulty; a
    run's own luck moves it (in logits), as an example's difficulty does."""
    logit = {r: np.log(p / (1 - p)) for r, p in chances.items()}
    difficulty = generator.normal(0, spread, examples)

    def errors(r):
        drawn, odds = generator.random(examples), logit[r] + difficulty + generator.normal(0, run_sd)
        return 100.0 * (drawn > 1 / (1 + np.exp(-odds)))

    return table({r: [errors(r) for _ in range(seeds)] for r in chances})


def share_of(says, chances, times=300, **noise):
    generator = np.random.default_rng(20)
    runs = (answers(generator, chances, **noise) for _ in range(times))
    return sum(says(judge(each, metric=EXACT_MATCH)) for each in runs) / times


@pytest.mark.parametrize("chance", [0.01, 0.5])
@pytest.mark.parametrize("run_sd", [0.0, 0.4])
def test_equal_ranks_are_called_different_in_at_most_one_of_ten_sweeps(chance, run_sd):
    assert share_of(no_pair_differs, dict.fromkeys((4, 16, 64), chance), run_sd=run_sd) >= 0.9


@pytest.mark.parametrize("error", [0.0, 100.0])
def test_equal_accuracies_at_a_bound_have_an_interval_that_narrows_with_examples(error):
    def half_width(examples, ranks):
        pair = judge(table({r: [[error] * examples] * 3 for r in ranks}), metric=EXACT_MATCH).pair(4, 16)
        return (pair.high - pair.low) / 2

    # The rule of three: 100 · (1 - 0.05^(1/64)) points of one pair, 0.05/3 of three.
    assert (4.573, 6.197) == (
        pytest.approx(half_width(64, (4, 16)), abs=1e-3),
        pytest.approx(half_width(64, (4, 16, 64)), abs=1e-3),
    )
    assert 0 < half_width(1000, (4, 16)) < 1
