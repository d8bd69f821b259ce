"""Verdicts in token accuracy and exact match: what an example counts, which way is better, and binomial noise."""

import json

import numpy as np
import pytest

from rankviz.api.runs.verdicts import verdict_json
from rankviz.core.runs.events import Evaluated, RunCompleted
from rankviz.core.runs.metric import CORRECT, EXACT_MATCH, TOKEN_ACCURACY
from rankviz.errors import BadDataError, InvalidSettingError
from rankviz.verdict import CANT_TELL, judge, losses_of, read_table, sentences
from tests.cli.command import rankviz
from tests.support.runs import questions
from tests.support.runs.finished_runs import finished
from tests.support.runs.verdict_tables import table
from tests.verdict.test_accuracy_rates import answers

HEAD = "rank,seed,example,correct\n"

COMPLETED = RunCompleted(time=2.0, train_seconds=1.0, peak_memory_bytes=2**30, peak_memory_kind="process resident")


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
        api.workspace.store.append(run.run_id, COMPLETED)
    return sweep_id


def test_an_examples_errors_weigh_as_many_tokens_as_it_has(api):
    (run,) = losses_of(api.runs.sweep(counted_sweep(api, {4: (1, 1, 2, 1)}, seeds=(0,))).runs, TOKEN_ACCURACY)

    # Two tokens an example on average: one wrong token of it is 50, and the mean of 0, 50, 0 and 100 is 3 of 8 wrong.
    assert [0.0, 50.0, 0.0, 100.0] == run.losses.tolist()
    assert 100 * (1 - 5 / 8) == run.losses.mean()


def test_an_answer_is_right_or_wrong_and_what_was_not_answered_counts_nowhere(api):
    (run,) = losses_of(api.runs.sweep(counted_sweep(api, {4: (1, 1, 2, 3)}, seeds=(0,))).runs, EXACT_MATCH)

    assert ([0, 1, 2], [0.0, 100.0, 0.0]) == (run.examples.tolist(), run.losses.tolist())


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


# Words


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
    assert [[0.0, 100.0], [0.0, 0.0]] == [run.losses.tolist() for run in runs]


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
    rows = [f"{r.r},{r.seed},{i},{int(error == 0)}" for r in runs for i, error in enumerate(r.losses)]
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
