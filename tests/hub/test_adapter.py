"""Adapters on the Hub: two files, sizes known first, and one sentence for each way in which that can fail."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import errors

from rankviz.errors import BadAdapterError, HubSilentError, HubUnavailableError
from rankviz.hub.remote import CONFIG, WEIGHTS, fetch_adapter
from tests.support.models.saved_adapters import two_blocks


class FakeHub:
    """Answers like HfApi for one repository that lies in a folder."""

    def __init__(self, folder, sizes=None, error=None):
        self.folder, self.error, self.fetched = folder, error, []
        self.sizes = sizes if sizes is not None else {path.name: path.stat().st_size for path in folder.iterdir()}

    def model_info(self, repo_id, files_metadata, timeout):
        if self.error:
            raise self.error
        files = [SimpleNamespace(rfilename=name, size=size) for name, size in self.sizes.items()]
        return SimpleNamespace(sha="abc", siblings=files)

    def hf_hub_download(self, repo_id, file, revision, local_dir, etag_timeout):
        assert "abc" == revision
        self.fetched.append(file)
        if local_dir is None:
            return str(self.folder / file)
        local_dir.mkdir(parents=True, exist_ok=True)
        return str(shutil.copy(self.folder / file, local_dir))


def test_config_and_weights_are_fetched_and_nothing_else(tmp_path):
    folder = two_blocks(tmp_path)
    (folder / "training_args.bin").write_bytes(b"\x80")
    api = FakeHub(folder)

    assert folder == fetch_adapter("owner/name", max_bytes=10**6, api=api)
    assert [CONFIG, WEIGHTS] == api.fetched


def test_a_copy_is_made_once_where_it_is_to_be_kept(tmp_path):
    work, api = tmp_path / "work", FakeHub(two_blocks(tmp_path))

    def fetched() -> Path:
        return fetch_adapter("owner/name", max_bytes=10**6, copies=str(tmp_path / "kept" / "hub-"), work=work, api=api)

    copy = fetched()

    assert copy == fetched()
    assert [CONFIG, WEIGHTS] == api.fetched
    assert (tmp_path / "kept", "name") == (copy.parents[1], copy.name)
    assert {CONFIG, WEIGHTS} == {path.name for path in copy.iterdir()}
    assert [copy] == list(copy.parent.iterdir())
    assert [] == list(work.iterdir())


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({CONFIG: 500, "adapter_model.bin": 9}, "has only adapter_model.bin, and pickle files can run code"),
        ({"config.json": 500}, "holds no adapter_model.safetensors, so it is not an adapter"),
        ({WEIGHTS: 500}, "holds no adapter_config.json, which holds r and lora_alpha"),
        ({CONFIG: 500, WEIGHTS: 5_000_000}, "has 5,000,000 bytes of weights, more than the 1,000,000"),
    ],
)
def test_what_is_no_adapter_or_too_large_is_refused_before_it_is_fetched(tmp_path, sizes, message):
    api = FakeHub(tmp_path, sizes)

    with pytest.raises(BadAdapterError, match=message):
        fetch_adapter("owner/name", max_bytes=10**6, api=api)
    assert [] == api.fetched


def refusal(kind):
    answer = SimpleNamespace(headers={}, status_code=404, request=None)
    return kind("refused", response=answer)


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (refusal(errors.GatedRepoError), BadAdapterError, "is gated or private"),
        (
            refusal(errors.RepositoryNotFoundError),
            BadAdapterError,
            "There is no adapter 'owner/name' here or on the Hub",
        ),
        (
            errors.OfflineModeIsEnabled("offline"),
            HubUnavailableError,
            "try again later, or give the adapter's files",
        ),
        (OSError("no route"), HubSilentError, "The Hub cannot be reached"),
    ],
)
def test_each_way_to_fail_is_one_sentence(tmp_path, error, expected, message):
    with pytest.raises(expected, match=message):
        fetch_adapter("owner/name", max_bytes=10**6, api=FakeHub(tmp_path, {}, error))
