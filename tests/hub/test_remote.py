"""Models and adapters from outside the catalogue, laid out by a worker within limits, and what is asked of the Hub."""

import json
import sys
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest
from huggingface_hub import errors

from rankviz.api import Api
from rankviz.children import HUB_VARIABLES, Bounds, Children, ChildWork, FairLine
from rankviz.errors import (
    BadAdapterError,
    BadConfigError,
    BadDataError,
    GatedModelError,
    HubSilentError,
    HubUnavailableError,
    UnknownModelError,
    WorkerError,
)
from rankviz.hub.door import HubDoor
from rankviz.hub.remote import CONFIG, WEIGHTS, fetch_adapter, fetch_config, fetch_data, find_model, introspect_config
from rankviz.units import GIB
from tests.support.engines.hub_stand_in import Repository
from tests.support.models.saved_adapters import two_blocks
from tests.support.runs.toy import TOY
from tests.support.web import played_hub

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 100,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "tie_word_embeddings": True,
}


def config_file(folder, config=LLAMA):
    path = folder / "config.json"
    path.write_text(config if isinstance(config, str) else json.dumps(config))
    return path


def answering(code):
    """Children that run this code instead of the worker."""
    return Children(Bounds(seconds=60, memory_bytes=GIB), worker=(sys.executable, "-c", code))


@pytest.mark.parametrize(
    ("content", "sentence"),
    (
        ("not json", "config.json is not JSON"),
        ('{"model_type": 3}', 'config.json has no "model_type"'),
        ("[" * 100_000, "config.json is nested too deep"),
        (json.dumps(LLAMA | {"num_hidden_layers": 10**9}), "num_hidden_layers is 1,000,000,000; RankViz takes 0 to"),
    ),
)
def test_an_absurd_config_is_one_sentence_without_starting_a_worker(content, sentence, tmp_path):
    children = answering("raise SystemExit('started')")

    with pytest.raises(BadConfigError) as caught:
        introspect_config(config_file(tmp_path, content), cache=tmp_path, children=children)

    assert sentence in str(caught.value)


def test_a_config_is_laid_out_once(tmp_path):
    path, cache = config_file(tmp_path), tmp_path / "cache"
    first = introspect_config(path, cache=cache, children=answering("print('{\"total_parameters\": 7}')"))

    again = introspect_config(path, cache=cache, children=answering("raise SystemExit(9)"))

    assert {"total_parameters": 7} == first == again
    with pytest.raises(WorkerError):
        introspect_config(
            config_file(tmp_path, LLAMA | {"vocab_size": 101}), cache=cache, children=answering("raise SystemExit(9)")
        )


@pytest.mark.torch
def test_a_config_is_laid_out_by_the_real_worker(tmp_path):
    children = Children(Bounds(seconds=60, memory_bytes=16 * GIB))
    model = find_model(config_file(tmp_path), cache=tmp_path / "cache", children=children)

    # Embedding 1,600; two blocks of 16·16 + 2·16·8 + 16·16 + 3·16·32 + 2 norms of 16; a norm.
    assert 1600 + 2 * (256 + 256 + 256 + 1536 + 32) + 16 == model.total_parameters == TOY.total_parameters
    assert 1600 + 2 * 32 + 16 == model.unquantized_parameters
    assert [layer.path for layer in model.layers if layer.kind == "linear"] == [
        layer.path for layer in TOY.layers if layer.kind == "linear"
    ]
    assert (0, 1) == model.layers[1].blocks
    assert "text" == model.tower


@pytest.mark.torch
@pytest.mark.parametrize(
    ("config", "sentence"),
    (
        (
            LLAMA | {"model_type": "no_such_model", "auto_map": {"AutoModel": "evil.Evil"}},
            "has no architecture 'no_such_model'",
        ),
        (LLAMA | {"num_attention_heads": 3}, "transformers cannot"),
        (LLAMA | {"hidden_size": 0}, "transformers cannot"),
        ({"model_type": "vit"}, "has no model that writes text"),
    ),
)
def test_a_config_that_transformers_cannot_build_is_one_sentence(config, sentence):
    from rankviz.worker.introspect.layers import introspect

    with pytest.raises(BadConfigError) as caught:
        introspect(config)

    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.torch
def test_a_model_too_large_to_lay_out_ends_within_its_limits(tmp_path):
    huge = LLAMA | {"model_type": "mixtral", "num_hidden_layers": 400, "hidden_size": 16, "num_local_experts": 8}

    with pytest.raises((BadConfigError, WorkerError)) as caught:
        children = Children(Bounds(seconds=2, memory_bytes=16 * GIB))
        introspect_config(config_file(tmp_path, huge), cache=tmp_path, children=children)

    assert "took more than" in str(caught.value)


def refused(kind):
    import httpx

    return kind("no", response=httpx.Response(401, request=httpx.Request("GET", "http://hub.invalid")))


@pytest.mark.parametrize(
    ("error", "expected", "sentence"),
    (
        (refused(errors.GatedRepoError), GatedModelError, "'a/b' is gated or private on the Hub"),
        (
            refused(errors.RepositoryNotFoundError),
            UnknownModelError,
            "nor on the Hub under this name. Did you mean 'a/c'?",
        ),
        (errors.OfflineModeIsEnabled("no"), HubUnavailableError, "the Hub cannot be reached"),
        (refused(errors.RemoteEntryNotFoundError), BadConfigError, "has no config.json on the Hub"),
        (refused(errors.HfHubHTTPError), HubUnavailableError, "the Hub cannot be reached"),
        (OSError("no route"), HubSilentError, "The catalogue has 'a/c'."),
    ),
)
def test_each_way_the_hub_fails_is_one_sentence(error, expected, sentence, tmp_path):
    def fails(*_, **__):
        raise error

    with pytest.raises(expected) as caught:
        fetch_config("a/b", tmp_path, suggestions=("a/c",), api=SimpleNamespace(model_info=fails))

    assert sentence in str(caught.value)
    assert expected is type(caught.value)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({CONFIG: 500, "adapter_model.bin": 9}, "has only adapter_model.bin, and pickle files can run code"),
        (
            {"config.json": 500},
            "holds no adapter_config.json and no adapter_model.safetensors, so it is not an adapter",
        ),
        ({WEIGHTS: 500}, "holds no adapter_config.json, so it is not an adapter"),
        ({CONFIG: 500, WEIGHTS: 5_000_000}, "has 5,000,000 bytes of weights, more than the 1,000,000"),
    ],
)
def test_what_is_no_adapter_or_too_large_is_refused_before_it_is_fetched(sizes, message):
    files = [SimpleNamespace(rfilename=name, size=size) for name, size in sizes.items()]
    api = SimpleNamespace(model_info=lambda *_, **__: SimpleNamespace(sha="abc", siblings=files))  # gives no file

    with pytest.raises(BadAdapterError, match=message):
        fetch_adapter("owner/name", max_bytes=10**6, api=api)


def test_a_description_of_a_data_set_is_not_its_data():
    sizes = {"dataset_infos.json": 5, "faq.jsonl": 2_000_000}
    files = [SimpleNamespace(rfilename=name, size=size) for name, size in sizes.items()]
    api = SimpleNamespace(dataset_info=lambda *_, **__: SimpleNamespace(sha="abc", siblings=files))

    with pytest.raises(BadDataError, match=r"faq\.jsonl of 'owner/name' has 2,000,000 bytes"):
        fetch_data("owner/name", max_bytes=10**6, api=api)


def door(*, seconds: float = 600, at_once: int = 2, temp=None, **line) -> HubDoor:
    def children() -> Children:
        places = FairLine(at_once, **{"busy": "Try again in a moment.", "seconds": 600} | line)
        bounds = Bounds(seconds=seconds, memory_bytes=10**9)
        return Children(bounds, line=places, folder=TemporaryDirectory, work=ChildWork(variables=HUB_VARIABLES))

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
            some.fetch("adapter", "someone/adapter", max_bytes=10**6)
        with pytest.raises(HubSilentError, match="so the data set 'someone/faq' cannot be downloaded"):
            some.fetch("data", "someone/faq", max_bytes=10**6)
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
        folder = some.fetch("adapter", "someone/adapter", max_bytes=10**6)
        requests = len(hub.asked)

        assert folder == some.fetch("adapter", "someone/adapter", max_bytes=10**6)
        assert (requests, ["room", "old"]) == (len(hub.asked), calls)
    assert (tmp_path / "kept", "adapter") == (folder.parents[1], folder.name)
    assert {CONFIG, WEIGHTS} == {path.name for path in folder.iterdir()}


FAQ = b'{"question": "a", "answer": "b"}\n' * 3


def test_a_data_set_of_the_hub_is_measured_and_trained_on_by_its_id_or_address(monkeypatch, tmp_path):
    api, files = Api(home=tmp_path, shared=False), {"README.md": b"", "data/test.jsonl": b"", "data/train-0.jsonl": FAQ}
    with played_hub.answering(monkeypatch) as hub:
        hub.repositories["datasets/someone/faq"] = Repository(private=False, files=files, head=played_hub.COMMIT)
        held = api.data.measure("https://huggingface.co/datasets/someone/faq/viewer?row=1")

        assert ("train-0.jsonl", 3) == (held.title, held.training.examples)
        assert "instruction=question,output=answer" == held.training.columns
        assert FAQ == api.data.file("someone/faq").read_bytes()
        with pytest.raises(BadDataError, match="There is no data set 'someone/nothing' on the Hub"):
            api.data.measure("someone/nothing")
