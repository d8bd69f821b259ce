"""What a sweep shows on the terminal while it runs."""

import pytest

from rankviz.api import Api
from rankviz.cli.output import standing, status, time_left, watch
from rankviz.cli.sweep import RANKS_HELP
from rankviz.core.runs.events import (
    AttemptPlaced,
    RunCancelled,
    RunRequeued,
    RunStarted,
    StageProgressed,
    StageReached,
    StepLogged,
)
from rankviz.core.runs.record import RunRecord, Sweep
from rankviz.core.runs.sweep_time import progress_of
from tests.support.runs import questions

LOADING = StageReached(time=10.0, stage="loading the base")
TRAINING = (
    RunStarted(time=20.0, environment={}),
    StageReached(time=20.0, stage="evaluating the base"),
    StageReached(time=30.0, stage="training"),
    *(
        StepLogged(
            time=30.0 + n, step=n, loss=2.5, learning_rate=1e-3, tokens=100 * n, seconds=1.0 * n, memory_bytes=2**30
        )
        for n in range(1, 11)
    ),
)


def shown(*events, now, place=""):
    run = RunRecord(request=questions.run(max_steps=40)).after_all(events)
    progress = progress_of(Sweep(sweep_id="s", runs=(run,)), now)
    return status(run, now, place), time_left(progress)


def test_a_stage_is_shown_with_what_it_has_done_and_its_time():
    progressed = StageProgressed(time=15.0, done=16, total=64, unit="examples")

    assert ("loading the base  5.0 s", "time left not known yet") == shown(LOADING, now=15.0)
    assert ("loading the base, 16 of 64 examples  5.0 s", "about 15 s left of this stage") == shown(
        LOADING, progressed, now=15.0
    )


def test_training_is_shown_with_its_loss_and_pace_and_the_time_left_of_the_sweep():
    """30 steps of 1 s and an evaluation of 10 s."""
    assert ("loss 2.500  100 tokens/s  1.00 GiB", "about 40 s left") == shown(LOADING, *TRAINING, now=40.0)


def test_a_run_that_waits_or_has_ended_shows_its_state():
    assert ("queued", "") == shown(now=1.0)
    assert ("cancelled", "") == shown(LOADING, RunCancelled(time=12.0), now=15.0)


@pytest.mark.parametrize("events", [(LOADING,), TRAINING])
def test_a_run_that_runs_elsewhere_says_where(events):
    words, _ = shown(*events, now=45.0, place="Slurm cluster, node-1")
    here, _ = shown(*events, now=45.0, place="this machine")

    assert f"{here}  Slurm cluster, node-1" == words
    assert "this machine" not in here


def test_the_whole_sweep_shows_what_it_has_cost_and_why_it_waits(tmp_path):
    api = Api(home=tmp_path)
    store = api.workspace.store
    (run_id,) = store.run_ids(store.create(questions.sweep(ranks=(4,))))
    for event in (LOADING, RunRequeued(time=20.0, attempt=1, lost="The node has gone.")):
        store.append(run_id, event)
    waits = "No node of the Ray cluster has GPU 1."
    store.append(run_id, AttemptPlaced(time=21.0, attempt=2, engine="ray", waits=waits))

    (sweep,) = api.runs.sweeps()

    assert [f"The last attempt was lost: The node has gone. {waits}"] == standing(api, sweep)


def test_ctrl_c_says_how_to_see_the_runs_again_and_how_to_end_them(tmp_path, monkeypatch, capsys):
    api = Api(home=tmp_path)

    def interrupted(sweep_id):
        raise KeyboardInterrupt

    monkeypatch.setattr(api.runs, "follow", interrupted)

    with pytest.raises(SystemExit, match="130"):
        watch(api, "20260101-000000-abcd")

    *_, last = capsys.readouterr().err.splitlines()
    assert "The runs go on. `rankviz runs watch 20260101-000000-abcd` shows them again, " in last
    assert last.endswith("`rankviz runs cancel 20260101-000000-abcd` ends them.")


def test_what_a_sweep_trains_without_ranks_is_in_its_help():
    expected = (
        "Rank; repeatable. Without it: 4, 16, 64; with --quick 4, 64; with --fast 1, 2, 4, 8, 16, 32, 64; "
        "with --rate-first 16."
    )

    assert expected == RANKS_HELP
