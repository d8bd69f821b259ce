"""What another visitor sees while an attack runs: estimates, one after another, and the page afterwards.

RANKVIZ_ATTACK_REPORT names a file that each attack's figures are added to.
"""

import json
import os
import re
import threading
import time
from contextlib import suppress
from itertools import count
from pathlib import Path

import psutil

from tests.support.measured import measured
from tests.support.web.stranger import Stranger

BESIDE_OTHERS = "PYTEST_XDIST_WORKER" in os.environ
LIMIT_SECONDS = 5.0 if BESIDE_OTHERS else 1.0
"""An estimate of another visitor takes less while an attack runs (`make attacks`). Where other tests have the same
processors (`make test`), only what waits for a lock or a network is told from what is slow."""
SLOWER = 20
"""On a machine that is busy with something else: less than so many times what the slowest took without the attack."""
ALONE = 4 if BESIDE_OTHERS else 8
GRACE_BYTES = 700 * 10**6
"""What the app itself may grow by during one attack; its children have bounds of their own."""
CHILD_BYTES = 4_500 * 10**6
"""What a child may have: the 4,000 MB of the settings, and the files that it maps."""
EVERY_SECONDS = 0.2 if BESIDE_OTHERS else 0.05
"""The pause between two estimates."""
READERS_AT_ONCE = 1
"""On a shared page, unless the settings say otherwise."""


def watched(space, visitor, name, attack, *, readers_at_once=READERS_AT_ONCE, every_seconds=EVERY_SECONDS):
    """What attack() returns. Meanwhile the visitor is answered again and again, and afterwards the page loads for them,
    on every tab; the app has logged no traceback and has not grown without bound."""
    ranks = count(1)
    before, logged = space.rss.memory_info().rss, len(space.log.read_text())
    alone, failed = [_ask(visitor, next(ranks), []) for _ in range(ALONE)], []
    waits, children, over = [], [(0, 0)], threading.Event()

    def ask():
        while not over.is_set() or len(waits) < 3:
            waits.append(_ask(visitor, next(ranks), failed))
            children.append(_children(space))
            over.wait(every_seconds)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        result = attack()
    finally:
        over.set()
        asking.join()
    grown = space.rss.memory_info().rss - before
    at_once, child = (max(column) for column in zip(*children, strict=True))
    _report(name, answers_meanwhile=len(waits), slowest_seconds=max(waits), grown_mb=grown / 1e6, child_mb=child / 1e6)
    assert [] == failed
    alone += [_ask(visitor, next(ranks), failed) for _ in range(ALONE)] if max(waits) > LIMIT_SECONDS else []
    assert max(waits) < max(LIMIT_SECONDS, SLOWER * max(alone)), f"alone it took {max(alone):.2f} s"
    assert at_once <= readers_at_once
    assert child < CHILD_BYTES
    assert [] == Stranger(space.url).load()
    assert [] == visitor.load("?tab=runs")
    assert [] == tracebacks(space.log.read_text()[logged:])
    assert grown < GRACE_BYTES
    return result


def _ask(visitor, number, failed):
    """Seconds of one estimate, of another rank each time."""
    start = time.perf_counter()
    reply = visitor.ask(model="Qwen/Qwen3-4B", r=number % 250 + 1)
    if reply.status_code != 200 or "records" not in reply.json():
        failed.append(reply.text[:300])
    return time.perf_counter() - start


def _children(space):
    """How many child processes read something now, and the bytes of the largest."""
    readers, largest = space.readers(), 0
    for each in readers:
        with suppress(psutil.Error):
            largest = max(largest, each.memory_info().rss)
    return len(readers), largest


def tracebacks(log):
    """The last line of each in a log."""
    ends = [re.search(r"^\w.*", text, re.MULTILINE) for text in log.split("Traceback (most recent call last):\n")[1:]]
    return [end[0] for end in ends if end]


def _report(name, **figures):
    if path := os.environ.get("RANKVIZ_ATTACK_REPORT"):
        with Path(path).open("a") as file:
            file.write(json.dumps({"attack": name, **figures, **measured()}) + "\n")
