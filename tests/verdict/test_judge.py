"""The verdict on small tables, worked by hand and against scipy, on gaps in a table, and on sweeps that ship."""

import json
import math
from collections import defaultdict
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats
from scipy.stats import studentized_range

from rankviz.api import Api
from rankviz.core.forecast.quick_look import APART
from rankviz.core.runs.metric import EXACT_MATCH
from rankviz.core.runs.record import still_training
from rankviz.errors import BadDataError, InvalidSettingError
from rankviz.ui.parts.sweep import judged
from rankviz.verdict import CANT_TELL, DIFFERENT, EQUAL, judge, sentences, shipped, summary, verdict_json, words
from tests.support.runs import questions
from tests.support.runs.finished_runs import finished, finished_events, text_of
from tests.support.runs.verdict_tables import pair_of, run, table

# Differences of two ranks, three seeds × four examples: mean 3, seed means 2, 3, 4, example means 7/3, 3, 4, 8/3.
# SS: total 18, seeds 4·(1+0+1) = 8, examples 3·(4/9+0+1+1/9) = 14/3, rest 18 - 8 - 14/3 = 16/3.
# MS: seeds 8/2 = 4, examples 14/9, rest (16/3)/6 = 8/9. Variance of the mean (4 + 14/9 - 8/9)/12 = 7/18.
DIFFERENCES = np.array([[1, 2, 3, 2], [2, 4, 3, 3], [4, 3, 6, 3]])
HAND = table({4: 10 + DIFFERENCES, 8: np.full((3, 4), 10)})


def test_a_table_of_two_ranks_three_seeds_four_examples_by_hand():
    (pair,) = judge(HAND).pairs

    assert (4, 8, 3.0, 3) == (pair.r, pair.s, pytest.approx(pair.difference), pair.seeds)
    assert pytest.approx(math.sqrt(7 / 18)) == pair.standard_error
    # Runs: 4/12 = 1/3, by pairs with 2 degrees of freedom or, the runs of r = 8 being all 10, by ranks with 4.
    # Examples: (14/9 - 8/9)/12 = 1/18, 3 degrees. Student's t at 1.25 %: 3.495 with 4, 4.177 with 3, 6.205 with 2.
    assert pytest.approx(math.sqrt(3.4954**2 / 3 + 4.1765**2 / 18), rel=1e-4) == (pair.high - pair.low) / 2
    assert DIFFERENT == pair.call


@pytest.mark.parametrize("shared", [0.0, 1.0], ids=["seeds alike", "seeds apart"])
def test_of_few_seeds_it_is_the_narrower_of_paired_and_unpaired_each_at_half_the_risk(shared):
    luck = shared * np.arange(3)
    losses = {4: luck + np.array([2.00, 2.05, 1.98]), 8: luck + np.array([1.95, 2.02, 1.99])}

    (pair,) = judge(table({r: [[loss] for loss in mine] for r, mine in losses.items()})).pairs

    both = [test(losses[4], losses[8]).confidence_interval(0.975) for test in (stats.ttest_rel, stats.ttest_ind)]
    narrower = min(both, key=lambda interval: interval.high - interval.low)
    assert (pytest.approx(narrower.low), pytest.approx(narrower.high)) == (pair.low, pair.high)
    assert both.index(narrower) == (0 if shared else 1)


def test_a_rank_with_one_run_among_ranks_with_three_is_not_judged():
    runs = [*table({4: [[2.00], [2.02], [2.01]], 16: [[1.50], [1.52], [1.53]]}), run(64, 0, [1.0])]

    verdict = judge(runs)

    assert DIFFERENT == pair_of(verdict, 4, 16).call
    assert (64, (4, 16, 64)) == (verdict.best, verdict.indistinguishable_from_best)
    assert {CANT_TELL} == {pair_of(verdict, 4, 64).call, pair_of(verdict, 16, 64).call}
    assert "fewer than two seeds in common" in " ".join(sentences(verdict))


STEADY = {4: [[1.501], [1.502], [1.503], [1.501]], 16: [[1.500], [1.501], [1.501], [1.500]]}
"""r = 4 is worse by 0.001, 0.001, 0.002, 0.001: surely, and by too little to matter."""


@pytest.mark.parametrize(("tolerance", "call"), [(0.02, EQUAL), (0.0001, DIFFERENT), ("0", DIFFERENT)])
def test_a_difference_that_is_certain_and_too_small_to_matter_is_equal(tolerance, call):
    verdict = judge(table(STEADY), tolerance=tolerance)

    assert pair_of(verdict, 4, 16).low > 0
    assert call == pair_of(verdict, 4, 16).call
    assert (4 if call == EQUAL else 16) == verdict.smallest_indistinguishable


def test_a_tolerance_as_a_share_is_of_the_gain_over_the_base():
    verdict = judge(table(STEADY), tolerance="2%", base_loss=7.5005)

    assert pytest.approx(0.02 * (7.5005 - 1.5005)) == verdict.tolerance_nats
    assert "0.12 nats (2% of the gain)" in " ".join(sentences(verdict))


@pytest.mark.parametrize(
    ("tolerance", "base", "verdict"),
    [
        ("-1", None, "such as 0.02"),
        ("wide", None, "'wide'"),
        ("2%", None, "needs the loss of the base"),
        ("2%", 1.2, "No rank is better than the base (1.2000)"),
    ],
)
def test_a_tolerance_that_means_nothing_is_refused(tolerance, base, verdict):
    with pytest.raises(InvalidSettingError) as error:
        judge(table(STEADY), tolerance=tolerance, base_loss=base)

    assert verdict in str(error.value)


def test_missing_runs_are_adjusted_for_and_said():
    """Seed 2 is hard by 0.6 for whoever ran it; r = 16 did not, and gains nothing by that."""
    whole = {4: [[2.0], [2.1], [2.6]], 8: [[1.9], [2.0], [2.5]]}
    verdict = judge([*table(whole), run(16, 0, [1.95]), run(16, 1, [2.05])])

    assert (0.1, 0.05) == (
        pytest.approx(pair_of(verdict, 4, 8).difference),
        pytest.approx(pair_of(verdict, 4, 16).difference),
    )
    assert 8 == verdict.best
    assert "3 at r = 4, 3 at r = 8, 2 at r = 16" in " ".join(verdict.notes)


def test_only_examples_that_all_runs_have_are_compared():
    runs = table({4: [[2.0, 2.1, 9.0], [2.1, 2.2, 9.0]], 16: [[1.0, 1.1], [1.1, 1.3]]})

    verdict = judge(runs)

    assert 2 == verdict.examples
    assert pytest.approx(2.1 - 1.125) == pair_of(verdict, 4, 16).difference
    assert "left out of all runs: 1 of 3 examples" in verdict.notes[0]


def test_a_run_that_diverged_is_named_and_left_out():
    runs = [*table({4: [[2.0, 2.1], [2.1, 2.2]], 16: [[1.0, 1.1], [1.1, 1.3]]}), run(4, 2, [math.nan, 2.0])]
    runs += [run(16, 2, [1.0, 1.2]), run(64, 0, [math.inf, math.inf])]

    verdict = judge(runs)

    assert ["r = 4, seed 2", "r = 64, seed 0"] == [each.name for each in verdict.diverged]
    assert [4, 16] == [rank.r for rank in verdict.ranks]
    assert 2 == pair_of(verdict, 4, 16).seeds


def test_each_rank_stands_at_its_own_best_learning_rate_and_the_flattery_is_said():
    runs = [
        *table({4: [[2.0], [2.1], [2.2]], 16: [[1.9], [2.0], [2.1]]}, rate=1e-3),
        *table({4: [[1.8], [1.9], [2.1]], 16: [[1.95], [2.1], [2.2]]}, rate=3e-3),
    ]

    verdict = judge(runs)

    assert [(4, 3e-3, 2), (16, 1e-3, 2)] == [(x.r, x.learning_rate, x.learning_rates_tried) for x in verdict.ranks]
    assert "looks better than it is" in " ".join(sentences(verdict))


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
    assert ship.sentence.endswith("held-out loss 1.6000.")
    # exp(3.0 - 1.6) = 4.06
    near = answers(api, finished(api, {4: 1.615, 64: 1.6})).values()  # less than the tolerance, and untested
    assert ["r = 4", "r = 4, 4.0 MB", "Not tested"] == [each.value for each in near]
    assert ("How sure", "Not tested") == sure[:2]
    assert "differ by 1.400 nats (4.1 times the perplexity). The noise of one run is not" in sure.sentence


def test_several_seeds_say_which_ranks_are_worse_and_the_mean_of_what_is_shipped(api):
    sweep = finished(api, {4: 2.0, 16: 1.9, 64: 1.5}, seeds=(0, 1, 2))

    best, ship, sure = answers(api, sweep).values()

    assert ("r = 64", "Settled") == (best.value, sure.value)
    assert "every other rank is worse by more than the noise" in sure.sentence
    assert "1.5000, the best of 3 seeds (mean 1.6000)." in ship.sentence
    assert "Training had only 12 steps" in answers(api, sweep, steps=12)["How sure"].sentence


def curve(enough):
    """A fast curve of one training at r = 64, and the truncated adapter of it that is good enough, if any."""
    top, low = (SimpleNamespace(r=r, loss=1.5, adapter_bytes=r * 10**6) for r in (64, 16))
    whole = SimpleNamespace(trained=top, run_id="run")
    return SimpleNamespace(curve=whole, shippable=low if enough else None, chosen=low, sentences=("Enough.",))


def rates(differs, goes_on):
    return SimpleNamespace(sentences=tuple("abc"), best=2e-4, differs=differs, goes_on=goes_on, r=8)


ALONE, APART_RANKS = judge(table({64: [[1.5]]})), {4: [[2.0], [2.01], [2.02]], 64: [[1.0], [1.01], [1.02]]}
TWO, CLOSE = judge(table(APART_RANKS)), {16: [[1.1], [1.0], [1.3]], 64: [[1.0], [1.1], [1.2]]}
THREE = judge(table({4: APART_RANKS[4], **CLOSE}))
ENOUGH = "Enough for this adapter: r = 16; Smallest good adapter: r ="
SMALL, RATE = "Best rank: r = 64; Smallest rank to consider: r =", "Better learning rate: 0.0002; How sure:"


@pytest.mark.parametrize(
    ("verdict", "reading", "more", "said"),
    [
        (None, curve(True), {}, f"{ENOUGH} 16, about 16.0 MB; How sure: One training"),
        (ALONE, curve(False), {}, f"{ENOUGH} 64, 64.0 MB; How sure: One training"),
        (ALONE, None, {}, "Only rank: r = 64"),
        (TWO, curve(True), {}, f"{SMALL} 64; How sure: Settled"),
        (judge(table(CLOSE)), None, {}, f"{SMALL} 16; How sure: Not settled"),
        (THREE, None, {}, f"{SMALL} 16; How sure: Partly settled"),
        (judge(table({4: [[2.0]], 64: [[1.0]]})), None, {}, "Best rank: r = 64; How sure: Not tested"),
        (TWO, None, {"rate": rates(None, True)}, f"{RATE} Not tested; Train next: r = 8"),
        (TWO, None, {"rate": rates(True, True)}, f"{RATE} More than noise; Train next: r = 8"),
        (TWO, None, {"rate": rates(False, False)}, f"{RATE} Within noise; Train next: Quick look"),
        (TWO, None, {"score": SimpleNamespace(pick=8, about="Train next", sentences="abc")}, "Train next: r = 8"),
    ],
)
def test_the_answers_of_a_sweep_without_a_decision(verdict, reading, more, said):
    assert said == "; ".join(f"{each.about}: {each.value}" for each in summary(verdict, None, reading, **more))
    ship = shipped(verdict, None, reading)
    assert (ship and ship.made) == (("trained" if verdict else "truncated") if ENOUGH in said else None)


def test_runs_that_cannot_be_compared_are_refused():
    apart = replace(run(8, 0, [1.0]), examples=np.array([5]))
    for runs, sentence in (([run(4, 0, [math.nan])], "No run has a finite"), ([run(4, 0, [1.0]), apart], "No example")):
        with pytest.raises(BadDataError, match=sentence):
            judge(runs)


VERDICT_WORDS = ("best", "Best", "ship", "Ship", "Smallest", "Train next", "distinguish", "Enough for")


def test_a_sweep_that_still_trains_is_not_judged(api):
    """Two of three runs have finished, with losses that would decide."""
    store = api.workspace.store
    sweep_id = store.create(questions.sweep(ranks=(4, 16, 64), seeds=(0,), max_steps=2))
    for each in store.sweep(sweep_id).runs[:2]:
        for event in finished_events(each.request, 3.0 - each.request.r / 16):
            store.append(each.run_id, event)

    unfinished = judged(api, sweep := store.sweep(sweep_id))

    assert still_training(sweep) == text_of(unfinished.summary)
    assert not [word for word in VERDICT_WORDS if word in unfinished.summary + unfinished.words]
    assert ("", None, None) == (unfinished.above_best, unfinished.decision, unfinished.adapter)
    assert "measured runs" in unfinished.by_rank and "smallest" not in unfinished.by_rank
    last = sweep.runs[2]
    for event in finished_events(last.request, 1.0):
        store.append(last.run_id, event)
    assert "How sure" in judged(api, store.sweep(sweep_id)).summary


@pytest.mark.parametrize(
    ("by_rank", "part"),
    [
        ({4: [[2.0], [2.1]]}, "Only r = 4 has finished runs: no other rank to compare it with."),
        ({4: [[2.0]], 8: [[1.9]]}, "To measure the noise between runs, run each rank with the same 3 or more seeds."),
        ({4: [[2.0], [2.01], [2.02]], 8: [[1.0], [1.01], [1.02]]}, "r = 8 is best: every other rank is worse by more"),
        ({4: [[1.0], [1.01], [1.02]], 8: [[2.0], [2.01], [2.02]], 16: [[1.1], [1.0], [1.2]]}, "r = 16 cannot be"),
        (
            {4: [[2.0], [2.01], [2.02]], 8: [[1.0], [1.1], [1.2]], 16: [[1.1], [1.0], [1.3]]},
            "8 has the lowest loss. Ev",
        ),
        ({4: [[1.1], [1.0], [1.3]], 8: [[1.0], [1.1], [1.2]]}, "The smallest rank that cannot be distinguished from"),
        (STEADY, "The rank makes no practical difference here: all differences are within 0.02 nats"),
        ({**STEADY, 64: [[2.9], [2.901], [2.902], [2.9]]}, "Equal to it within 0.02 nats: r = 4."),
    ],
)
def test_the_words_of_a_verdict_by_what_it_found(by_rank, part):
    said = " ".join(sentences(judge(table(by_rank))))

    assert part in said
    assert ("To measure the noise" in said) is part.startswith("To measure")


@pytest.mark.parametrize(("apart", "value"), [(APART - 0.1, "Within noise"), (APART + 0.1, "More than noise")])
def test_single_runs_are_compared_with_the_noise_of_a_rank_that_was_repeated(apart, value):
    runs = [SimpleNamespace(r=4, loss=2.0, runs=3), SimpleNamespace(r=64, loss=2.0 - 0.1 * apart, runs=1)]
    answer = words._two_runs(SimpleNamespace(forecast=SimpleNamespace(runs=runs, noise_nats=0.1)))

    assert ("How sure", value) == answer[:2]
    assert f"{apart:.1f} times the noise of one run (from 2 repeats)" in answer.sentence


RUNS = Path(__file__).parents[2] / "assets" / "recorded" / "runs"


def journals():
    """{sweep: {(r, learning rate): {seed: losses by example}}}, of every line that says an adapter was evaluated."""
    losses = defaultdict(lambda: defaultdict(dict))
    for folder in sorted(RUNS.iterdir()):
        request = json.loads((folder / "request.json").read_text())
        for line in (folder / "events.jsonl").read_text().splitlines():
            event = json.loads(line)
            if event["event"] == "Evaluated" and event["when"] == "after":
                r = request.get("lora", request)["r"]
                cell = losses[request["sweep_id"]][r, request["learning_rate"]]
                cell[request["seed"]] = np.array(event["example_losses"])
    return losses


SWEEPS = {name: cells for name, cells in journals().items() if min(map(len, cells.values())) >= 3}


@pytest.mark.parametrize("sweep_id", SWEEPS)
def test_the_verdict_agrees_with_an_independent_calculation(sweep_id, tmp_path):
    mean = {cell: np.mean([losses.mean() for losses in seeds.values()]) for cell, seeds in SWEEPS[sweep_id].items()}
    ranks = sorted({r for r, _ in mean})
    chosen = {r: min((cell for cell in mean if cell[0] == r), key=mean.get) for r in ranks}
    # rank × seed × example
    table = np.array([[SWEEPS[sweep_id][chosen[r]][seed] for seed in (0, 1, 2)] for r in ranks])
    k, n, m = table.shape
    runs = table.mean(axis=2)
    rest = runs - runs.mean(axis=1, keepdims=True) - runs.mean(axis=0, keepdims=True) + runs.mean()
    freedom = (k - 1) * (n - 1)
    between = (rest**2).sum() / freedom

    verdict = verdict_json(Api(home=tmp_path).verdicts.of_sweep(sweep_id))

    assert {r: rate for r, rate in chosen.values()} == {rank["r"]: rank["learning_rate"] for rank in verdict["ranks"]}
    assert ranks[int(np.argmin(runs.mean(axis=1)))] == verdict["best"]
    pairs = {(pair["r"], pair["s"]): pair for pair in verdict["pairs"]}
    for i, j in combinations(range(k), 2):
        differences = table[i] - table[j]
        centre = differences.mean()
        by_seed, by_example = differences.mean(axis=1) - centre, differences.mean(axis=0) - centre
        left = differences - centre - by_seed[:, None] - by_example[None, :]
        examples = max(0.0, (n * (by_example**2).sum() / (m - 1) - (left**2).sum() / ((n - 1) * (m - 1))) / (n * m))
        q_runs, q_examples = (studentized_range.ppf(0.95, k, df) / np.sqrt(2) for df in (freedom, m - 1))
        half = np.sqrt(q_runs**2 * 2 * between / n + q_examples**2 * examples)
        pair = pairs[ranks[i], ranks[j]]
        assert (centre - half, centre, centre + half) == pytest.approx(
            (pair["low"], pair["difference"], pair["high"]), rel=2e-3, abs=1e-6
        )
        different = abs(centre) > half
        assert different == (pair["call"] == "different") or abs(centre) + half < verdict["tolerance_nats"]
