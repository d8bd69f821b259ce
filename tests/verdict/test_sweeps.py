"""Verdicts on sweeps: the losses of their examples, by token where these were counted."""

import json
import zipfile
from pathlib import Path

import pytest

from rankviz.api.runs.verdict_json import verdict_json
from rankviz.core.runs.events import Evaluated, RunCompleted, RunStarted
from rankviz.errors import RunNotFoundError
from rankviz.verdict import base_loss_of, losses_of, read_losses, sentences
from tests.support.runs import questions
from tests.support.runs.finished_runs import finished
from tests.verdict.test_table import write

COMPLETED = RunCompleted(time=2.0, train_seconds=1.0, peak_memory_bytes=2**30, peak_memory_kind="process resident")


def evaluated_sweep(api, losses, *, seeds=(0, 1, 2), steps=40, tokens=(), read="", **settings):
    """A sweep whose runs were evaluated example by example: loss of the rank, of the seed, and of the pair. tokens: of
    each of the four examples. read: the fingerprint of its data; empty where its runs have said none."""
    sweep_id = api.workspace.store.create(
        questions.sweep(ranks=tuple(losses), seeds=seeds, max_steps=steps, **settings)
    )
    for run in api.workspace.store.sweep(sweep_id).runs:
        r, seed = run.request.r, run.request.seed
        where = {"data_fingerprint": read} if read else {}
        api.workspace.store.append(run.run_id, RunStarted(time=0.5, environment=where))
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
        api.workspace.store.append(run.run_id, COMPLETED)
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
        api.workspace.store.append(run.run_id, COMPLETED)
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

    assert [pytest.approx(1.9), pytest.approx(1.55)] == [run.losses.mean() for run in counted]
    assert [1.5, 1.75] == [run.losses.mean() for run in partly]


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
