"""Files that are no adapter, or too large to be one: refused with a sentence that has an end."""

import json
import tempfile
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save_file

from rankviz.errors import BadAdapterError
from rankviz.trained.read import read_adapter
from tests.support.models.saved_adapters import CONFIG, Q, factors, save, two_blocks
from tests.trained.packed import WEIGHTS, zip_of


@pytest.mark.parametrize("length", [513, 1_000_000])
def test_a_name_of_a_tensor_has_an_end_and_so_has_the_sentence(tmp_path, length):
    a, b = factors(4, 2, 4)
    module = "m" * (length - len(".lora_A.weight"))
    folder = save(tmp_path, {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b})

    with pytest.raises(BadAdapterError, match=f"a tensor with a name of {length:,} characters") as error:
        read_adapter([folder])

    assert len(str(error.value)) < 400


@pytest.mark.parametrize("name", ["adapter_model.bin", "weights.pt", "weights.pkl"])
def test_pickles_are_refused_with_what_to_do(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x80\x04.")
    zipped = zip_of(tmp_path, tmp_path.parent / f"{tmp_path.name}.zip")

    for given in (tmp_path, tmp_path / name, zipped):
        with pytest.raises(BadAdapterError, match=rf"{name}: pickle files can run code .*save_pretrained"):
            read_adapter([given])


def test_sizes_are_bounded_before_anything_is_unpacked(tmp_path):
    folder = two_blocks(tmp_path / "mine")
    zipped = zip_of(folder, tmp_path / "mine.zip")

    with pytest.raises(BadAdapterError, match=r"more than the 1,000 allowed here"):
        read_adapter([folder], max_bytes=1000)
    with pytest.raises(BadAdapterError, match=r"unpacks to [\d,]+ bytes, more than the 1,000 allowed here"):
        read_adapter([zipped], max_bytes=1000)


def broken(change) -> dict:
    a, b = factors(10, 4, 12)
    tensors = {f"{Q}.lora_A.weight": a, f"{Q}.lora_B.weight": b}
    change(tensors)
    return tensors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(f"{Q}.lora_B.weight"), "q_proj has a lora_A but no lora_B: the file is incomplete"),
        (lambda t: t.update({f"{Q}.lora_B.weight": np.zeros((10, 3), np.float32)}), "A must be r × in and B out × r"),
        (
            lambda t: t.update({f"{Q}.lora_A.weight": np.zeros(48, np.float32)}),
            "which are not matrices: gather the shards",
        ),
        (
            lambda t: t.update({f"{Q}.lora_A.weight": np.zeros((4, 12), np.int32)}),
            "save the adapter in fp32, bf16 or fp16",
        ),
        (lambda t: (t.clear(), t.update(x=np.zeros(3, np.float32))), "holds no lora_A and lora_B"),
    ],
)
def test_tensors_that_cannot_be_an_adapter_are_refused(tmp_path, change, message):
    folder = save(tmp_path, broken(change))

    with pytest.raises(BadAdapterError, match=message):
        read_adapter([folder])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "has no peft_type"),
        (json.dumps(CONFIG | {"peft_type": "IA3"}), "has peft_type 'IA3': RankViz reads LoRA adapters only"),
        (json.dumps(CONFIG | {"r": 0}), "r must be a whole number from 1 to 65,536"),
        (json.dumps(CONFIG | {"lora_alpha": "8"}), "lora_alpha must be a number"),
        (json.dumps(CONFIG | {"rank_pattern": {"(": 4}}), r"The pattern '\(' is not a regular expression"),
        (json.dumps(CONFIG | {"kasa_config": {"beta": 1}}), "sets kasa_config: its update is not B·A alone"),
    ],
)
def test_configs_that_are_none_or_not_lora_are_refused(tmp_path, config, message):
    folder = two_blocks(tmp_path)
    (folder / "adapter_config.json").write_text(config)

    with pytest.raises(BadAdapterError, match=message):
        read_adapter([folder])


def test_files_that_are_missing_or_torn_are_refused(tmp_path):
    folder = two_blocks(tmp_path / "mine")
    torn = tmp_path / "torn"
    torn.mkdir()
    (torn / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-8])
    (torn / "adapter_config.json").write_text(json.dumps(CONFIG))
    alone = tmp_path / "alone"
    alone.mkdir()
    save_file({"x": np.zeros(1, np.float32)}, alone / WEIGHTS)
    (tmp_path / "no.zip").write_bytes(b"PK no")

    for given, message in (
        (torn, "is not a complete safetensors file"),
        (alone / WEIGHTS, "has no adapter_config.json with its r and lora_alpha"),
        (tmp_path / "nowhere", "No file or folder"),
        (tmp_path / "no.zip", "cannot be read as a zip"),
        (tmp_path, "holds no adapter_model.safetensors"),
    ):
        with pytest.raises(BadAdapterError, match=message):
            read_adapter([given])


def test_a_zip_that_unpacks_to_many_times_its_size_is_not_unpacked(tmp_path, monkeypatch):
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("adapter_model.safetensors", "w") as weights:
            for _ in range(120):
                weights.write(bytes(10**6))
        archive.writestr("adapter_config.json", json.dumps(CONFIG))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "no such folder"))

    with pytest.raises(BadAdapterError, match=r"unpacks to 120,000,\d\d\d bytes, more than 20 times its own size"):
        read_adapter([bomb])
