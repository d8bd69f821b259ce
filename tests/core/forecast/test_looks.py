"""Which learning rate is better at one rank, and which rank to take by a score, from runs set down by hand."""

import math
from dataclasses import replace

import pytest

from rankviz.core.forecast.quick_look import rate_look, score_look
from rankviz.core.runs.metric import TOKEN_ACCURACY
from tests.support.runs.finished_runs import plain_sweep

RECORD = {"lines": 72, "within": 0.85, "within_of_all_ranks": 0.84, "within_always_16": 0.65}


def at_rates(losses: dict[float, float], seeds=(0,)):
    return [
        replace(run, request=replace(run.request, learning_rate=rate))
        for rate, loss in losses.items()
        for run in plain_sweep({16: loss}, seeds=seeds).runs
    ]


def test_the_better_rate_is_named_with_what_it_is_worth_and_what_to_do_next():
    look = rate_look(at_rates({1e-3: 1.7, 3e-3: 1.6}))

    assert (16, 3e-3, None) == (look.r, look.best, look.differs)
    first, worth, unknown, then, last = look.sentences
    assert "At r = 16 learning rate 0.003 has the lower held-out loss: 1.7000 at 0.001, 1.6000 at 0.003." == first
    assert "The rate is worth 0.1 nats (6.2 % of the loss)." == worth
    assert "The noise of one run is not known" in unknown
    assert "Do next: train r = 16 at 0.009 too, because the best rate may lie beyond 0.003." == then
    assert last.endswith("a quick look (r = 4 and 64) at learning rate 0.003.")


def test_the_lower_rate_is_followed_downwards():
    assert any("at 0.000333 too" in text for text in rate_look(at_rates({1e-3: 1.5, 3e-3: 1.6})).sentences)


@pytest.mark.parametrize(("second", "differs"), [(1.9, True), (1.71, False)])
def test_with_repeats_the_difference_is_told_in_noise(second, differs):
    # Each further seed is worse by 0.1: a standard deviation of 0.1 / sqrt(2), times 2.8 0.198.
    look = rate_look(at_rates({1e-3: 1.6, 3e-3: second}, seeds=(0, 1)))

    assert differs is look.differs
    assert any("times the noise of one run (0.071 nats, from 2 repeats)" in text for text in look.sentences)
    assert differs is not any("differ by no more than noise" in text for text in look.sentences)


def test_a_rate_that_diverged_is_named():
    look = rate_look(at_rates({1e-3: 1.6, 3e-3: math.nan}))

    assert look.differs and 1e-3 == look.best
    assert "1.6000 at 0.001, no finite loss at 0.003." in look.sentences[0]
    assert look.sentences[-1].startswith("Do next: a quick look")


def test_other_sweeps_are_no_rate_look():
    assert None is rate_look(at_rates({1e-3: 1.6})) is rate_look(plain_sweep({4: 1.6, 16: 1.5}).runs)
    assert None is rate_look(at_rates({1e-3: math.nan, 3e-3: math.nan}))


def scored(correct: dict[int, tuple[int, ...]]):
    """One run for each count of 1,000 correct tokens."""
    return [
        replace(run, loss_after=replace(run.loss_after, tokens=1000, correct_tokens=count))
        for r, counts in correct.items()
        for run, count in zip(plain_sweep({r: 1.0}, seeds=tuple(range(len(counts)))).runs, counts, strict=True)
    ]


@pytest.mark.parametrize(("high", "pick"), [(850, 64), (815, 16)])
def test_by_a_score_the_higher_rank_is_taken_only_beyond_the_noise_of_the_repeat(high, pick):
    look = score_look(scored({4: (795, 805), 64: (high,)}), TOKEN_ACCURACY, RECORD)

    assert (pick, (4, 80.0), pytest.approx(0.7071, abs=1e-4)) == (look.pick, look.low, look.noise)
    assert f"To train next by token accuracy: r = {pick}." == look.sentences[0]
    assert "On 72 published lines" in look.sentences[-1]


def test_repeats_that_agree_have_the_noise_of_their_examples():
    look = score_look(scored({4: (800, 800), 64: (850,)}), TOKEN_ACCURACY, RECORD)

    assert 0 < look.noise


def test_without_a_repeat_a_large_difference_still_counts():
    look = score_look(scored({4: (498,), 64: (786,)}), TOKEN_ACCURACY, RECORD)

    assert 64 == look.pick
    assert "of so many examples alone" in look.sentences[1]
    fallen = score_look(scored({4: (786,), 64: (498,)}), TOKEN_ACCURACY, RECORD)
    assert 16 == fallen.pick and "Of what was measured r = 4 is better" in fallen.sentences[1]


def test_where_every_rank_was_trained_twice_a_verdict_compares_them():
    assert score_look(scored({4: (800, 801), 64: (850, 851)}), TOKEN_ACCURACY, RECORD) is None
