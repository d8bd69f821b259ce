"""app.py as a process: it serves, and takes up what an earlier one left."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from rankviz.core.runs.events import StageReached
from rankviz.core.runs.record import RunState
from rankviz.store import RunStore
from tests.support import questions
from tests.support.ports import free_port

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
    store.append(run, StageReached(time=time.time(), stage="training"))

    with serving(tmp_path, RANKVIZ_MAX_ATTEMPTS="1") as url:
        until(lambda: answers(url))
        until(lambda: store.get(run).state.ended)

    assert RunState.FAILED is store.get(run).state
    assert "stopped" in store.get(run).error


def test_options_are_not_ignored_but_those_of_rankviz_serve():
    done = subprocess.run(
        [sys.executable, "app.py", "--host", "0.0.0.0"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert 1 == done.returncode
    assert (
        "app.py takes no options. Start with `rankviz serve`, which has them: rankviz serve --host 0.0.0.0"
        == done.stderr.strip().splitlines()[-1]
    )
