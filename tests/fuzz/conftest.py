"""The fixture `fuzz`: every case of a reader gives a result or an error of ours, within its bounds.

RANKVIZ_FUZZ_CASES says how many a reader, RANKVIZ_FUZZ_SEED from which seed (a failure names it), RANKVIZ_FUZZ_REPORT a
file that counts are added to. Bounds are of processor time and of memory, since the clock says more about the machine
than about the reader.
"""

import gc
import json
import os
import resource
import signal
import tempfile
import time
import traceback
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from rankviz.errors import RankVizError
from tests.support.measured import measured

CASES = int(os.environ.get("RANKVIZ_FUZZ_CASES", 200))
SEED = os.environ.get("RANKVIZ_FUZZ_SEED", "1")
"""A change is judged by the same cases as the one before; `make fuzz` tries new ones."""
SHOWN = 5
LEAST = 0.005
"""Of tables of losses, 1.4 % are still such tables once they are broken."""
CPU_SECONDS, MEMORY_BYTES = 2.0, 500 * 10**6
IN_MEMORY = Path("/dev/shm")


@pytest.fixture(scope="session", autouse=True)
def _folders_in_memory():
    """Where the machine has a file system in memory, a case's folder lies there: the time of a disk is not the
    reader's, and most cases need a folder of their own."""
    place = IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="rankviz-fuzz-", dir=place) as folder:
        before, tempfile.tempdir = tempfile.tempdir, folder
        yield
        tempfile.tempdir = before


def pytest_report_header(config):
    return f"fuzz: {CASES} cases a reader, RANKVIZ_FUZZ_SEED={SEED}"


class TooLong(BaseException):
    """No reader catches it."""


@contextmanager
def bounded():
    """A hang of a case is an outcome, and so is a full memory: the machine's safety is a limit far above the bound."""

    def ends(*_):
        raise TooLong

    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before, limits = signal.signal(signal.SIGPROF, ends), resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + 8 * MEMORY_BYTES, limits[1]))
    gc.freeze()  # what the tests before left is not the reader's to look through: in a whole run it takes seconds
    try:
        yield
    finally:
        gc.unfreeze()
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def outcome(read, given):
    """(what became of a case: "result", "refused" (an error of ours) or what broke, and details of that)."""
    largest, before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    signal.setitimer(signal.ITIMER_PROF, 2 * CPU_SECONDS)
    kind, detail = "result", ""
    try:
        read(given)
    except RankVizError:
        kind = "refused"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        kind, detail = "traceback", traceback.format_exc(limit=-6)[-3000:]
    signal.setitimer(signal.ITIMER_PROF, 0)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - largest) * 1024
    if (spent := time.process_time() - before) > CPU_SECONDS:
        return "time", f"{spent:.1f} s"
    return ("memory", f"{grown / 1e6:.0f} MB more than before") if grown > MEMORY_BYTES else (kind, detail)


@pytest.fixture
def fuzz(request):
    """fuzz(make, read): `make(rng)` gives the input of a case, `read(input)` is tried on it. A case passes if it
    returns or raises a RankVizError within 2 s of processor time and 500 MB. refuses: False of a reader that takes
    everything, such as one that leaves out what it cannot read; least: the share of cases that must give a result;
    share: of the cases of a reader, the part that is tried."""

    def run(make, read, *, refuses=True, least=LEAST, share=1.0):
        seed, cases = f"{SEED}:{request.node.name}", round(share * CASES)
        with bounded():
            outcomes = [outcome(read, make(Random(f"{seed}:{index}"))) for index in range(cases)]
        counts = Counter(kind for kind, _ in outcomes)
        if path := os.environ.get("RANKVIZ_FUZZ_REPORT"):
            with Path(path).open("a") as file:
                file.write(json.dumps({"reader": request.node.nodeid, **counts, **measured()}) + "\n")
        broken = {}  # the first case of each cause, as far as the last line of a traceback tells causes apart
        for index, (kind, detail) in enumerate(outcomes):
            if kind not in ("result", "refused"):
                given = repr(make(Random(f"{seed}:{index}")))[:1500]
                cause = kind, detail.strip().rpartition("\n")[2][:80]
                broken.setdefault(cause, f"case {index}: {kind} {detail}\n  {given}")
        if broken:
            shown = "\n".join([*broken.values()][:SHOWN])
            pytest.fail(f"{dict(counts)} of {cases} cases, seed {seed}\n{shown}", pytrace=False)
        # A generator that no longer reaches the reader would pass for ever.
        assert counts["result"] >= least * cases, dict(counts)
        assert counts["refused"] or not refuses, dict(counts)

    return run
