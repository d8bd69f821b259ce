"""app.py as a process: it serves, and takes up what an earlier one left."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from rankviz.core.runs.events import RunRequeued, StageReached
from rankviz.core.runs.record import RunState
from rankviz.store import RunStore
from tests.support.runs import questions
from tests.support.web.ports import free_port

ROOT = Path(__file__).parents[2]


@contextmanager
def serving(home: Path, **variables: str):
    port = free_port()
    env = os.environ | {"RANKVIZ_HOME": str(home), "GRADIO_SERVER_PORT": str(port), **variables}
    process = subprocess.Popen(
        [sys.executable, "app.py"], cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)


def until(condition, seconds: float = 240.0):
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.1)
    return result


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return 200 == answer.status
    except OSError:
        return False


def test_a_restarted_app_settles_a_run_whose_worker_has_gone(tmp_path):
    store = RunStore(tmp_path)
    run = store.sweep(store.create(questions.sweep(ranks=(8,)))).runs[0].run_id
    store.begin(run)
    store.append(run, RunRequeued(time=time.time(), attempt=1, lost="The worker was lost."))
    store.begin(run)  # its last attempt
    store.append(run, StageReached(time=time.time(), stage="training"))

    with serving(tmp_path) as url:
        until(lambda: answers(url))
        until(lambda: store.get(run).state.ended)

    assert RunState.FAILED is store.get(run).state
    assert "stopped" in store.get(run).error


def test_a_shared_page_keeps_bases_in_its_runs_folder_and_its_memory_from_its_workers(tmp_path):
    """One's own keeps bases where all programs do, and can be looked into by one's own programs."""
    is_dumpable = "ctypes.CDLL(None).prctl(3)"  # PR_GET_DUMPABLE
    shows = f"print(os.environ.get('HF_HUB_CACHE'), {is_dumpable}, flush=True), os._exit(0)"
    code = f"import ctypes, os; from rankviz.ui import serve; serve.build_app = lambda api: ({shows}); serve.serve()"
    env = {name: value for name, value in os.environ.items() if name != "HF_HUB_CACHE"}
    env |= {"RANKVIZ_HOME": str(tmp_path), "GRADIO_SERVER_PORT": str(free_port())}

    def found(shared: str) -> str:
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command, cwd=ROOT, env=env | {"RANKVIZ_SHARED": shared}, capture_output=True, text=True, check=True
        )
        return done.stdout.strip().splitlines()[-1]

    assert f"{tmp_path / 'hub'} 0" == found("true")
    assert "None 1" == found("false")
