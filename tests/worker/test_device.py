"""Processor time of this process and of others, as the kernel counts it, and memory that ran out."""

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rankviz.worker.device import ProcessorClock, ran_out_of_memory

SPIN = "import time\nprint(flush=True)\nwhile True: time.time()"
SLEEP_THEN_SPIN = """
import time
from rankviz.worker.device import ProcessorClock
asleep = ProcessorClock()
time.sleep(0.2)
asleep, awake = asleep.read(), ProcessorClock()
ends = time.process_time() + 0.3
while time.process_time() < ends: pass
print(asleep.own, awake.read().own)
"""
waits_are_counted = pytest.mark.skipif(
    not Path("/proc/self/schedstat").is_file(), reason="only Linux counts what threads wait for"
)


def spin(seconds):
    """Until this process has had so much processor time."""
    ends = time.process_time() + seconds
    while time.process_time() < ends:
        pass


def test_a_process_that_computes_has_the_processor_and_one_that_sleeps_does_not():
    """In a process of its own: threads that other tests have left may compute."""
    ran = subprocess.run([sys.executable, "-c", SLEEP_THEN_SPIN], stdout=subprocess.PIPE, text=True, check=True)
    asleep, awake = map(float, ran.stdout.split())

    assert asleep < 0.1 < 0.2 < awake


@waits_are_counted
def test_a_thread_that_shares_one_processor_with_another_program_waits():
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})  # the other program inherits it
    try:
        other = subprocess.Popen([sys.executable, "-c", SPIN], stdout=subprocess.PIPE)
        try:
            other.stdout.readline()  # from now on it computes
            clock = ProcessorClock()
            spin(0.5)
            use = clock.read()
        finally:
            other.kill()
            other.communicate()
    finally:
        os.sched_setaffinity(0, allowed)

    assert use.waited > 0.1
    assert use.others > 0.1


def chain(*errors: BaseException) -> BaseException:
    """The first error, caused by the second, and so on."""
    for error, cause in itertools.pairwise(errors):
        error.__cause__ = cause
    return errors[0]


def test_memory_that_ran_out_in_a_cause_is_memory_that_ran_out():
    assert ran_out_of_memory(chain(RuntimeError("the loader failed"), MemoryError()))
    assert not ran_out_of_memory(RuntimeError("CUDA out of memory, says a log line"))
