"""Machines and their prices are asked for once, and nobody waits long for them."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from rankviz.jobs.hf_jobs.offers import SLOW, Offers

from rankviz.errors import EngineUnavailableError
from rankviz.jobs.hf_jobs import offers
from rankviz.jobs.prices import Flavor
from tests.support.processes.workers import wait_for

L4 = Flavor(name="l4x1", label="L4", usd_per_minute=0.01, gpu="L4", gpus=1, memory_bytes=24 * 2**30)


class SlowHub:
    """Answers once it may."""

    name = "alice"

    def __init__(self, error=None):
        self.asked, self.may, self.error = 0, threading.Event(), error

    def flavors(self):
        self.asked += 1
        assert self.may.wait(120)
        if self.error:
            raise self.error
        return [L4]


@pytest.fixture
def machines():
    return Offers(spend=2.0, flavor="l4x1", retry_seconds=0.05)


def test_all_who_ask_at_once_wait_for_one_question(machines):
    hub = SlowHub()
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(machines.flavors, hub) for _ in range(8)]
        wait_for(lambda: hub.asked)
        hub.may.set()

    assert [[L4]] * 8 == [answer.result() for answer in answers]
    assert 1 == hub.asked


def test_while_hugging_face_does_not_answer_nobody_waits_long_and_later_ones_not_at_all(machines, monkeypatch):
    monkeypatch.setattr(offers, "WAIT_SECONDS", 0.3)
    hub = SlowHub()
    with pytest.raises(EngineUnavailableError, match=SLOW):
        machines.flavors(hub)

    begin = time.monotonic()
    for _ in range(300):
        with pytest.raises(EngineUnavailableError, match=SLOW):
            machines.flavors(SlowHub())
    assert time.monotonic() - begin < 60.0  # 90 s, if each waited
    assert 1 == hub.asked

    hub.may.set()
    wait_for(lambda: machines._are_fresh)
    assert [L4] == machines.flavors(SlowHub())


def test_who_waited_for_the_question_of_a_login_that_is_not_accepted_asks_with_its_own(machines):
    rejected, mine = SlowHub(EngineUnavailableError("rejected")), SlowHub()
    mine.may.set()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(machines.flavors, rejected)
        wait_for(lambda: rejected.asked)
        second = pool.submit(machines.flavors, mine)
        rejected.may.set()

    assert [L4] == second.result()
    with pytest.raises(EngineUnavailableError, match="rejected"):
        first.result()


def test_before_a_job_an_error_that_nobody_expected_is_its_trouble_and_is_not_tried_again_at_once(machines):
    hub = SlowHub(RuntimeError("boom"))
    hub.may.set()

    def trouble():
        with pytest.raises(EngineUnavailableError) as error:
            machines.require(hub)
        return str(error.value)

    wait_for(lambda: "an error of RankViz (RuntimeError)" in trouble())
    time.sleep(0.3)
    trouble()
    assert 1 == hub.asked
