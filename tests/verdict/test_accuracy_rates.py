"""How often verdicts on accuracies are right: drawn answers, from equal ranks to gaps of thirty points."""

import numpy as np
import pytest

from rankviz.core.runs.metric import EXACT_MATCH
from rankviz.verdict import DIFFERENT, judge, sentences
from tests.support.runs.verdict_tables import table


def answers(generator, chances, *, seeds=3, examples=64, spread=0.8, run_sd=0.0):
    """Right or wrong answers as errors in points. chances: of a rank, to answer an example of middle difficulty; a
    run's own luck moves it (in logits), as an example's difficulty does."""
    logit = {r: np.log(p / (1 - p)) for r, p in chances.items()}
    difficulty = generator.normal(0, spread, examples)
    return table(
        {
            r: [
                100.0
                * (
                    generator.random(examples)
                    > 1 / (1 + np.exp(-(logit[r] + difficulty + generator.normal(0, run_sd))))
                )
                for _ in range(seeds)
            ]
            for r in chances
        }
    )


def share_of(says, chances, times=300, **noise):
    generator = np.random.default_rng(20)
    runs = (answers(generator, chances, **noise) for _ in range(times))
    return sum(says(judge(each, metric=EXACT_MATCH)) for each in runs) / times


def no_pair_differs(verdict):
    return all(pair.call != DIFFERENT for pair in verdict.pairs)


@pytest.mark.parametrize("chance", [0.01, 0.1, 0.5, 0.95])
@pytest.mark.parametrize("run_sd", [0.0, 0.4])
def test_equal_ranks_are_called_different_in_at_most_one_of_ten_sweeps(chance, run_sd):
    assert share_of(no_pair_differs, dict.fromkeys((4, 16, 64), chance), run_sd=run_sd) >= 0.9


def test_two_runs_of_few_right_answers_never_look_sure():
    """With two seeds and two ranks the runs' means agree by chance, and often: without binomial noise the interval
    would have no width."""
    chances = {4: 0.03, 16: 0.03}

    assert share_of(no_pair_differs, chances, seeds=2, examples=32) >= 0.9
    assert share_of(lambda v: all(p.low is None or p.high > p.low for p in v.pairs), chances, seeds=2, examples=32) == 1


def test_a_gap_of_thirty_points_is_seen_with_three_seeds():
    def seen(verdict):
        return verdict.best == 16 and verdict.pair(4, 16).call == DIFFERENT

    assert share_of(seen, {4: 0.4, 16: 0.75}) >= 0.8


def test_intervals_hold_the_true_difference_in_95_of_100_sweeps():
    """Without a spread of difficulty the true difference is that of the chances."""

    def holds(verdict):
        (pair,) = verdict.pairs
        return pair.low <= 100 * (0.6 - 0.4) <= pair.high

    assert share_of(holds, {4: 0.4, 16: 0.6}, spread=0.0, times=600) >= 0.95 - 0.027


@pytest.mark.parametrize("error", [0.0, 100.0])
def test_equal_accuracies_at_a_bound_have_an_interval_that_narrows_with_examples(error):
    def half_width(examples, ranks):
        return judge(table({r: [[error] * examples] * 3 for r in ranks}), metric=EXACT_MATCH).pair(4, 16).half_width

    # The rule of three: 100 · (1 - 0.05^(1/64)) points of one pair, 0.05/3 of three.
    assert (4.573, 6.197) == (
        pytest.approx(half_width(64, (4, 16)), abs=1e-3),
        pytest.approx(half_width(64, (4, 16, 64)), abs=1e-3),
    )
    assert 0 < half_width(1000, (4, 16)) < 1


def test_the_interval_holds_a_gap_that_few_examples_hardly_show():
    """Nine of ten such sweeps have at most three wrong answers a run."""

    def holds(verdict):
        (pair,) = verdict.pairs
        return pair.low <= 3.0 - 0.05 <= pair.high

    assert share_of(holds, {4: 0.97, 16: 0.9995}, spread=0.0) >= 0.95
    assert share_of(holds, {4: 0.97, 16: 0.9995}, spread=0.0, examples=32, seeds=2) >= 0.95


def test_one_answer_that_differs_does_not_narrow_the_interval():
    none, one = [0.0] * 64, [100.0, *[0.0] * 63]
    exact = judge(table({4: [none] * 3, 16: [none] * 3}), metric=EXACT_MATCH).pair(4, 16)

    assert (
        exact.half_width
        <= judge(table({4: [none, one, none], 16: [none] * 3}), metric=EXACT_MATCH).pair(4, 16).half_width
    )


def all_right(examples=64, **others):
    ranks = {r: [[0.0] * examples] * 3 for r in (4, 16, 64)}
    return " ".join(sentences(judge(table(ranks | others.get("more", {})), metric=EXACT_MATCH)))


def test_none_of_equal_ranks_is_called_the_best():
    words = all_right()

    assert words.startswith(
        "r = 4, 16 and 64 have the same exact match, 100.0 %. This does not show that they are equal: the ranks may "
        "differ by up to 6.2 points."
    )
    assert "If r = 4 and r = 16 are really equal, about 1,024 held-out examples instead of 64 would confirm it" in words
    assert "The exact match was the same with every seed; a variation of 0.8 points" in words
    assert "highest" not in words
    assert "No verdict" not in words


def test_enough_equal_answers_show_that_the_rank_makes_no_difference():
    assert "The rank makes no practical difference here: all differences are within 1 point." in all_right(2000)


def test_ranks_that_share_the_highest_accuracy_are_both_named():
    wrong = {2: [[100.0] * 64] * 3}

    words = all_right(more=wrong)

    assert words.startswith("r = 4, 16 and 64 share the highest exact match, 100.0 %. The smallest rank that")
    assert "Worse than r = 4: r = 2 by 92.8 to" in words


def test_copied_runs_are_not_sent_to_run_more_seeds():
    mixed = [[0.0, 100.0] * 6] * 3

    words = " ".join(sentences(judge(table({4: mixed, 16: mixed}), metric=EXACT_MATCH)))

    assert "No verdict possible: runs with different seeds have identical exact matches. r = 4 and 16 have the sam" in (
        words
    )
    assert "Check that each seed is a run of its own. If it is, compare the ranks by held-out loss" in words
    assert "run each rank with the same" not in words
    losses = " ".join(sentences(judge(table({4: [[1.0, 2.0]] * 3, 16: [[1.5, 2.0]] * 3}))))
    assert "Check that each seed is a run of its own: two runs never have the same losses." in losses
