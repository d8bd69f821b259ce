"""Workers of one machine: one a GPU, each with a lock of its own; the GPUs are names, as nvidia-smi gives them."""

from rankviz.jobs import Attempt, Job, local
from rankviz.jobs.local import Local
from tests.support.processes.workers import (
    HANG_IN_EACH,
    Patient,
    processes_of,
    sweep,
    wait_for,
    worker,
)


def running(store):
    return [record.run_id for record in store.all() if record.state == "running"]


def test_a_run_that_was_lost_goes_to_the_gpu_that_has_not_just_lost_a_worker(store):
    run_ids = sweep(store, 1, 2)
    dead = worker(
        "for run_id in run_ids:\n"
        "    if begin(run_id):\n"
        "        if os.environ['CUDA_VISIBLE_DEVICES'] == '0': os._exit(75)\n"
        "        complete(run_id)\n"
    )
    engine = Local(store.home, commands={"finetune": dead}, gpus=("0", "1"))
    supervisor = Patient(store, engines=[engine], poll_seconds=0.05, max_attempts=2)
    supervisor.start()
    supervisor.settle()
    supervisor.stop()

    assert [("completed", "GPU 1")] * 2 == [(run.state, run.where) for run in map(store.get, run_ids)]


def test_an_app_that_restarts_with_fewer_gpus_still_finds_every_worker(store):
    engine = Local(store.home, commands={"finetune": HANG_IN_EACH}, gpus=("0", "1"))
    run_ids = [*sweep(store, 4), *sweep(store, 8)]
    for run_id in run_ids:
        engine.start(Job(attempts=(Attempt(run_id, 1),)))
    wait_for(lambda: len(running(store)) == 2)

    later = Local(store.home, gpus=("0",))

    assert [(Attempt(run_id, 1),) for run_id in sorted(run_ids)] == sorted(live.job.attempts for live in later.live())
    assert 0 == later.room()
    for live in later.live():
        later.cancel(live)
    assert [] == processes_of(store.home)


def test_a_worker_whose_app_died_before_it_wrote_its_runs_down_is_killed(store):
    (run_id,) = sweep(store, 4)
    started = local.launch(HANG_IN_EACH, local.lock_file(store.home), [Attempt(run_id, 1)], store.home / "log")
    wait_for(lambda: store.get(run_id).state == "running")
    started.lock.write_text("")

    assert local.find(started.lock) is None

    assert -9 == started.popen.wait(timeout=30)
