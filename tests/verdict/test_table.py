"""`rankviz verdict` and the API: a CSV file in, a table or JSON out; mistakes named by file, row and column."""

import json

import numpy as np
import pytest

from rankviz.errors import BadDataError
from rankviz.verdict import read_losses
from tests.cli.command import rankviz
from tests.support.runs.verdict_tables import planted

HEAD = "rank,seed,example,loss\n"


def write(folder, text):
    path = folder / "losses.csv"
    path.write_text(text)
    return path


def csv_of(runs):
    rows = [f"{run.r},{run.seed},{example},{loss}" for run in runs for example, loss in enumerate(run.losses)]
    return HEAD + "\n".join(rows) + "\n"


def test_a_file_becomes_runs_whatever_the_order_of_its_rows_and_columns(tmp_path):
    path = write(tmp_path, "loss, example, seed, learning_rate, rank\n2.5,a,0,1e-3,4\n1.5,b,0,1e-3,4\nnan,a,1,1e-3,4\n")

    first, second = read_losses(path)

    assert (4, "0", 1e-3, [2.5, 1.5]) == (first.r, first.seed, first.learning_rate, first.losses.tolist())
    assert (False, True) == (first.diverged, second.diverged)


def test_a_rank_may_be_written_as_pandas_writes_it_beside_an_empty_cell(tmp_path):
    (run,) = read_losses(write(tmp_path, HEAD + "4.0,0,a,1.5\n4,0,b,2.5\n"))

    assert (4, [1.5, 2.5]) == (run.r, run.losses.tolist())
    assert int is type(run.r)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rank,seed,loss\n4,0,1.5\n", "losses.csv has no column example: the first line must name rank, seed"),
        (HEAD, "losses.csv has no rows"),
        ("rank,seed,example,loss,loss \n4,0,a,1,2\n", "losses.csv has the column loss twice: rename one of the two."),
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
        (["no-such.csv"], "no-such.csv': give a CSV file"),
        (["LOSSES", "--tolerance", "wide"], "such as 2% (got 'wide')"),
        (["LOSSES", "--tolerance", "2%"], "needs --base-loss"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_and_exit_code_2(args, message, tmp_path):
    path = write(tmp_path, HEAD + "4,0,a,1.5\n8,0,a,1.4\n")

    run = rankviz("verdict", *[str(path) if arg == "LOSSES" else arg for arg in args])

    assert (2, 1, "") == (run.returncode, len(run.stderr.splitlines()), run.stdout)
    assert message in run.stderr
