"""Publishing runs, in processes of their own and against a Hub on loopback: what arrives there, who may, and with which
token."""

import json

import pytest

from rankviz.errors import InvalidSettingError, NotYoursError, PublishError, RunNotFoundError
from rankviz.publish import ADAPTER, DATASET, TRACKIO, Destination
from rankviz.visitor import HOST, acting_as
from tests.api.sinks.publishing import ALICES, PLACE, publish
from tests.support.models.saved_adapters import two_blocks
from tests.support.runs.published import FOLDER_OF_THE_BASE, trained
from tests.support.web.visitors import ADMIN, ANN, BEN


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
        api.runs.check_publish(sweep.sweep_id, PLACE, ALICES)
    with acting_as(ANN):
        api.runs.open_to_all(sweep.sweep_id, True)
        assert 2 == len(api.runs.check_publish(sweep.sweep_id, PLACE, ALICES))

    for visitor in (BEN, ADMIN, HOST):
        with acting_as(visitor), pytest.raises(NotYoursError):
            api.runs.check_publish(sweep.sweep_id, PLACE, ALICES)
    with pytest.raises(InvalidSettingError, match="cannot tell you from other visitors"):
        api.runs.check_publish(sweep.sweep_id, PLACE, ALICES)


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
