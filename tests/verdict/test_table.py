"""`rankviz verdict` and the API: a CSV file in, a table or JSON out; mistakes named by file, row and column."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from rankviz.api import Api
from rankviz.api.json import verdict_json
from rankviz.core.runs.events import Evaluated, RunCompleted
from rankviz.errors import BadDataError, RunNotFoundError
from rankviz.verdict import base_loss_of, losses_of, read_losses, sentences
from tests.cli.test_cli import rankviz
from tests.support import questions
from tests.support.finished_runs import finished
from tests.support.verdict_tables import planted

HEAD = "rank,seed,example,loss\n"


def write(folder, text):
    path = folder / "losses.csv"
    path.write_text(text)
    return path


def csv_of(runs):
    rows = [f"{run.r},{run.seed},{example},{loss!r}" for run in runs for example, loss in run.losses.items()]
    return HEAD + "\n".join(rows) + "\n"


@pytest.fixture
def api(tmp_path):
    return Api(home=tmp_path / "home", shared=False)


def test_a_file_becomes_runs_whatever_the_order_of_its_rows_and_columns(tmp_path):
    path = write(tmp_path, "loss, example, seed, learning_rate, rank\n2.5,a,0,1e-3,4\n1.5,b,0,1e-3,4\nnan,a,1,1e-3,4\n")

    first, second = read_losses(path)

    assert (4, "0", 1e-3, {"a": 2.5, "b": 1.5}) == (first.r, first.seed, first.learning_rate, first.losses)
    assert (False, True) == (first.diverged, second.diverged)


def test_a_rank_may_be_written_as_pandas_writes_it_beside_an_empty_cell(tmp_path):
    (run,) = read_losses(write(tmp_path, HEAD + "4.0,0,a,1.5\n4,0,b,2.5\n"))

    assert (4, {"a": 1.5, "b": 2.5}) == (run.r, run.losses)
    assert int is type(run.r)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rank,seed,loss\n4,0,1.5\n", "losses.csv has no column example: the first line must name rank, seed"),
        (HEAD, "losses.csv has no rows"),
        (
            "rank,seed,example,loss,target_tokens\n4,0,a,1.5,0\n",
            "losses.csv, row 2, column target_tokens: '0' is not a whole number above 0",
        ),
        (HEAD + "4,0,a,1.5\nfour,0,a,1.5\n", "losses.csv, row 3, column rank: 'four' is not a whole number above 0."),
        (HEAD + "0,0,a,1.5\n", "row 2, column rank: '0'"),
        (HEAD + "4.5,0,a,1.5\n", "row 2, column rank: '4.5' is not a whole number above 0."),
        (HEAD + "1e300,0,a,1.5\n", "row 2, column rank: '1e300' is above 65,536"),
        (HEAD + "4,0,a,1e300\n", "column loss: '1e300' is beyond 1,000,000,000; write nan"),
        (HEAD + f"4,{'x' * 201},a,1.5\n", "column seed: is not a text of at most 200 printable characters"),
        (HEAD + "".join(f"{r},0,a,1.5\n" for r in range(1, 400)), "has 399 ranks, at most 200 are compared"),
        ("rank,seed,example,loss,target_tokens\n4,0,a,1.5," + "9" * 5000, "is not a whole number above 0"),
        (HEAD + "inf,0,a,1.5\n", "row 2, column rank: 'inf' is not a whole number above 0."),
        (HEAD + "4,0,a,low\n", "row 2, column loss: 'low' is not a number; write nan for a run that diverged."),
        (HEAD + "4,,a,1.5\n", "row 2, column seed: is empty"),
        (HEAD + "4,0,a\n", "row 2, column loss: is empty"),
        (HEAD + "4,0,a,1.5\n4,0,a,1.6\n", "row 3, column example: 'a' appears twice"),
        (HEAD + "4,0,a,1,5\n", "row 2: more cells than columns"),
        ("rank,seed,example,loss,learning_rate\n4,0,a,1.5,0\n", "column learning_rate: '0' is not a number above 0"),
        ("rank,seed,example,loss,learning_rate\n4,0,a,1,1e-3\n4,0,b,1,\n", "row 3, column learning_rate: is empty in"),
    ],
)
def test_a_mistake_is_named_by_file_row_and_column(text, message, tmp_path):
    with pytest.raises(BadDataError) as error:
        read_losses(write(tmp_path, text))

    assert message in str(error.value)


def test_the_command_prints_the_contracts_keys(tmp_path):
    path = write(tmp_path, csv_of(planted(np.random.default_rng(0), {4: 2.1, 16: 1.8, 64: 1.8})))

    run = rankviz("verdict", str(path), "--json")

    verdict = json.loads(run.stdout)
    assert {"best", "smallest_indistinguishable", "indistinguishable_from_best", "pairs"} <= set(verdict)
    assert {"r", "s", "difference", "low", "high"} <= set(verdict["pairs"][0])
    assert [16, 64] == verdict["indistinguishable_from_best"]
    assert 16 == verdict["smallest_indistinguishable"]
    assert [(4, 16), (4, 64), (16, 64)] == [(pair["r"], pair["s"]) for pair in verdict["pairs"]]
    assert "different" == verdict["pairs"][0]["call"]
    assert 0 == run.returncode


def test_with_one_seed_the_command_tells_nothing_apart(tmp_path):
    path = write(tmp_path, csv_of(planted(np.random.default_rng(0), {4: 2.8, 16: 1.8}, seeds=1)))

    verdict = json.loads(rankviz("verdict", str(path), "--json").stdout)

    assert [4, 16] == verdict["indistinguishable_from_best"]
    assert (None, None) == (verdict["pairs"][0]["low"], verdict["pairs"][0]["high"])
    assert ("each rank has one run", False, None) == (verdict["why_not"], verdict["can_tell"], verdict["run_sd"])


def test_the_table_of_one_seed_says_not_distinguishable(tmp_path):
    path = write(tmp_path, csv_of(planted(np.random.default_rng(0), {4: 2.8, 16: 1.8}, seeds=1)))

    printed = " ".join(rankviz("verdict", str(path)).stdout.split())

    assert "losses.csv: 1 seed, " in printed
    assert "not known cannot be distinguished" in printed


def test_the_command_prints_a_row_a_rank_and_sentences(tmp_path):
    path = write(tmp_path, csv_of(planted(np.random.default_rng(0), {4: 2.1, 16: 1.8})))

    printed = " ".join(rankviz("verdict", str(path), "--tolerance", "0.01").stdout.split())

    assert "r = 16 is best: every other rank is worse by more than the noise." in printed
    assert "lowest loss" in printed
    assert (
        "Ranks count as equal if the whole interval of their difference is within 0.01 nats (1 % in perplexity)."
        in printed
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["no-such.csv"], "No file 'no-such.csv'"),
        (["LOSSES", "--tolerance", "wide"], "such as 2% (got 'wide')"),
        (["LOSSES", "--tolerance", "2%"], "needs --base-loss"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_and_exit_code_2(args, message, tmp_path):
    path = write(tmp_path, HEAD + "4,0,a,1.5\n8,0,a,1.4\n")

    run = rankviz("verdict", *[str(path) if arg == "LOSSES" else arg for arg in args])

    assert (2, 1, "") == (run.returncode, len(run.stderr.splitlines()), run.stdout)
    assert message in run.stderr


def evaluated_sweep(api, losses, *, seeds=(0, 1, 2), steps=40, tokens=(), **settings):
    """A sweep whose runs were evaluated example by example: loss of the rank, of the seed, and of the pair. tokens: of
    each of the four examples."""
    sweep_id = api.workspace.store.create(
        questions.sweep(ranks=tuple(losses), seeds=seeds, max_steps=steps, **settings)
    )
    for run in api.workspace.store.sweep(sweep_id).runs:
        r, seed = run.request.r, run.request.seed
        each = tuple(losses[r] + 0.1 * seed + 0.01 * ((r + seed) % 3) + 0.3 * example for example in range(4))
        for when, mine in (("before", (7.5, 7.5, 7.5, 9.5)), ("after", each)):
            api.workspace.store.append(
                run.run_id,
                Evaluated(
                    time=1.0,
                    when=when,
                    loss=9.9,
                    tokens=9,
                    examples=4,
                    seconds=1.0,
                    example_losses=mine,
                    example_tokens=tokens,
                ),
            )
    return sweep_id


def two_lengths(api, *, counted=True):
    """r = 4 is better on the short example and worse on the long one, so worse per token and better per example."""
    sweep_id = api.workspace.store.create(questions.sweep(ranks=(4, 64), seeds=(0,)))
    for run in api.workspace.store.sweep(sweep_id).runs:
        each = {4: (1.0, 2.0), 64: (2.0, 1.5)}[run.request.r]
        for when, mine in (("before", (8.0, 4.0)), ("after", each)):
            loss = (mine[0] + 9 * mine[1]) / 10
            event = Evaluated(
                time=1.0,
                when=when,
                loss=loss,
                tokens=10,
                examples=2,
                seconds=1.0,
                example_losses=mine,
                example_tokens=(1, 9) if counted or run.request.r == 64 else (),
            )
            api.workspace.store.append(run.run_id, event)
    return sweep_id


def test_a_verdict_orders_ranks_as_their_runs_reported_losses_do(api):
    sweep_id = two_lengths(api)
    runs = api.runs.sweep(sweep_id).runs

    verdict = api.verdicts.of_sweep(sweep_id).verdict

    assert {4: 1.9, 64: 1.55} == {run.request.r: run.loss_after.loss for run in runs}
    assert {4: pytest.approx(1.9), 64: pytest.approx(1.55)} == {rank.r: rank.loss for rank in verdict.ranks}
    assert 64 == verdict.best
    assert pytest.approx(4.4) == base_loss_of(runs)


def test_a_run_without_token_counts_makes_each_example_of_its_sweep_count_once(api):
    sweep_id = two_lengths(api, counted=False)

    verdict = api.verdicts.of_sweep(sweep_id).verdict

    assert {4: 1.5, 64: 1.75} == {rank.r: rank.loss for rank in verdict.ranks}
    assert 4 == verdict.best
    assert 6.0 == base_loss_of(api.runs.sweep(sweep_id).runs)


def test_a_file_with_tokens_in_all_rows_is_judged_a_token(tmp_path):
    head = "rank,seed,example,loss,target_tokens\n"
    rows = "4,0,a,1.0,1\n4,0,b,2.0,9\n64,0,a,2.0,1\n64,0,b,1.5,{}\n"

    counted, partly = (read_losses(write(tmp_path, head + rows.format(tokens))) for tokens in (9, ""))

    assert [pytest.approx(1.9), pytest.approx(1.55)] == [np.mean(list(run.losses.values())) for run in counted]
    assert [1.5, 1.75] == [np.mean(list(run.losses.values())) for run in partly]


def test_a_sweeps_verdict_counts_each_example_once_where_its_tokens_were_not_kept(api):
    sweep_id = evaluated_sweep(api, {4: 2.0, 16: 1.5})

    verdict = verdict_json(api.verdicts.of_sweep(sweep_id))

    assert (16, [16], 4, 3) == (
        verdict["best"],
        verdict["indistinguishable_from_best"],
        verdict["examples"],
        verdict["seeds"],
    )
    # Mean over examples 0.45, over seeds 0.1, and of 0.01 · ((r + seed) mod 3) 0.01.
    assert pytest.approx(2.56) == verdict["ranks"][0]["loss"]
    assert pytest.approx(0.5) == verdict["pairs"][0]["difference"]
    assert (pytest.approx(0.5), 0.0) == (verdict["ranks"][0]["above_best"], verdict["ranks"][1]["above_best"])
    assert json.loads(json.dumps(verdict)) == verdict


def test_a_sweeps_tolerance_as_a_share_is_of_its_own_gain(api):
    sweep_id = evaluated_sweep(api, {4: 2.0, 16: 1.5})

    result = api.verdicts.of_sweep(sweep_id, tolerance="1%")

    assert 8.0 == base_loss_of(api.runs.sweep(sweep_id).runs)
    assert pytest.approx(0.01 * (8.0 - 2.06)) == result.verdict.tolerance_nats


@pytest.mark.parametrize(("tokens", "base_loss"), [((), 8.0), ((1, 2, 2, 3), 8.25)])
def test_the_losses_of_an_exported_sweep_give_its_verdict_to_anyone(api, tmp_path, tokens, base_loss):
    sweep_id = evaluated_sweep(api, {4: 2.0, 16: 1.5}, tokens=tokens)
    for run in api.runs.sweep(sweep_id).runs:
        done = RunCompleted(time=9.0, train_seconds=1.0, peak_memory_bytes=1, peak_memory_kind="process resident")
        api.workspace.store.append(run.run_id, done)

    with zipfile.ZipFile(api.runs.export([sweep_id], tmp_path / "sweep.zip")) as archive:
        table = api.verdicts.of_table(Path(archive.extract("losses.csv", tmp_path)), base_loss=base_loss)

    assert api.verdicts.of_sweep(sweep_id).verdict == table


def test_a_sweep_of_one_run_each_borrows_from_its_like_before_all_others(api):
    alone = evaluated_sweep(api, {4: 2.0, 16: 1.5}, seeds=(0,))
    other = evaluated_sweep(api, {4: 2.0, 16: 1.5}, steps=20)
    first = api.verdicts.of_sweep(alone)
    alike = evaluated_sweep(api, {4: 2.0, 16: 1.5})

    lent = api.verdicts.of_sweep(alone).borrowed

    assert (False, True) == (first.borrowed.same_setting, lent.same_setting)
    assert other in first.borrowed.sweeps
    assert {"phonemes"} == {api.runs.sweep(each).runs[0].request.data for each in first.borrowed.sweeps}
    assert (alike,) == lent.sweeps
    assert (4, 16) == tuple(api.verdicts.of_sweep(alone).verdict.indistinguishable_from_best)
    assert api.verdicts.of_sweep(alike).borrowed is None


def test_noise_on_other_data_is_borrowed_where_there_is_none_on_the_same(api):
    elsewhere = evaluated_sweep(api, {4: 2.0, 16: 1.5}, data="syllables")
    alone = evaluated_sweep(api, {4: 2.0, 16: 1.5}, seeds=(0,), base="org/model")

    lent = api.verdicts.of_sweep(alone).borrowed

    assert not lent.same_setting
    assert elsewhere in lent.sweeps


def test_a_sweep_without_a_finished_run_has_no_verdict_and_an_unknown_one_is_refused(api):
    waiting = api.workspace.store.create(questions.sweep(ranks=(4, 16)))

    assert api.verdicts.of_sweep(waiting) is None
    with pytest.raises(RunNotFoundError):
        api.verdicts.of_sweep("20200101-000000-dead")


def test_runs_that_kept_no_losses_of_examples_stand_for_themselves(api):
    sweep = finished(api, {4: 2.0, 16: 1.5}, seeds=(0, 1))

    assert [1, 1, 1, 1] == [len(run.losses) for run in losses_of(sweep.runs)]
    result = api.verdicts.of_sweep(sweep.sweep_id)
    assert "the choice of examples is not included" in " ".join(sentences(result.verdict))
