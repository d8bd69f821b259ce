"""The sentences of a verdict, and the three answers of a sweep."""

from rankviz.core.runs.metric import EXACT_MATCH
from rankviz.core.runs.words import still_training
from rankviz.ui.parts.sweep import judged
from rankviz.verdict import judge, sentences, summary
from tests.support.runs import questions
from tests.support.runs.finished_runs import finished, finished_events, text_of
from tests.support.runs.verdict_tables import table


def answers(api, sweep, **more):
    verdict = api.verdicts.of_sweep(sweep.sweep_id)
    return {each.about: each for each in summary(verdict, api.verdicts.decide(sweep.sweep_id), None, **more)}


def all_right(examples=64, more=()):
    ranks = {r: [[0.0] * examples] * 3 for r in (4, 16, 64)} | dict(more)
    return " ".join(sentences(judge(table(ranks), metric=EXACT_MATCH)))


def test_equal_accuracies_are_not_called_equal_before_enough_examples_show_it():
    words = all_right()

    assert words.startswith("r = 4 has the highest exact match. r = 16 and 64 cannot be distinguished from it.")
    assert "about 1,024 held-out examples instead of 64 would confirm it" in words
    assert "nats" not in words and "loss" not in words
    assert "The rank makes no practical difference here: all differences are within 1 point." in all_right(2000)
    assert "Worse than r = 4 by more than the noise" in all_right(more={2: [[100.0] * 64] * 3})


def test_copied_runs_give_no_verdict():
    words = " ".join(sentences(judge(table({4: [[1.0, 2.0]] * 3, 16: [[1.5, 2.0]] * 3}))))

    assert "No verdict possible: runs with different seeds have identical values" in words


def test_one_run_per_rank_says_what_to_train_what_to_ship_and_that_nothing_is_tested(api):
    best, ship, sure = answers(api, finished(api, {4: 3.0, 64: 1.6})).values()

    assert ("Best rank so far", "r = 64") == best[:2]
    assert ("Smallest good adapter", "r = 64, 64.0 MB") == ship[:2]
    assert ship.sentence.endswith("measured held-out loss 1.6000.")
    # exp(3.0 - 1.6) = 4.06
    assert ("How sure", "Not tested") == sure[:2]
    assert "differ by 1.400 nats (4.1 times the perplexity). The noise of one run is not" in sure.sentence


def test_several_seeds_say_which_ranks_are_worse_and_the_mean_of_what_is_shipped(api):
    sweep = finished(api, {4: 2.0, 16: 1.9, 64: 1.5}, seeds=(0, 1, 2))

    best, ship, sure = answers(api, sweep).values()

    assert ("r = 64", "Settled") == (best.value, sure.value)
    assert "every other rank is worse by more than the noise" in sure.sentence
    assert "1.5000, the best of 3 seeds (mean 1.6000)." in ship.sentence
    assert "Training had only 12 steps" in answers(api, sweep, steps=12)["How sure"].sentence


VERDICT_WORDS = ("best", "Best", "ship", "Ship", "Smallest", "Train next", "distinguish", "Enough for")


def test_a_sweep_that_still_trains_is_not_judged(api):
    """Two of three runs have finished, with losses that would decide."""
    store = api.workspace.store
    sweep_id = store.create(questions.sweep(ranks=(4, 16, 64), seeds=(0,), max_steps=2))
    for run in store.sweep(sweep_id).runs[:2]:
        for event in finished_events(run.request, 3.0 - run.request.r / 16):
            store.append(run.run_id, event)

    unfinished = judged(api, sweep := store.sweep(sweep_id))

    assert still_training(sweep) == text_of(unfinished.summary)
    assert not [word for word in VERDICT_WORDS if word in unfinished.summary + unfinished.words]
    assert ("", None, None) == (unfinished.above_best, unfinished.decision, unfinished.adapter)
    assert unfinished.by_rank
    last = sweep.runs[2]
    for event in finished_events(last.request, 1.0):
        store.append(last.run_id, event)
    assert "How sure" in judged(api, store.sweep(sweep_id)).summary
