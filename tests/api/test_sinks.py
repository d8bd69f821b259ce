"""Publishing runs, in processes of their own and against a Hub on loopback: what arrives, who may, by which token."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

import huggingface_hub
import pytest

from rankviz.api import Api
from rankviz.errors import InvalidSettingError, NotYoursError, PublishError, RunNotFoundError
from rankviz.publish import ADAPTER, DATASET, TRACKIO, Destination, Token
from rankviz.visitor import HOST, acting_as
from tests.support.engines.hub_stand_in import TOKEN, hub_stand_in
from tests.support.models.saved_adapters import two_blocks
from tests.support.runs.published import (
    ALICES,
    FOLDER_OF_THE_BASE,
    PLACE,
    SERVERS,
    everything_below,
    processes,
    publish,
    trained,
)
from tests.support.web.visitors import ADMIN, ANN, BEN


@pytest.fixture
def hub(monkeypatch):
    with hub_stand_in() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield hub


@pytest.fixture
def api(tmp_path):
    return Api(home=tmp_path / "home", shared=True)


@pytest.fixture
def sweep(api):
    with acting_as(ANN):
        return trained(api)


def test_a_sweep_becomes_a_private_dataset_of_tables_requests_and_a_card(api, hub, sweep):
    there = publish(api, sweep.sweep_id)

    repository = hub.repositories["datasets/alice/ranks"]
    assert (f"{hub.url}/datasets/alice/ranks", False, True) == (there.url, there.updated, there.private)
    assert repository.private
    assert [f"RankViz: {sweep.sweep_id}"] == repository.commits
    assert {"README.md", "losses_by_step.parquet", "rankviz.json", "requests.json", "runs.parquet"} == (
        repository.files.keys() - {".gitattributes"}
    )
    assert {sweep.runs[0].run_id, sweep.runs[1].run_id} == json.loads(repository.files["requests.json"]).keys()


def test_a_run_becomes_an_adapter_whose_weights_go_as_a_large_file_and_whose_base_is_an_id(api, hub, sweep):
    run = sweep.runs[1]

    there = publish(api, run.run_id, ADAPTER, public=True)

    repository = hub.repositories["models/alice/ranks"]
    weights = (api.workspace.store.run_dir(run.run_id) / "adapter" / "adapter_model.safetensors").read_bytes()
    assert weights == repository.files["adapter_model.safetensors"]
    assert [weights] == list(hub.large.values())
    assert (
        "HuggingFaceTB/SmolLM2-135M-Instruct"
        == (json.loads(repository.files["adapter_config.json"])["base_model_name_or_path"])
    )
    assert (False, False) == (repository.private, there.private)
    assert f"{hub.url}/alice/ranks" == there.url


@pytest.mark.parametrize("to", [DATASET, ADAPTER])
def test_nothing_that_is_published_holds_a_path_of_the_machine(api, hub, to, tmp_path):
    with acting_as(ANN):
        sweep = trained(api, {4: 2.0})
    publish(api, sweep.runs[0].run_id, to)

    content = b"".join(next(iter(hub.repositories.values())).files.values())
    for private in (str(tmp_path), FOLDER_OF_THE_BASE, str(api.workspace.home), "ann"):
        assert private.encode() not in content


def test_publishing_again_updates_the_repository_and_leaves_other_files_alone(api, hub, sweep):
    publish(api, sweep.sweep_id)
    repository = hub.repositories["datasets/alice/ranks"]
    repository.files |= {"requests.json": b"old", "notes.txt": b"mine"}

    again = publish(api, sweep.sweep_id)

    assert again.updated
    assert 2 == len(repository.commits)
    assert b"old" != repository.files["requests.json"]
    assert b"mine" == repository.files["notes.txt"]
    with pytest.raises(PublishError, match="did not make it of these runs, so it stays as it is"):
        publish(api, sweep.runs[0].run_id)


def test_only_the_owner_publishes_not_who_reads_it_by_a_link_nor_the_admin(api, sweep):
    with acting_as(BEN), pytest.raises(RunNotFoundError):
        api.runs.runs_to_publish(sweep.sweep_id, PLACE, ALICES)
    with acting_as(ANN):
        api.runs.open_to_all(sweep.sweep_id, True)
        assert 2 == len(api.runs.runs_to_publish(sweep.sweep_id, PLACE, ALICES))

    for visitor in (BEN, ADMIN, HOST):
        with acting_as(visitor), pytest.raises(NotYoursError):
            api.runs.runs_to_publish(sweep.sweep_id, PLACE, ALICES)
    with pytest.raises(InvalidSettingError, match="cannot tell you from other visitors"):
        api.runs.runs_to_publish(sweep.sweep_id, PLACE, ALICES)


def test_weights_outside_the_runs_folder_are_not_published(api, hub, sweep, tmp_path):
    run = sweep.runs[0]
    other = two_blocks(tmp_path / "elsewhere") / "adapter_model.safetensors"
    weights = api.workspace.store.run_dir(run.run_id) / "adapter" / "adapter_model.safetensors"
    weights.unlink()
    weights.symlink_to(other)

    with pytest.raises(Exception, match="is not in the run's own folder"):
        publish(api, run.run_id, ADAPTER)
    assert {} == hub.repositories


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ({"to": "hub", "name": "a/b"}, "must be one of hub-dataset, hub-adapter, trackio"),
        ({"to": DATASET, "name": "ranks"}, "The repository must be owner/name"),
        ({"to": TRACKIO, "name": "../x"}, "A Trackio project has at most 80 letters"),
        ({"to": TRACKIO, "name": "x", "space": "x"}, "The Space must be owner/name"),
        ({"to": ADAPTER, "name": "a/b", "base_model": "x y"}, "The base model must be owner/name"),
    ],
)
def test_names_that_cannot_be_are_refused(place, sentence):
    with pytest.raises(InvalidSettingError, match=sentence):
        Destination(**place).validate()


def test_the_token_is_in_no_file_no_text_and_no_environment(api, hub, sweep):
    """Nor, while it is sent, in an argument or the environment of any process."""
    hub.faults["/commit/"] = (0, "")
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(publish, api, sweep.sweep_id)
        while not (sending.done() or any("/commit/" in path for _, path in hub.asked)):
            time.sleep(0.05)
        held = everything_below(api.workspace.home) + processes()
        hub.faults.clear()
        hub.hangs.set()

    assert b"rankviz.worker" in held
    assert TOKEN.encode() not in held + everything_below(api.workspace.home)
    assert {TOKEN} == hub.tokens
    assert TOKEN not in str(os.environ)
    assert not [text for text in (repr(ALICES), str(ALICES), f"{ALICES}") if TOKEN in text]
    assert not any(TOKEN in path for _, path in hub.asked)


def test_on_a_shared_page_the_servers_own_login_is_never_used(api, hub, sweep, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", SERVERS)
    hub.owners[SERVERS] = {"alice"}

    for use_login in (False, True):
        with acting_as(ANN), pytest.raises(InvalidSettingError, match="Log in at Hugging Face, or give a token of"):
            api.runs.publish(sweep.sweep_id, PLACE, None, use_login=use_login)
    publish(api, sweep.sweep_id)

    assert "" == api.runs.hub_login()
    assert {TOKEN} == hub.tokens


@pytest.mark.parametrize("value", [TOKEN, "ofAMirror/0123456789+"])
def test_a_hub_that_says_the_token_of_a_login_back_is_told_without_it(tmp_path, hub, monkeypatch, value):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: value)
    hub.owners = {value: {"alice"}}
    hub.faults["/api/repos/create"] = (400, f"no rights for Bearer {value}")
    api = Api(home=tmp_path / "home", shared=False)

    with pytest.raises(PublishError, match=r'The Hub says: "no rights for Bearer \.\.\."') as refusal:
        api.runs.publish(trained(api).sweep_id, PLACE, use_login=True)

    assert {value} == hub.tokens
    assert value not in str(refusal.value)
    assert value.encode() not in everything_below(tmp_path)


@pytest.mark.parametrize("value", ["", "short", "hf_line\nbreak12345", "ü" * 20, "x" * 501])
def test_what_can_be_no_token_is_refused_without_being_repeated(api, sweep, value):
    with acting_as(ANN), pytest.raises(InvalidSettingError, match="This is not a Hugging Face token") as refusal:
        api.runs.runs_to_publish(sweep.sweep_id, PLACE, Token(value))

    assert not value or value not in str(refusal.value)
