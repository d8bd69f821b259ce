"""Workers of one machine: one a GPU, each with a lock of its own; the GPUs are names, as nvidia-smi gives them."""

import os

import psutil
import pytest

from rankviz.errors import EngineEndingError, RunNotFoundError
from rankviz.jobs import Attempt, Job, process
from rankviz.jobs.local import Local, Slot
from rankviz.jobs.supervisor import Supervisor
from rankviz.store.ownership import Destination
from tests.support.engines.elsewhere import Elsewhere
from tests.support.processes.workers import HANG_IN_EACH, lost_reasons, processes_of, states, sweep, wait_for, worker
from tests.support.runs import questions

SAYS_ITS_GPU = (
    "for run_id in run_ids:\n"
    "    if begin(run_id):\n"
    "        print('sees', os.environ['CUDA_DEVICE_ORDER'], os.environ['CUDA_VISIBLE_DEVICES'], flush=True)\n"
    "        while not (store.home / 'go').exists(): time.sleep(0.02)\n"
    "        complete(run_id)\n"
)


def supervise(store, program, gpus, **settings):
    engine = Local(store.home, commands={"finetune": worker(program)}, gpus=gpus)
    supervisor = Supervisor(store, engines=[engine], poll_seconds=0.05, **settings)
    supervisor.start()
    return supervisor


def running(store):
    return [record.run_id for record in store.all() if record.state == "running"]


def gpus_of(store, run_ids):
    logs = [(store.run_dir(run_id) / "worker.log") for run_id in run_ids]
    return sorted({line for log in logs if log.exists() for line in log.read_text().splitlines()})


def test_two_sweeps_run_side_by_side_each_on_a_gpu_of_its_own(store):
    run_ids = [*sweep(store, 4), *sweep(store, 8)]

    supervisor = supervise(store, SAYS_ITS_GPU, ("GPU-a", "GPU-b"))
    wait_for(lambda: len(running(store)) == 2)
    (store.home / "go").touch()
    supervisor.settle()
    supervisor.stop()

    assert ["sees PCI_BUS_ID GPU-a", "sees PCI_BUS_ID GPU-b"] == gpus_of(store, run_ids)
    assert {"GPU GPU-a", "GPU GPU-b"} == {store.get(run_id).where for run_id in run_ids}


def test_a_sweep_alone_is_divided_among_the_gpus(store):
    run_ids = sweep(store, 1, 2, 3, 4, 6, 8)

    supervisor = supervise(store, SAYS_ITS_GPU, ("0", "1"))
    wait_for(lambda: len(running(store)) == 2)
    (store.home / "go").touch()
    supervisor.settle()
    supervisor.stop()

    assert ["completed"] * 6 == states(store, run_ids)
    assert [["GPU 0"] * 3, ["GPU 1"] * 3] == [
        [store.get(run_id).where for run_id in half] for half in (run_ids[:3], run_ids[3:])
    ]


def test_a_short_sweep_stays_on_one_gpu(store):
    run_ids = sweep(store, 4, 8)
    (store.home / "go").touch()

    supervisor = supervise(store, SAYS_ITS_GPU, ("0", "1"), split_runs=3)
    supervisor.settle()
    supervisor.stop()

    assert {"GPU 0"} == {store.get(run_id).where for run_id in run_ids}


def test_a_gpu_that_becomes_free_takes_half_of_what_is_left(store):
    """Two sweeps begin on a GPU each; the short one ends, and the long one gives way to itself, once."""
    long, short = sweep(store, *range(1, 13)), sweep(store, 64)
    yields = (
        "for number, run_id in enumerate(run_ids):\n"
        "    if number and (store.home / os.environ['WORKER_YIELD_FILE']).exists(): raise SystemExit(0)\n"
        "    if begin(run_id):\n"
        "        step(run_id)\n"
        "        while not (store.home / 'go').exists() and not run_id.endswith('r64'): time.sleep(0.02)\n"
        "        complete(run_id)\n"
    )

    supervisor = supervise(store, yields, ("0", "1"))
    wait_for(lambda: (store.home / "worker.yield").exists())
    assert ["completed"] == states(store, short)
    (store.home / "go").touch()
    supervisor.settle()
    supervisor.stop()

    assert ["completed"] * 12 == states(store, long)
    assert {"GPU 0", "GPU 1"} == {store.get(run_id).where for run_id in long}


def test_what_waits_for_another_engine_keeps_no_gpu_idle(store, tmp_path):
    class Away(Elsewhere):
        def room(self):
            return 0

    away = store.run_ids(store.create(questions.sweep(ranks=(4,)), destination=Destination("elsewhere")))
    long, short = sweep(store, *range(1, 13)), sweep(store, 64)
    program = (
        "for run_id in run_ids:\n"
        "    if begin(run_id):\n"
        "        step(run_id)\n"
        "        while not run_id.endswith('r64'): time.sleep(0.02)\n"
        "        complete(run_id)\n"
    )
    here = Local(store.home, commands={"finetune": worker(program)}, gpus=("0", "1"))
    supervisor = Supervisor(store, engines=[here, Away(store, tmp_path / "elsewhere", HANG_IN_EACH)])
    wait_for(lambda: supervisor.tick() or states(store, short) == ["completed"])

    wait_for(lambda: supervisor.tick() or (store.home / "worker.yield").exists())

    supervisor.cancel_runs([*away, *long])
    supervisor.stop()


GPU_1_FAILS = (
    "for run_id in run_ids:\n"
    "    if begin(run_id):\n"
    "        if os.environ['CUDA_VISIBLE_DEVICES'] == '1': os._exit(75)\n"
    "        step(run_id)\n"
    "        while run_id.endswith('r4') and not (store.home / 'go').exists(): time.sleep(0.02)\n"
    "        complete(run_id)\n"
)


def test_a_gpu_that_has_lost_a_worker_rests_and_the_others_get_the_work(store):
    busy, *others = (sweep(store, rank) for rank in (4, 8, 16, 32))
    engine = Local(store.home, commands={"finetune": worker(GPU_1_FAILS)}, gpus=("0", "1"), rest_seconds=60.0)
    supervisor = Supervisor(store, engines=[engine], poll_seconds=0.02, max_attempts=3)
    wait_for(lambda: supervisor.tick() or (lost_reasons(store, others[0][0]) and store.get(busy[0]).steps))
    for _ in range(10):
        supervisor.tick()

    assert ["running", *["queued"] * 3] == states(store, [run_id for each in (busy, *others) for run_id in each])
    assert 0 == engine.room()
    (store.home / "go").touch()
    supervisor.settle()
    supervisor.stop()

    assert ["completed"] * 3 == states(store, [run_id for each in others for run_id in each])
    assert [2, 1, 1] == [store.get(run_id).attempt for each in others for run_id in each]


def test_a_rest_is_doubled_each_time_up_to_some_minutes_and_ends_with_a_worker_that_is_not_lost(store):
    engine = Local(store.home, commands={"finetune": worker("raise SystemExit(int(Path('code').read_text()))")})
    engine._slots = [Slot(0, "GPU 0", {}), Slot(1, "GPU 1", {})]
    (run_id,) = sweep(store, 4)
    rests = []

    for code in (75, 75, 75, 75, 75, 75, 75, 0, 75):
        (store.home / "code").write_text(str(code))
        engine._rests = {lock: rest._replace(until=0.0) for lock, rest in engine._rests.items()}
        engine._workers[engine._home / "worker-1.lock"] = None  # the other GPU is busy
        engine.start(Job(attempts=(Attempt(run_id, 1),)))
        del engine._workers[engine._home / "worker-1.lock"]
        wait_for(lambda: engine.live()[0].end is not None)
        engine.forget(engine.live()[0])
        rests.append(sum(rest.seconds for rest in engine._rests.values()))

    assert [10, 20, 40, 80, 160, 300, 300, 0, 10] == rests


def test_a_worker_that_cannot_be_killed_keeps_its_gpu_and_nothing_else(store, monkeypatch):
    """In a driver, say: pretended, since no test can have such a process."""
    program = (
        "for run_id in run_ids:\n"
        "    if begin(run_id):\n"
        "        step(run_id)\n"
        "        while run_id.endswith('r4'): time.sleep(0.02)\n"
        "        complete(run_id)\n"
    )
    engine = Local(store.home, commands={"finetune": worker(program)}, gpus=("0", "1"), grace_seconds=0.1)
    supervisor = Supervisor(store, engines=[engine], poll_seconds=0.02)
    (stuck,) = sweep(store, 4)
    wait_for(lambda: supervisor.tick() or store.get(stuck).steps)
    pids, lives = {store.get(stuck).environment["pid"]}, process._lives
    monkeypatch.setattr(process, "_lives", lambda pid: pid in pids or lives(pid))

    with pytest.raises(EngineEndingError, match="has been killed and has not ended yet"):
        supervisor.cancel(stuck, timeout_seconds=0)
    (other,) = sweep(store, 8)
    wait_for(lambda: supervisor.tick() or states(store, [other]) == ["completed"])

    wait_for(lambda: supervisor.tick() or engine.room() == 1)
    assert (["running"], "GPU 1") == (states(store, [stuck]), store.get(other).where)
    pids.clear()
    wait_for(lambda: supervisor.tick() or states(store, [stuck]) == ["cancelled"])
    supervisor.stop()


def test_a_worker_is_not_left_stopped_where_it_is_not_known_whether_it_is_to_end(store):
    (run_id,) = sweep(store, 4)
    engine = Local(store.home, commands={"finetune": worker("time.sleep(600)")}, gpus=("0",))
    live = engine.start(Job(attempts=(Attempt(run_id, 1),)))

    def unknown():
        raise RunNotFoundError(run_id)

    with pytest.raises(RunNotFoundError):
        engine.cancel(live, unknown)

    assert psutil.STATUS_STOPPED != psutil.Process(int(live.handle)).status()
    engine.cancel(live)


def test_a_worker_that_an_app_has_stopped_and_was_killed_then_goes_on_with_the_next_app(store):
    (run_id,) = sweep(store, 4)
    engine = Local(store.home, commands={"finetune": worker("time.sleep(600)")}, gpus=("0",))
    live = engine.start(Job(attempts=(Attempt(run_id, 1),)))
    if not (app := os.fork()):
        engine.cancel(live, lambda: os._exit(9))
    os.waitpid(app, 0)
    works = psutil.Process(int(live.handle))
    wait_for(lambda: works.status() == psutil.STATUS_STOPPED)

    later = Local(store.home, gpus=("0",))
    (found,) = later.live()

    wait_for(lambda: works.status() != psutil.STATUS_STOPPED, seconds=60.0)
    later.cancel(found)


def test_a_visitor_with_one_sweep_gets_the_second_gpu_before_another_of_the_first(store):
    first, second = (store.run_ids(store.create(questions.sweep(ranks=(4,)), "ann")) for _ in range(2))
    other = store.run_ids(store.create(questions.sweep(ranks=(4,)), "ben"))

    supervisor = supervise(store, SAYS_ITS_GPU, ("0", "1"))
    wait_for(lambda: len(running(store)) == 2)
    together = running(store)
    (store.home / "go").touch()
    supervisor.settle()
    supervisor.stop()

    assert {*first, *other} == {*together}
    assert ["completed"] == states(store, second)


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


def test_a_worker_that_gave_way_is_not_lost(store):
    engine = Local(store.home, commands={"finetune": worker("time.sleep(0.2)")}, gpus=("0",))
    (run_id,) = sweep(store, 4)
    live = engine.start(Job(attempts=(Attempt(run_id, 1),)))
    engine.give_way(live)

    wait_for(lambda: engine.live()[0].end is not None)

    end = engine.live()[0].end
    assert (0, False, True) == (end.exit_code, end.lost, end.gave_way)


def test_workers_that_share_a_folder_compile_into_folders_of_their_own(store):
    says = "begin(run_ids[0]); print('cache', os.environ.get('UNSLOTH_COMPILE_LOCATION', 'its own'), flush=True)\n"
    says += "while not (store.home / 'go').exists(): time.sleep(0.02)\ncomplete(run_ids[0])"
    run_ids = [*sweep(store, 4), *sweep(store, 8)]

    supervisor = supervise(store, says, ("0", "1"))
    wait_for(lambda: len(running(store)) == 2)
    (store.home / "go").touch()
    supervisor.settle()
    supervisor.stop()

    assert ["cache its own", "cache unsloth_compiled_cache-1"] == gpus_of(store, run_ids)
