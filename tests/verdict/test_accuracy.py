"""Verdicts in token accuracy and exact match: what an example counts, which way is better, and binomial noise."""

import json

import numpy as np
import pytest

from rankviz.api import Api
from rankviz.api.json import verdict_json
from rankviz.core.runs.events import Evaluated
from rankviz.core.runs.metric import CORRECT, EXACT_MATCH, TOKEN_ACCURACY
from rankviz.errors import BadDataError, InvalidSettingError
from rankviz.verdict import CANT_TELL, DIFFERENT, judge, losses_of, read_table, sentences
from tests.cli.test_cli import rankviz
from tests.support import questions
from tests.support.finished_runs import finished
from tests.support.verdict_tables import table

HEAD = "rank,seed,example,correct\n"


@pytest.fixture
def api(tmp_path):
    return Api(home=tmp_path / "home", shared=False)


def counted_sweep(api, hits, *, seeds=(0, 1, 2), loss=1.0):
    """A sweep with four held-out examples of 1, 2, 2 and 3 target tokens, three of them answered. hits: of a rank, how
    many tokens of each example are correct; the base has none."""
    sweep_id = api.workspace.store.create(questions.sweep(ranks=tuple(hits), seeds=seeds, exact_match_examples=3))
    for run in api.workspace.store.sweep(sweep_id).runs:
        for when, correct in (("before", (0, 0, 0, 0)), ("after", hits[run.request.r])):
            counts = (1, 2, 2, 3)
            matches = [int(mine == tokens) for mine, tokens in zip(correct, counts, strict=True)]
            event = Evaluated(
                time=1.0,
                when=when,
                loss=loss,
                tokens=8,
                examples=4,
                seconds=1.0,
                example_losses=(loss,) * 4,
                correct_tokens=sum(correct),
                example_tokens=counts,
                example_correct_tokens=correct,
                example_exact_matches=(*matches[:3], None),
            )
            api.workspace.store.append(run.run_id, event)
    return sweep_id


def test_an_examples_errors_weigh_as_many_tokens_as_it_has(api):
    (run,) = losses_of(api.runs.sweep(counted_sweep(api, {4: (1, 1, 2, 1)}, seeds=(0,))).runs, TOKEN_ACCURACY)

    # Two tokens an example on average: one wrong token of it is 50, and the mean of 0, 50, 0 and 100 is 3 of 8 wrong.
    assert {"0": 0.0, "1": 50.0, "2": 0.0, "3": 100.0} == run.losses
    assert 100 * (1 - 5 / 8) == np.mean(list(run.losses.values()))


def test_an_answer_is_right_or_wrong_and_what_was_not_answered_counts_nowhere(api):
    (run,) = losses_of(api.runs.sweep(counted_sweep(api, {4: (1, 1, 2, 3)}, seeds=(0,))).runs, EXACT_MATCH)

    assert {"0": 0.0, "1": 100.0, "2": 0.0} == run.losses


def test_a_run_that_diverged_is_left_out_of_an_accuracy_too(api):
    runs = api.runs.sweep(counted_sweep(api, {4: (0, 0, 0, 0)}, seeds=(0,), loss=float("nan"))).runs

    assert [True, True] == [losses_of(runs, metric)[0].diverged for metric in (TOKEN_ACCURACY, EXACT_MATCH)]


def test_higher_is_better_and_the_verdict_is_in_points(api):
    sweep_id = counted_sweep(api, {4: (1, 1, 2, 1), 16: (1, 2, 2, 3)})

    verdict = verdict_json(api.verdicts.of_sweep(sweep_id, metric="token_accuracy"))

    assert ("token_accuracy", "points", True, 16) == tuple(
        verdict[name] for name in ("metric", "unit", "higher_is_better", "best")
    )
    assert [62.5, 100.0] == [rank["value"] for rank in verdict["ranks"]]
    assert [None, None] == [rank["loss"] for rank in verdict["ranks"]]
    assert {"0": 62.5, "1": 62.5, "2": 62.5} == verdict["ranks"][0]["run_values"]
    assert 37.5 == verdict["pairs"][0]["difference"] == verdict["ranks"][0]["above_best"]
    assert (1.0, "1.0", None) == (verdict["within"], verdict["tolerance"], verdict["tolerance_nats"])
    assert verdict["why_not"] is None
    assert json.loads(json.dumps(verdict)) == verdict


def test_a_tolerance_as_a_share_is_of_the_accuracy_that_training_gained(api):
    sweep_id = counted_sweep(api, {4: (1, 1, 2, 1), 16: (1, 2, 2, 1)})

    result = api.verdicts.of_sweep(sweep_id, "10%", "token_accuracy")

    assert 7.5 == result.verdict.within  # of 75 % of the tokens, where the base has none


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("token_accuracy", "The token accuracy of this sweep is not known: its runs were made before RankViz counted"),
        ("exact_match", "The exact match of this sweep is not known, because its runs answered no held-out prompts"),
        ("bleu", r"The metric must be one of loss, token_accuracy, exact_match \(got 'bleu'\)"),
    ],
)
def test_what_a_sweep_did_not_measure_is_said(api, metric, message):
    sweep = finished(api, {4: 2.0, 16: 1.5})

    with pytest.raises(InvalidSettingError, match=message):
        api.verdicts.of_sweep(sweep.sweep_id, metric=metric)
    assert ["loss"] == [known.key for known in api.verdicts.metrics(sweep.sweep_id)]


def test_a_sweep_offers_what_its_runs_have(api):
    assert ["loss", "token_accuracy", "exact_match"] == [
        metric.key for metric in api.verdicts.metrics(counted_sweep(api, {4: (1, 1, 2, 1)}))
    ]


# Noise


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


# Words


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


def words_of(chances, **noise):
    return " ".join(sentences(judge(answers(np.random.default_rng(1), chances, **noise), metric=EXACT_MATCH)))


def test_the_sentences_say_points_and_which_way_is_better():
    words = words_of({4: 0.1, 16: 0.9, 64: 0.9}, examples=128)

    assert "Worse than r = 64: r = 4 by " in words
    assert "highest exact match" in words
    assert "in points (above 0 is worse):" in words
    assert "within 1 point" in words
    assert "nats" not in words
    assert "loss" not in words


def test_with_one_seed_no_verdict_is_possible_in_an_accuracy_either():
    assert "No verdict possible: each rank has one run." in words_of({4: 0.1, 16: 0.9}, seeds=1)


# A table of answers


def write(folder, text):
    path = folder / "answers.csv"
    path.write_text(text)
    return path


def test_a_file_of_right_and_wrong_answers_is_judged_in_points(tmp_path):
    runs, metric = read_table(write(tmp_path, HEAD + "4,0,a,1\n4,0,b,0\n8,0,a,True\n8,0,b,1.0\n"))

    assert CORRECT is metric
    assert [{"a": 0.0, "b": 100.0}, {"a": 0.0, "b": 0.0}] == [run.losses for run in runs]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rank,seed,example,loss,correct\n4,0,a,1.5,1\n", "has the columns loss and correct: keep the one"),
        (HEAD + "4,0,a,0.5\n", "row 2, column correct: '0.5' is not 0 or 1."),
        (HEAD + "4,0,a,\n", "row 2, column correct: is empty"),
        (
            "rank,seed,example\n4,0,a\n",
            "has no column loss: the first line must name rank, seed, example, loss or corr",
        ),
    ],
)
def test_a_mistake_in_it_is_named(text, message, tmp_path):
    with pytest.raises(BadDataError) as error:
        read_table(write(tmp_path, text))

    assert message in str(error.value)


def test_the_command_prints_accuracies_and_points(tmp_path):
    runs = answers(np.random.default_rng(3), {4: 0.2, 16: 0.8})
    rows = [f"{r.r},{r.seed},{i},{int(error == 0)}" for r in runs for i, error in r.losses.items()]
    path = write(tmp_path, HEAD + "\n".join(rows) + "\n")

    printed = " ".join(rankviz("verdict", str(path)).stdout.split())
    as_json = json.loads(rankviz("verdict", str(path), "--tolerance", "2%", "--base-accuracy", "0", "--json").stdout)

    assert "highest accuracy" in printed
    assert "within 1 point" in printed
    assert "Below the best (points)" in printed
    best = as_json["ranks"][1]["value"]
    assert pytest.approx(0.02 * best) == as_json["within"]
    assert ("correct", 16, "different") == (as_json["metric"], as_json["best"], as_json["pairs"][0]["call"])


def test_a_single_example_has_no_binomial_noise_to_add():
    verdict = judge(table({4: [[50.0], [52.0]], 8: [[51.0], [50.0]]}), metric=CORRECT)

    assert CANT_TELL == verdict.pairs[0].call
    assert verdict.pairs[0].high - verdict.pairs[0].low > 1
