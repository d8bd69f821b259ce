"""What the page asks of the Hub: a few at once, bounded as a whole, and nothing twice that has just failed."""

from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest

from rankviz.children import ASKING, Bounds, Children, FairLine
from rankviz.errors import HubSilentError, HubUnavailableError, UnknownModelError
from rankviz.hub.door import HubDoor
from rankviz.hub.remote import CONFIG, WEIGHTS
from tests.support.models.saved_adapters import two_blocks
from tests.support.web import played_hub


def door(*, seconds: float = 600, at_once: int = 2, temp=None, **line) -> HubDoor:
    def children() -> Children:
        places = FairLine(at_once, **{"busy": "Try again in a moment.", "seconds": 600} | line)
        bounds = Bounds(seconds=seconds, memory_bytes=10**9)
        return Children(bounds, line=places, folder=TemporaryDirectory, variables=ASKING)

    return HubDoor(children(), children(), temp)


def config_of(some: HubDoor, repo_id: str):
    with some.config(repo_id, ("a/close",)) as found:
        return found, found.read_text()


def test_a_config_comes_and_what_the_hub_does_not_have_is_not_asked_for_again(monkeypatch, tmp_path):
    some = door()
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with played_hub.answering(monkeypatch, someone__model=tmp_path) as hub:
        found, text = config_of(some, "someone/model")
        assert '{"model_type": "llama"}' == text and not found.exists()

        asked = len(hub.asked)
        for _ in range(3):
            with pytest.raises(UnknownModelError, match=r"nor on the Hub under this name\. Did you mean 'a/close'\?"):
                config_of(some, "someone/nothing")
        assert asked + 1 == len(hub.asked)


def test_after_a_silence_nobody_waits_for_a_while(monkeypatch):
    some = door()
    with played_hub.silent(monkeypatch) as connections:
        with pytest.raises(HubSilentError, match=r"'someone/first' is not in the catalogue, and the Hub cannot be"):
            config_of(some, "someone/first")
        connected = len(connections)

        with pytest.raises(HubSilentError, match=r"'someone/second' .* The catalogue has 'a/close'"):
            config_of(some, "someone/second")
        with pytest.raises(HubSilentError, match="'someone/adapter' cannot be downloaded"):
            some.adapter("someone/adapter", max_bytes=10**6)
        assert some.weight_bytes("someone/second", patient=True) is None
        assert connected == len(connections)


def test_offline_nothing_is_asked(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    nobody = Children(Bounds(seconds=1, memory_bytes=10**9), worker=("no such program",))
    some = HubDoor(nobody, nobody)

    assert some.reached().offline
    with pytest.raises(HubUnavailableError):
        config_of(some, "someone/model")


def test_an_adapter_is_fetched_once_into_its_own_place(monkeypatch, tmp_path):
    calls, temp = [], SimpleNamespace(copies=str(tmp_path / "kept" / "hub-"))
    temp.require_room, temp.drop_copies = lambda most_mb: calls.append("room"), lambda: calls.append("old")
    some = door(temp=temp)
    (two_blocks(tmp_path) / "training_args.bin").write_bytes(b"\x80")
    with played_hub.answering(monkeypatch, someone__adapter=tmp_path) as hub:
        folder = some.adapter("someone/adapter", max_bytes=10**6)
        requests = len(hub.asked)

        assert folder == some.adapter("someone/adapter", max_bytes=10**6)
        assert (requests, ["room", "old"]) == (len(hub.asked), calls)
    assert (tmp_path / "kept", "adapter") == (folder.parents[1], folder.name)
    assert {CONFIG, WEIGHTS} == {path.name for path in folder.iterdir()}
