"""Whose memory a probe's limit is meant for."""

import pytest

from rankviz.worker.journal import Journal
from rankviz.worker.probe.main import Probe
from tests.support.runs import probes

LIMIT = 64 * 2**20


@pytest.fixture
def probe(store):
    store.create_probe(probes.request(shared=False, memory_limit_bytes=LIMIT), "{}")
    return Probe(store, Journal(store, "probe-1"), store.home)


def test_on_a_cpu_the_limit_is_the_processs(probe):
    probe._start({"device": "cpu"})

    assert LIMIT == probe.limit_bytes


def test_on_a_gpu_it_is_the_cards_and_the_process_may_take_what_is_free(probe):
    """torch for CUDA takes some GiB of the machine's own memory before anything is loaded."""
    probe._start({"device": "cuda"})

    assert probe.free_bytes == probe.limit_bytes > LIMIT
