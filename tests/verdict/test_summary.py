"""The three answers of a sweep, each in one sentence."""

import numpy as np
import pytest

from rankviz.api import Api
from rankviz.core.runs.metric import LOSS, TOKEN_ACCURACY
from rankviz.core.runs.words import still_training
from rankviz.ui.parts.curve import curve
from rankviz.verdict import judge, losses_of, summary
from tests.support.runs import questions
from tests.support.runs.finished_runs import counted, finished, finished_events, text_of
from tests.support.runs.verdict_tables import planted, table


@pytest.fixture
def api(tmp_path):
    return Api(home=tmp_path)


def answers(api, sweep):
    verdict = api.verdicts.of_sweep(sweep.sweep_id).verdict
    return {each.about: each for each in summary(verdict, api.decisions.of(sweep.sweep_id), None)}


def test_one_run_per_rank_says_what_to_train_what_to_ship_and_that_nothing_is_tested(api):
    sweep = finished(api, {4: 3.0, 64: 1.6})

    given = answers(api, sweep)

    assert ["Best rank so far", "Smallest good adapter", "How sure"] == list(given)
    # exp(3.0 - 1.6) = 4.06
    assert "differ by 1.400 nats (4.1 times the perplexity). The noise of one run is not" in given["How sure"].sentence
    assert "r = 64, 64.0 MB" == given["Smallest good adapter"].value
    assert (
        "The adapter that was trained at this rank: measured held-out loss 1.6000."
        == given["Smallest good adapter"].sentence
    )
    assert "Not tested" == given["How sure"].value


def test_several_seeds_say_which_ranks_are_worse_and_the_mean_of_what_is_shipped(api):
    given = answers(api, finished(api, {4: 2.0, 16: 1.9, 64: 1.5}, seeds=(0, 1, 2)))

    assert ("r = 64", "Settled") == (given["Best rank so far"].value, given["How sure"].value)
    assert "every lower rank is worse by more than the noise" in given["Best rank so far"].sentence
    assert "With 95 % confidence, r = 4 and 16 are worse than r = 64." == given["How sure"].sentence
    assert "1.5000, the best of 3 seeds (mean 1.6000)." in given["Smallest good adapter"].sentence


def test_ranks_that_the_noise_hides_are_not_settled_and_equal_ones_are():
    noisy = judge(planted(np.random.default_rng(0), {4: 2.0, 16: 2.0}, run_sd=0.2))
    same = judge(table({4: [[2.0, 2.1], [2.001, 2.1]], 16: [[2.0, 2.1], [2.0, 2.1]]}), tolerance=0.5)

    hidden, equal = summary(noisy, None, None)[-1], summary(same, None, None)[-1]

    assert "Not settled" == hidden.value
    assert hidden.sentence.endswith("with 3 seeds per rank.")
    assert "Settled" == equal.value
    assert "With 95 % confidence, r = 4 is equal to r = 16 within 0.5 nats (65 % in perplexity)." == equal.sentence


def test_an_accuracy_names_the_best_and_the_smallest_rank_to_consider(api):
    sweep = counted(api, {4: 60, 16: 80})
    verdict = judge(losses_of(sweep.runs, TOKEN_ACCURACY), metric=TOKEN_ACCURACY)

    best, smallest, sure = summary(verdict, None, None)

    assert ("Best rank", "r = 16", "It has the highest token accuracy: 81.0 %.") == best[:3]
    assert ("Smallest rank to consider", "r = 16") == smallest[:2]
    assert "r = 4 is worse than r = 16" in sure.sentence


def test_the_lowest_rank_of_all_has_no_lower_one_to_try(api):
    one, four = (answers(api, finished(api, {r: 1.4, 16: 1.5, 64: 1.5}))["Best rank so far"].sentence for r in (1, 4))

    assert "It has the lowest loss. No lower rank exists." == one
    assert "It is also the lowest rank of these runs; no lower one was trained." in four


def test_a_single_rank_asks_for_a_second_one_and_nothing_has_no_answer():
    (only,) = summary(judge(table({8: [[2.0]]})), None, None)

    assert ("Only rank", "r = 8") == only[:2]
    assert "train a second rank" in only.sentence
    assert () == summary(None, None, None)


def test_no_sweep_that_ships_has_more_than_three_sentences(api):
    for sweep in api.runs.recorded():
        verdict = api.verdicts.of_sweep(sweep.sweep_id).verdict
        given = summary(verdict, api.decisions.of(sweep.sweep_id), api.verdicts.fast_curve(sweep.sweep_id))

        assert 1 <= sum(each.sentence.count(". ") + 1 for each in given) <= 4
        assert 3 >= len(given)


def test_a_difference_of_nats_is_explained_as_perplexity():
    assert "0.02 nats (2 % in perplexity)" == LOSS.explained(0.02, "g")  # exp(0.02) = 1.0202
    assert "1.000 nats (2.7 times the perplexity)" == LOSS.explained(1.0)
    assert "2.0 points" == TOKEN_ACCURACY.explained(2.0)
    assert "1e+18 nats" == LOSS.explained(1e18, ".3g")


def test_after_few_steps_nothing_is_called_settled(api):
    sweep = finished(api, {4: 2.0, 64: 1.5}, seeds=(0, 1, 2))
    verdict, decision = api.verdicts.of_sweep(sweep.sweep_id).verdict, api.decisions.of(sweep.sweep_id)

    few, enough = (summary(verdict, decision, None, steps=steps)[-1] for steps in (12, 200))

    assert few.sentence.endswith(
        "Training had only 12 steps: this says little, and longer training may change the ranks."
    )
    assert "step" not in enough.sentence
    assert ("Too few steps", "Settled") == (few.value, enough.value)
    assert "Not tested" == summary(judge(table({4: [[2.0]], 8: [[2.1]]})), None, None, steps=12)[-1].value


def test_an_adapter_that_is_not_here_is_named_with_the_reason(api):
    sweep = finished(api, {4: 2.0, 64: 1.5})
    verdict, decision = api.verdicts.of_sweep(sweep.sweep_id).verdict, api.decisions.of(sweep.sweep_id)

    ship = summary(verdict, decision, None, not_here="It is elsewhere.")[1]

    assert ("Smallest good adapter", "r = 64, 64.0 MB") == ship[:2]
    assert ship.sentence.endswith("1.5000. It is elsewhere.")


VERDICT_WORDS = ("best", "Best", "ship", "Ship", "Smallest", "Train next", "distinguish", "Enough for")


def test_a_sweep_that_still_trains_is_not_judged(api):
    """Two of three runs have finished, with losses that would decide."""
    store = api.workspace.store
    sweep_id = store.create(questions.sweep(ranks=(4, 16, 64), seeds=(0,), max_steps=2))
    for run in store.sweep(sweep_id).runs[:2]:
        for event in finished_events(run.request, 3.0 - run.request.r / 16):
            store.append(run.run_id, event)

    going = curve(api, sweep := store.sweep(sweep_id))

    assert "Still training: 2 of 3 runs ended. Ranks are compared when all have ended." == text_of(going.summary)
    assert not [word for word in VERDICT_WORDS if word in going.summary + going.details]
    assert (None, None, None) == (going.verdict, going.decision, going.ship)
    assert going.chart
    assert still_training(sweep) == text_of(going.summary)

    last = sweep.runs[2]
    for event in finished_events(last.request, 1.0):
        store.append(last.run_id, event)

    assert "" == still_training(store.sweep(sweep_id))
    assert "How sure" in curve(api, store.sweep(sweep_id)).summary
