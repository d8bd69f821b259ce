"""Jobs that were given up without anybody knowing that they had ended, and that show up in Slurm later."""

import os
import time

import pytest

from rankviz.engines.slurm.calls import Cancels
from rankviz.engines.slurm.commands import Commands
from rankviz.engines.slurm.missing import LOOKED_FOR_SECONDS, Missing
from rankviz.engines.slurm.place import Place
from rankviz.engines.slurm.states import Seen
from rankviz.engines.slurm.watch import Look
from tests.support.engines.slurm_cluster import success
from tests.support.processes.workers import FIRST_HANGS, HANG_IN_EACH, states, sweep, wait_for, wait_until_quiet

NOTHING = success('{"jobs": []}')


def missing_in(store):
    return [file.name for file in (store.home / "slurm-jobs" / "missing").glob("*")]


def test_a_job_that_counted_as_lost_and_shows_up_is_ended(store, cluster, supervise):
    (run_id,) = sweep(store, 4)
    supervisor = supervise(HANG_IN_EACH, missing_seconds=0.3)
    wait_for(lambda: store.get(run_id).steps)

    cluster.faults["squeue"] = lambda answer: NOTHING
    wait_for(lambda: store.get(run_id).lost_attempts)
    assert "RUNNING" == cluster.jobs[0].state
    cluster.faults.clear()
    wait_for(lambda: cluster.jobs[0].has_ended)
    wait_for(lambda: not missing_in(store))
    wait_for(lambda: store.get(run_id).steps)

    assert ["CANCELLED", "RUNNING"] == [job.state for job in cluster.jobs]
    supervisor.cancel(run_id)
    assert [] == [process for job in cluster.jobs for process in cluster.processes(job)]


def test_the_next_app_looks_for_it_too_though_it_has_no_job(store, cluster, supervise):
    (run_id,) = sweep(store, 4)
    supervisor = supervise(HANG_IN_EACH)
    wait_for(lambda: store.get(run_id).steps)

    cluster.faults["squeue"] = lambda answer: NOTHING
    supervisor.cancel(run_id)
    assert ["cancelled"] == states(store, [run_id])
    assert "RUNNING" == cluster.jobs[0].state
    supervisor.stop()
    cluster.faults.clear()
    supervise()

    wait_for(lambda: cluster.jobs[0].has_ended)
    wait_for(lambda: not missing_in(store))
    wait_until_quiet(lambda: len(cluster.asked))


def test_a_job_whose_papers_cannot_be_read_is_ended(store, cluster, supervise):
    broken, others = sweep(store, 4), sweep(store, 8)
    go = store.home.parent / "go"
    supervisor = supervise(HANG_IN_EACH)
    wait_for(lambda: all(store.get(run_id).steps for run_id in (*broken, *others)))

    (store.home / "slurm-jobs" / f"{broken[0]}-a1" / "job.json").write_text("")
    wait_for(lambda: states(store, broken) == ["failed"])
    wait_for(lambda: cluster.jobs[0].has_ended)

    assert ["running"] == states(store, others)
    assert not go.exists()
    supervisor.cancel(others[0])


def test_a_job_whose_end_is_known_is_not_looked_for(store, cluster, supervise):
    run_ids = sweep(store, 4, 8)
    supervisor = supervise(FIRST_HANGS)
    wait_for(lambda: store.get(run_ids[0]).steps)

    cluster.lose("node-0")
    supervisor.settle()
    wait_for(lambda: not any((store.home / "slurm-jobs").iterdir()))

    assert ["completed"] * 2 == states(store, run_ids)


@pytest.mark.parametrize("days, is_kept", [(6.9, True), (7.1, False)])
def test_one_that_shows_up_nowhere_is_looked_for_for_a_week(tmp_path, days, is_kept):
    place = Place(tmp_path)
    place.path.mkdir()
    missing = Missing(place, Cancels(Commands()))
    missing.note("run-a1")
    then = time.time() - days / 7 * LOOKED_FOR_SECONDS
    os.utime(place.path / "missing" / "run-a1", (then, then))

    missing.end(Look(began=1.0))

    assert is_kept == bool(missing)


def test_one_that_is_on_its_way_out_is_kept_until_it_has_ended(tmp_path):
    place = Place(tmp_path)
    place.path.mkdir()
    missing = Missing(place, Cancels(Commands()))
    missing.note("run-a1")
    seen = lambda *words: {place.name_of("run-a1"): Seen("7", frozenset(words))}  # noqa: E731

    missing.end(Look(began=1.0, listed=seen("CANCELLED", "COMPLETING")))
    assert missing
    missing.end(Look(began=2.0, listed=seen("CANCELLED")))

    assert not missing
