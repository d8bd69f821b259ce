"""The values of a verdict, from journals and CSV files, and the noise of their means."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from rankviz.core.runs.events import Evaluated, RunCompleted
from rankviz.core.runs.metric import CORRECT, EXACT_MATCH, TOKEN_ACCURACY, measured_metrics
from rankviz.errors import BadDataError, InvalidSettingError
from rankviz.verdict import CANT_TELL, DIFFERENT, base_loss_of, judge, losses_of, read_table, verdict_json
from rankviz.verdict.noise import PairNoise, RunNoise, chance_to_tell, needed, studentized_range_quantile
from tests.support.runs import questions
from tests.support.runs.finished_runs import finished
from tests.support.runs.verdict_tables import pair_of, planted, table

HEAD, ANSWERS = "rank,seed,example,loss\n", "rank,seed,example,correct\n"


def write(folder, text):
    path = folder / "losses.csv"
    path.write_text(text)
    return path


def test_a_file_becomes_runs_whatever_the_order_of_its_rows_and_columns(tmp_path):
    path = write(tmp_path, "loss, example, seed, learning_rate, rank\n2.5,a,0,1e-3,4\n1.5,b,0,1e-3,4\nnan,a,1,1e-3,4\n")

    (first, second), _ = read_table(path)

    assert (4, "0", 1e-3, [2.5, 1.5]) == (first.r, first.seed, first.learning_rate, first.losses.tolist())
    assert (False, True) == (first.diverged, second.diverged)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rank,seed,loss\n4,0,1.5\n", "losses.csv has no column example: the first line must name rank, seed"),
        (HEAD, "losses.csv has no rows"),
        ("rank,seed,example,loss,loss \n4,0,a,1,2\n", "losses.csv has a column twice"),
        (HEAD + "4,0,a,1,5\n", "row 2: more cells than columns"),
        (HEAD + "4,0,a,1.5\nfour,0,a,1.5\n", "row 3, column rank: 'four' is not a whole number from 1 to 65,536."),
        (HEAD + "4,0,a,1e300\n", "column loss: '1e300' is not a number up to 1,000,000,000; write nan"),
        (HEAD + "".join(f"{r},0,a,1.5\n" for r in range(1, 400)), "has 399 ranks, at most 200 are compared"),
        ("rank,seed,example,loss,target_tokens\n4,0,a,1.5," + "9" * 5000, "is not a whole number above 0"),
        (HEAD + "4,0,a,1.5\n4,0,a,1.6\n", "row 3, column example: 'a' appears twice"),
        ("rank,seed,example,loss,learning_rate\n4,0,a,1,1e-3\n4,0,b,1,\n", "column learning_rate: fill it in"),
        (ANSWERS + "4,0,a,0.5\n", "row 2, column correct: '0.5' is not 0 or 1."),
    ],
)
def test_a_mistake_is_named_by_file_row_and_column(text, message, tmp_path):
    with pytest.raises(BadDataError) as error:
        read_table(write(tmp_path, text))

    assert message in str(error.value)


def test_a_file_of_5000_runs_or_of_200_million_bytes_is_read_and_a_larger_one_is_refused(tmp_path):
    rows = [f"{1 + seed % 200},{seed},a,1.5\n" for seed in range(5001)]
    assert 5000 == len(read_table(write(tmp_path, HEAD + "".join(rows[:5000])))[0])
    with pytest.raises(BadDataError, match="has more than 5,000 runs: give fewer"):
        read_table(path := write(tmp_path, HEAD + "".join(rows)))
    path.write_text(HEAD)
    for size, message in ((200_000_000, "is not a "), (200_000_001, "200,000,001 bytes, at most 200,000,000")):
        os.truncate(path, size)
        with pytest.raises(BadDataError, match=message):
            read_table(path)


COMPLETED = RunCompleted(time=2.0, train_seconds=1.0, peak_memory_bytes=2**30, peak_memory_kind="process resident")


def counted_sweep(api, hits, *, seeds=(0, 1, 2)):
    """A sweep with four held-out examples of 1, 2, 2 and 3 target tokens, three of them answered. hits: of a rank, how
    many tokens of each example are correct; the base has none."""
    sweep_id = api.workspace.store.create(questions.sweep(ranks=tuple(hits), seeds=seeds, exact_match_examples=3))
    for run in api.workspace.store.sweep(sweep_id).runs:
        for when, correct in (("before", (0, 0, 0, 0)), ("after", hits[run.request.r])):
            counts = (1, 2, 2, 3)
            r, seed = run.request.r, run.request.seed
            losses = tuple(8 / r + 0.1 * seed + 0.01 * ((r + seed) % 3) + 0.3 * example for example in range(4))
            matches = [int(mine == tokens) for mine, tokens in zip(correct, counts, strict=True)]
            event = Evaluated(
                time=1.0,
                when=when,
                **{"loss": 9.9, "tokens": 8, "examples": 4, "seconds": 1.0},
                example_losses=(7.5, 7.5, 7.5, 9.5) if when == "before" else losses,
                correct_tokens=sum(correct),
                example_tokens=counts,
                example_correct_tokens=correct,
                example_exact_matches=(*matches[:3], None),
            )
            api.workspace.store.append(run.run_id, event)
        api.workspace.store.append(run.run_id, COMPLETED)
    return sweep_id


def test_the_losses_of_an_exported_sweep_give_its_verdict_to_anyone(api, tmp_path):
    """The base's mean loss by tokens: five of 7.5 and three of 9.5."""
    sweep_id = counted_sweep(api, {4: (0, 0, 0, 0), 16: (1, 2, 2, 3)})

    with zipfile.ZipFile(api.runs.export([sweep_id], tmp_path / "sweep.zip")) as archive:
        file = Path(archive.extract("losses.csv", tmp_path))
    table = api.verdicts.of_table(file, base_loss=8.25)
    with pytest.raises(InvalidSettingError, match="give the base's loss"):
        api.verdicts.of_table(file, base_accuracy=50.0)

    assert api.verdicts.of_sweep(sweep_id) == table


def test_an_examples_errors_weigh_as_many_tokens_as_it_has(api):
    runs = api.runs.sweep(counted_sweep(api, {4: (1, 1, 2, 1)}, seeds=(0,))).runs
    (run,), (answered,) = losses_of(runs, TOKEN_ACCURACY), losses_of(runs, EXACT_MATCH)

    # Two tokens an example on average: one wrong token of it is 50, and the mean of 0, 50, 0 and 100 is 3 of 8 wrong.
    assert [0.0, 50.0, 0.0, 100.0] == run.losses.tolist()
    assert 100 * (1 - 5 / 8) == run.losses.mean()
    assert ([0.0, 100.0, 0.0], [0, 1, 2]) == (answered.losses.tolist(), answered.examples.tolist())


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


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("token_accuracy", "The token accuracy of this sweep is not known, because its runs"),
        ("bleu", r"The metric must be one of loss, token_accuracy, exact_match \(got 'bleu'\)"),
    ],
)
def test_what_a_sweep_did_not_measure_is_said(api, metric, message):
    sweep = finished(api, {4: 2.0, 16: 1.5})

    with pytest.raises(InvalidSettingError, match=message):
        api.verdicts.of_sweep(sweep.sweep_id, metric=metric)
    assert base_loss_of(sweep.runs, TOKEN_ACCURACY) is None
    assert ["loss"] == [known.key for known in measured_metrics(sweep.runs)]


def test_a_file_of_right_and_wrong_answers_is_judged_in_points(tmp_path):
    runs, metric = read_table(write(tmp_path, ANSWERS + "4,0,a,1\n4,0,b,0\n8,0,a,True\n8,0,b,1.0\n"))

    assert CORRECT is metric
    assert [[0.0, 100.0], [0.0, 0.0]] == [run.losses.tolist() for run in runs]


@pytest.mark.parametrize(
    ("column", "taken", "wrong"),
    [
        ("rank", ("1", "65536"), ("0", "65537", "1.5")),
        ("seed", ("s", "x" * 200), ("", "x" * 201, "a\x00")),
        ("loss", ("-1e9", "1e9", "nan"), ("", "-1.1e9", "1.1e9")),
        ("learning_rate", ("5e-324", "1e6"), ("0", "1.1e6")),
        ("target_tokens", ("1", "1000000000", ""), ("0", "1000000001", "1.5")),
    ],
)
def test_a_cell_at_its_bound_is_taken_and_one_beyond_is_refused(tmp_path, column, taken, wrong):
    usual = {"rank": "4", "seed": "0", "example": "a", "loss": "1", "learning_rate": "1", "target_tokens": "1"}

    def read(text):
        return read_table(write(tmp_path, "\n".join(map(",".join, (usual, (usual | {column: text}).values())))))[0]

    assert [1] * len(taken) == [len(read(text)) for text in taken]
    for text in wrong:
        with pytest.raises(BadDataError, match=column):
            read(text)


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
    decided = sum(pair_of(judge(runs, tolerance=tolerance), 4, 16).call != CANT_TELL for runs in tables) / times

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


@pytest.mark.parametrize("seeds", [2, 3])
def test_intervals_of_three_ranks_all_hold_their_truth_in_95_of_100_sweeps(seeds):
    """Three standard deviations of 600 trials are 0.027."""

    def hold(verdict):
        truth = {4: 0.3, 8: 0.1, 16: 0.0}
        return all(pair.low <= truth[pair.r] - truth[pair.s] <= pair.high for pair in verdict.pairs)

    generator, losses = np.random.default_rng(20), {4: 2.1, 8: 1.9, 16: 1.8}
    assert sum(hold(judge(planted(generator, losses, seeds=seeds))) for _ in range(600)) / 600 >= 0.95 - 0.027


def answers(generator, chances, *, seeds=3, examples=64, spread=0.8, run_sd=0.0):
    """Right or wrong answers as errors in points. chances: of a rank, to answer an example of middle difficulty; a
    run's own luck moves it (in logits), as an example's difficulty does."""
    logit = {r: np.log(p / (1 - p)) for r, p in chances.items()}
    difficulty = generator.normal(0, spread, examples)

    def errors(r):
        drawn, odds = generator.random(examples), logit[r] + difficulty + generator.normal(0, run_sd)
        return 100.0 * (drawn > 1 / (1 + np.exp(-odds)))

    return table({r: [errors(r) for _ in range(seeds)] for r in chances})


@pytest.mark.parametrize("chance", [0.01, 0.5])
@pytest.mark.parametrize("run_sd", [0.0, 0.4])
def test_equal_ranks_are_called_different_in_at_most_one_of_ten_sweeps(chance, run_sd):
    generator, chances = np.random.default_rng(20), dict.fromkeys((4, 16, 64), chance)
    verdicts = (judge(answers(generator, chances, run_sd=run_sd), metric=EXACT_MATCH) for _ in range(300))

    assert sum(any(pair.call == DIFFERENT for pair in verdict.pairs) for verdict in verdicts) <= 30


@pytest.mark.parametrize("error", [0.0, 100.0])
def test_equal_accuracies_at_a_bound_have_an_interval_that_narrows_with_examples(error):
    def half_width(examples, ranks):
        pair = pair_of(judge(table({r: [[error] * examples] * 3 for r in ranks}), metric=EXACT_MATCH), 4, 16)
        return (pair.high - pair.low) / 2

    # The rule of three: 100 · (1 - 0.05^(1/64)) points of one pair, 0.05/3 of three.
    assert (4.573, 6.197) == (
        pytest.approx(half_width(64, (4, 16)), abs=1e-3),
        pytest.approx(half_width(64, (4, 16, 64)), abs=1e-3),
    )
    assert 0 < half_width(1000, (4, 16)) < 1
