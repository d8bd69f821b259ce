"""Models from outside the catalogue: what goes wrong is one clear sentence each, and the page goes on."""

import json
import struct
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import errors

from rankviz import installed
from rankviz.errors import (
    BadConfigError,
    GatedModelError,
    HubSilentError,
    HubUnavailableError,
    NotInstalledError,
    UnknownModelError,
)
from rankviz.hub.remote import fetch_config, model_from_hub, stored_parameters
from rankviz.visitor import Visitor, acting_as
from tests.support.runs.toy import TOY

# On this disk


def safetensors_file(path: Path, **shapes: list[int]) -> None:
    header = json.dumps(
        {"__metadata__": {"format": "pt"}}
        | {name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
    ).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)


def test_stored_parameters_come_from_the_headers_alone(tmp_path):
    safetensors_file(tmp_path / "model-1.safetensors", a=[3, 4], b=[5])
    safetensors_file(tmp_path / "model-2.safetensors", c=[2, 2, 2])

    assert 12 + 5 + 8 == stored_parameters(tmp_path)


def test_what_only_calls_itself_safetensors_is_said(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 64)

    with pytest.raises(BadConfigError, match="is not a safetensors file"):
        stored_parameters(tmp_path)


# On the Hub


class Hub:
    """Answers like HfApi."""

    def __init__(self, path=None, error=None, total=None, size=1000):
        self.size = size
        self.path, self.error, self.total = path, error, total

    def model_info(self, repo_id, *, files_metadata, timeout):
        if self.error:
            raise self.error
        return SimpleNamespace(
            sha="0123456789abcdef",
            siblings=[SimpleNamespace(rfilename="config.json", size=self.size)],
            safetensors=SimpleNamespace(total=self.total),
            gated="manual",
            card_data={"license": "apache-2.0"},
        )

    def hf_hub_download(self, repo_id, filename, *, local_dir, etag_timeout):
        assert "config.json" == filename
        return str(self.path)


def test_a_config_that_is_too_large_is_not_fetched(tmp_path):
    """The fake has no file to give."""
    with pytest.raises(BadConfigError, match="RankViz reads at most 1 MB"):
        fetch_config("a/b", tmp_path, api=Hub(size=10**9))


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
        (errors.HFValidationError("no"), UnknownModelError, "nor on the Hub"),
        (errors.OfflineModeIsEnabled("no"), HubUnavailableError, "the Hub cannot be reached"),
        (errors.LocalEntryNotFoundError("no"), HubUnavailableError, "the Hub cannot be reached"),
        (refused(errors.RemoteEntryNotFoundError), BadConfigError, "has no config.json on the Hub"),
        (refused(errors.HfHubHTTPError), HubUnavailableError, "the Hub cannot be reached"),
        (OSError("no route"), HubSilentError, "The catalogue has 'a/c'."),
    ),
)
def test_each_way_the_hub_fails_is_one_sentence(error, expected, sentence, tmp_path):
    with pytest.raises(expected) as caught:
        fetch_config("a/b", tmp_path, suggestions=("a/c",), api=Hub(error=error))

    assert sentence in str(caught.value)
    assert expected is type(caught.value)


@pytest.mark.torch
def test_a_hub_model_carries_what_the_hub_says_of_it(laid_out):
    folder, cache, _ = laid_out
    path = folder / "config.json"

    def model(total):
        return model_from_hub("a/b", fetch_config("a/b", folder, api=Hub(path, total=total)), cache=cache)

    agreed, differs = model(TOY.total_parameters), model(TOY.total_parameters + 1600)

    assert ("a/b", True, "apache-2.0", True) == (agreed.id, agreed.verified, agreed.licence, agreed.gated)
    assert "config.json of a/b on the Hub at 0123456789ab" == agreed.source
    assert "" == agreed.note
    assert not differs.verified
    assert f"hold {TOY.total_parameters + 1600:,} numbers" in differs.note


def test_who_cannot_install_the_trainer_is_not_told_how(monkeypatch):
    monkeypatch.setattr("rankviz.installed._has", lambda packages: False)

    with acting_as(Visitor("ann")), pytest.raises(NotInstalledError, match="which this page does not have"):
        installed.require_trainer("Reading a model that is not in the catalogue")
    with pytest.raises(NotInstalledError, match="pip install"):
        installed.require_trainer("Reading a model that is not in the catalogue")
