"""The fixture `fuzz`: every case of a reader gives a result or an error of ours, within its bounds.

RANKVIZ_FUZZ_CASES says how many a reader, RANKVIZ_FUZZ_SEED from which seed (a failure names it), RANKVIZ_FUZZ_REPORT a
file that counts are added to.
"""

import json
import os
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from tests.fuzz.bounded import case, run_cases
from tests.support.measured import measured

CASES = int(os.environ.get("RANKVIZ_FUZZ_CASES", 200))
SEED = os.environ.get("RANKVIZ_FUZZ_SEED", "1")
"""A change is judged by the same cases as the one before; `make fuzz` tries new ones."""
SHOWN = 5
LEAST = 0.005
"""Of tables of losses, 1.4 % are still such tables once they are broken."""

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


@pytest.fixture
def cases():
    """How many a reader gets."""
    return CASES


@pytest.fixture
def fuzz(request):
    """fuzz(make, read): `make(rng)` gives the input of a case, `read(input)` is tried on it. A case passes if it
    returns or raises a RankVizError within 2 s of processor time and 500 MB. refuses: False of a reader that takes
    everything, such as one that leaves out what it cannot read; least: the share of cases that must give a result."""

    def run(make, read, *, cases=CASES, refuses=True, least=LEAST):
        seed = f"{SEED}:{request.node.name}"
        outcomes = run_cases(make, read, seed=seed, cases=range(cases))
        counts = Counter(outcome.kind for outcome in outcomes)
        _report(request.node.nodeid, counts)
        broken = [outcome for outcome in outcomes if outcome.kind not in ("result", "refused")]
        shown = [
            f"case {outcome.index}: {outcome.kind} {outcome.detail}\n  {repr(case(make, seed, outcome.index))[:1500]}"
            for outcome in _one_of_each(broken)[:SHOWN]
        ]
        if broken:
            pytest.fail(f"{len(broken)} of {cases} cases broke it, seed {seed}\n" + "\n".join(shown), pytrace=False)
        # A generator that no longer reaches the reader would pass for ever.
        assert counts["result"] >= least * cases, dict(counts)
        assert counts["refused"] or not refuses, dict(counts)

    return run


def _one_of_each(outcomes):
    """The first outcome of each cause, as far as the last line of a traceback tells causes apart."""
    return list({(o.kind, o.detail.strip().rpartition("\n")[2][:80]): o for o in reversed(outcomes)}.values())[::-1]


def _report(name, counts):
    if path := os.environ.get("RANKVIZ_FUZZ_REPORT"):
        with Path(path).open("a") as file:
            file.write(json.dumps({"reader": name, **counts, **measured()}) + "\n")
