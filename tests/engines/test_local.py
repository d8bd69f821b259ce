"""Workers of one machine: one a GPU, each with a lock of its own; the GPUs are names, as nvidia-smi gives them."""

import pytest

from rankviz.core.preflight.facts import Card, Driver
from rankviz.engines import Attempt, Job
from rankviz.engines.local import Local
from rankviz.machine.cards import only, usable
from rankviz.supervisor import Supervisor
from tests.support import questions
from tests.support.workers import HANG_IN_EACH, processes_of, states, sweep, wait_for, worker

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

    assert (0, False, True) == engine.live()[0].end[:2] + engine.live()[0].end[3:]


def card(index, name="L4", gib=24):
    return Card(
        index=index,
        name=name,
        uuid=f"GPU-{index}abc",
        memory_bytes=gib * 2**30,
        used_bytes=0,
        capability=(8, 9),
    )


class NoMig:
    """As pynvml where no card is divided."""

    class NVMLError(Exception):
        pass

    def nvmlInit(self): ...

    def nvmlShutdown(self): ...

    def nvmlDeviceGetHandleByIndex(self, index):
        raise self.NVMLError


FOUR = Driver(version="580", cuda=(13, 0), cards=(card(0, "T4", 16), card(1), card(2), card(3, "T4", 16)))


@pytest.mark.parametrize(
    ("visible", "indices"),
    [
        (None, [1, 2]),
        ("3,0", [3, 0]),
        ("2", [2]),
        ("GPU-3abc,GPU-1abc", [3, 1]),
        ("1,9,2", [1]),
        ("1,1", [1]),
        ("", []),
        ("-1", []),
    ],
)
def test_the_gpus_that_are_used_at_once_are_those_named_or_else_those_alike(visible, indices):
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}

    assert indices == [each.index for each in usable(FOUR, environ, NoMig())]


def test_without_a_driver_there_is_no_gpu_to_use():
    assert () == usable(None, {})


def test_a_worker_is_shown_its_card_by_what_means_the_same_card_in_any_order():
    assert {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "GPU-2abc"} == only(card(2))


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
