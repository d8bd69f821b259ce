"""The line to the driver, whatever that does: nobody who asks waits long. The driver is a stand-in that repeats what it
is asked."""

import contextlib
import os
import signal
import sys
import time

import psutil
import pytest

from rankviz.engines.ray.line import Line
from rankviz.engines.ray.terms import Terms
from rankviz.errors import EngineUnavailableError
from tests.support.processes.workers import processes_of, wait_for

DRIVER = """
import sys
from multiprocessing.connection import Connection
pipe = Connection(int(sys.argv[-1]))
log = pipe.recv().jobs
pipe.send("")
while True:
    pipe.send(pipe.recv())
"""


@pytest.fixture
def line(tmp_path):
    terms = Terms(address="", namespace="", jobs=tmp_path)
    line = Line(terms, tmp_path / "driver.log", [sys.executable, "-c", DRIVER, str(tmp_path)])
    wait_for(lambda: answer(line, "state") == ("state", ()))
    yield line
    line.close()
    for process in processes_of(tmp_path):
        with contextlib.suppress(psutil.Error):
            process.kill()


def answer(line, *question):
    """What it is, or None."""
    try:
        return line.ask(*question)
    except EngineUnavailableError:
        return None


def driver(tmp_path) -> psutil.Process:
    (found,) = processes_of(tmp_path)
    return found


def seconds_of(call) -> float:
    since = time.monotonic()
    call()
    return time.monotonic() - since


def test_a_driver_that_stands_still_costs_one_second_and_then_none(line, tmp_path):
    os.kill(driver(tmp_path).pid, signal.SIGSTOP)

    assert seconds_of(lambda: answer(line, "pause", "a")) < 60.0
    assert seconds_of(lambda: [answer(line, "state") for _ in range(200)]) < 60.0

    os.kill(driver(tmp_path).pid, signal.SIGCONT)


def test_an_answer_that_comes_too_late_is_not_taken_for_that_of_the_next_question(line, tmp_path):
    os.kill(driver(tmp_path).pid, signal.SIGSTOP)
    assert answer(line, "pause", "a") is None
    os.kill(driver(tmp_path).pid, signal.SIGCONT)

    wait_for(lambda: answer(line, "end", "b") == ("end", ("b",)))


def test_a_driver_that_stands_still_for_long_is_ended_and_another_is_started(line, tmp_path):
    stopped = driver(tmp_path)
    os.kill(stopped.pid, signal.SIGSTOP)

    assert max(seconds_of(lambda: answer(line, "state")) for _ in pauses_until(lambda: answer(line, "state"))) < 60.0

    assert not stopped.is_running()
    assert driver(tmp_path).is_running()


def pauses_until(condition):
    """Goes on as long as a condition does not hold."""
    yield
    while not condition():
        time.sleep(0.1)
        yield
