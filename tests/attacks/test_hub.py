"""Models that nobody has, asked for by the dozen while the Hub takes connections and never answers."""

import re
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.attacks.spaces import Space
from tests.support.web import played_hub
from tests.support.web.stranger import Stranger

ASKED = 60
PROCESSES = 3
"""That ask the Hub at once: two look-ups, and one for whether it answers at all."""


@pytest.fixture(scope="module")
def hub():
    with pytest.MonkeyPatch.context() as patch, played_hub.silent(patch) as connections:
        yield connections


@pytest.fixture(scope="module")
def space(tmp_path_factory, hub):
    """Not that of the other attacks, which has no Hub."""
    with Space(tmp_path_factory.mktemp("space"), HF_HUB_OFFLINE="0") as space:
        yield space


def unknown(space, number):
    """What somebody without a cookie is told."""
    body = {"values": {"model": f"someone/model-{number}", "r": 16}}
    notice = httpx.post(f"{space.url}/rankviz/answer", json=body, timeout=120).json()["notice"]
    return re.sub("<[^>]*>", "", notice)


def test_a_silent_hub_keeps_nobody_waiting(space, hub, during):
    def attack():
        with ThreadPoolExecutor(ASKED) as pool:
            return list(pool.map(lambda number: unknown(space, number), range(ASKED)))

    texts = during(attack, readers_at_once=PROCESSES)

    busy = [text for text in texts if "looks up at most 2 at once" in text and "Try again in a moment" in text]
    silent = [text for text in texts if "the Hub cannot be reached" in text]
    assert ASKED == len(busy) + len(silent)
    assert busy and silent
    assert len(hub) < 10


def test_starts_of_models_that_nobody_has_block_nobody(space, ann, ben, during):
    sweep_id = ben.endpoint("start_sweep").data[0]["sweep_id"]

    def start(number):
        stranger = Stranger(space.url, cookies=dict(ann.http.cookies))
        return stranger.endpoint("start_sweep", f"someone/base-{number}").error

    def attack():
        with ThreadPoolExecutor(31) as pool:
            starting = [pool.submit(start, number) for number in range(30)]
            shared = ben.endpoint("share", sweep_id)
            return shared, [each.result() for each in starting]

    shared, refused = during(attack, readers_at_once=PROCESSES)

    assert not shared.error
    assert all("Try again in a moment" in error or "the Hub cannot be reached" in error for error in refused)
