"""Models that nobody has, asked for by the dozen while the Hub takes connections and never answers; and a model whose
index, which is in the Hub's cache, is none."""

import json
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import httpx
import pytest

from rankviz.api import Api
from rankviz.errors import LimitError
from rankviz.references import Reference
from rankviz.visitor import Visitor, acting_as
from tests.attacks.spaces import Space
from tests.attacks.watching import watched
from tests.support.models.tiny_llama import LLAMA
from tests.support.runs import questions
from tests.support.web import played_hub
from tests.support.web.stranger import Stranger

ASKED = 60
READERS = 2
"""One asks the Hub, one lays out."""
PROCESSES = 2
"""That ask the Hub at once."""


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
    answer = httpx.post(f"{space.url}/rankviz/answer", json=body, timeout=120).json()
    return re.sub("<[^>]*>", "", answer.get("notice") or answer["without_costs"])


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


INDICES = [
    lambda: b"[1, 2]",
    lambda: b'{"weight_map": []}',
    lambda: (b"x" * 101 + b'.safetensors"') * 140_000,
    lambda: b'{"weight_map": {%s"": ""}}' % (b'"a": "b", ' * 20_000_000),
]
"""The last has 200 MB."""


LARGE = 48 * 10**9


@pytest.mark.slow
def test_an_index_of_weights_is_not_read_where_others_are_answered(tmp_path, monkeypatch, request):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(LLAMA))
    with played_hub.answering(monkeypatch, mallory__x=tmp_path / "model"), Space(tmp_path, HF_HUB_OFFLINE="0") as space:
        cached = space.home / "hub" / "models--mallory--x"
        snapshot = cached / "snapshots" / played_hub.COMMIT
        snapshot.mkdir(parents=True)
        (cached / "refs").mkdir()
        (cached / "refs" / "main").write_text(played_hub.COMMIT)
        ben = Stranger(space.url)

        def attack(index):
            ann = Stranger(space.url)  # another each time, since each may start two
            (snapshot / "model.safetensors.index.json").write_bytes(index())
            pressed = ann.press("train-button", train_base="mallory/x", train_steps=2)
            return pressed.error, ann.endpoint("start_sweep", "mallory/x").error

        during = partial(watched, space, ben, request.node.name, readers_at_once=READERS)
        errors = [error for index in INDICES for error in during(partial(attack, index))]

    assert all("an unknown number of bytes" in error for error in errors), errors


def test_weights_that_only_an_index_names_are_refused_by_the_size_that_the_hub_gives(tmp_path, monkeypatch):
    folder = tmp_path / "large"
    folder.mkdir()
    index = {"metadata": {"total_size": 1000}, "weight_map": {"a": "weights.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model-00001-of-00001.safetensors").write_text("a small one of the usual name")
    (folder / "weights.safetensors").touch()
    os.truncate(folder / "weights.safetensors", LARGE)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    large_disk = shutil.disk_usage(tmp_path)._replace(free=2 * LARGE)
    monkeypatch.setattr("rankviz.api.machine.shutil.disk_usage", lambda _: large_disk)
    api = Api(home=tmp_path / "home", shared=True)
    small = api.models.get("HuggingFaceTB/SmolLM2-135M")
    large = replace(small, id="mallory/large")  # as its config says
    api.models._known.get(Reference("hub", "mallory/large"), lambda: large)

    with (
        played_hub.answering(monkeypatch, mallory__large=folder) as hub,
        acting_as(Visitor("ann")),
        pytest.raises(LimitError, match=r"weights of this base take 48\.00 GB, and this server allows at most"),
    ):
        api.runs.start(questions.sweep(base="mallory/large", max_steps=2, ranks=(4,)))

    assert not [path for _, path in hub.asked if path.endswith("weights.safetensors")]
