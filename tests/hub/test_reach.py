"""Whether the Hub answers, what of a base is still to be fetched, and what goes to make room."""

import json
from types import SimpleNamespace

import httpx
import pytest
from huggingface_hub import file_download

from rankviz.hub import reach
from rankviz.hub.reach import MAX_INDEX_BYTES, MAX_TENSORS, ask_hub, has_weights, weight_bytes_to_fetch
from tests.support.web.hub_cache import put, repositories


def session(answer):
    return httpx.Client(transport=httpx.MockTransport(answer))


@pytest.fixture(autouse=True)
def online(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def test_a_failing_server_and_no_route_are_none():
    def no_route(request):
        raise httpx.ConnectError("no route to host")

    assert "status 503" == ask_hub(session(lambda request: httpx.Response(503))).reason
    assert (False, "no route to host") == (ask_hub(session(no_route)).reached, ask_hub(session(no_route)).reason)


HOUR = 3600
"""In seconds."""


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", "")
    monkeypatch.delenv("HF_HUB_CACHE")


def test_a_place_that_the_owner_gave_stays_and_is_theirs(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "theirs"))
    put(tmp_path / "theirs", "someone/model", 1000, age=2 * HOUR)

    reach.use_own(tmp_path)
    reach.make_room(tmp_path, (), lambda: False)

    assert [] == reach.idle(tmp_path, ())
    assert ["someone/model"] == repositories(tmp_path / "theirs")


def test_what_was_used_longest_ago_goes_first_with_all_that_was_fetched_of_it(tmp_path):
    reach.use_own(tmp_path)
    put(tmp_path / "hub", "a/new", 1000, age=2 * HOUR)
    old = put(tmp_path / "hub", "b/old", 1000, age=3 * HOUR)
    put(tmp_path / "hub", "c/older", 1000, age=4 * HOUR)
    put(tmp_path / "hub", "d/waited-for", 1000, age=5 * HOUR)
    put(tmp_path / "hub", "e/in-use", 1000)
    (old / "blobs" / "half.incomplete").write_bytes(b"x" * 500)

    reach.make_room(tmp_path, {"D/Waited-For"}, lambda: len(repositories(tmp_path / "hub")) <= 3)

    assert ["a/new", "d/waited-for", "e/in-use"] == repositories(tmp_path / "hub")


REPO, COMMIT = "someone/model", "a" * 40


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache; the function that it returns puts files into it."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / file_download.repo_folder_name(repo_id=REPO, repo_type="model")

    def put(**files):
        (folder / "refs").mkdir(parents=True, exist_ok=True)
        (folder / "refs" / "main").write_text(COMMIT)
        snapshot = folder / "snapshots" / COMMIT
        snapshot.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (snapshot / name).write_text(content)

    return put


class Hub:
    """indices: what those files hold."""

    def __init__(self, indices, **sizes):
        self.sizes, self.indices = sizes, indices

    def hf_hub_download(self, repo_id, name, *, local_dir):
        (local_dir / name).write_text(self.indices[name])
        return str(local_dir / name)

    def model_info(self, repo_id, *, files_metadata, timeout):
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=n, size=s) for n, s in self.sizes.items()])


SHARDS = {f"model-0000{n}-of-00002.safetensors": 10 * n for n in (1, 2)} | {"model.safetensors.index.json": 200}
INDEX = json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}})


def test_a_base_is_in_the_cache_when_all_its_weights_are_and_not_when_only_its_config_is(cache):
    cache(**{"config.json": "{}", "model.safetensors.index.json": INDEX, "model-00001-of-00002.safetensors": "x"})
    assert not has_weights(REPO)

    cache(**{"model-00002-of-00002.safetensors": "x"})
    assert has_weights(REPO)


@pytest.mark.parametrize(
    "index",
    [
        "[" * 5000,
        '{"weight_map": {"a": "../../refs/main.safetensors"}}',
        '"model-00001-of-00002.safetensors"' * (MAX_TENSORS + 1),
        '"model-00001-of-00002.safetensors"' + " " * MAX_INDEX_BYTES,
        ("x" * 101 + '.safetensors"') * 3000,
        '{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "' + "x" * 101 + '.safetensors"}}',
    ],
    ids=range(6),
)
def test_an_index_that_is_none_names_no_files(cache, index):
    cache(**{"model.safetensors.index.json": index, **dict.fromkeys(SHARDS, "x")})

    assert not has_weights(REPO)


def test_weights_of_any_name_count_as_the_hub_gives_their_size_whatever_the_index_says_of_it(tmp_path, cache):
    """Small files of the usual names beside them are not loaded."""
    index = json.dumps({"metadata": {"total_size": 5}, "weight_map": {"a": "sub/large.bin", "b": "other.safetensors"}})
    sizes = {"sub/large.bin": 48 * 10**9, "other.safetensors": 1, **SHARDS}

    hub = Hub({"model.safetensors.index.json": index}, **sizes)

    assert 48 * 10**9 + 1 == weight_bytes_to_fetch(REPO, tmp_path, hub)
