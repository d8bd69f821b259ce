"""Reading a trained adapter: where its files may be, what is in them, PEFT's own answer for its patterns, and what is
refused with a sentence that has an end."""

import json
import tempfile
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save_file

from rankviz.children import processor_time
from rankviz.errors import BadAdapterError
from rankviz.trained.files import encode
from rankviz.trained.read import ENDLESS, matcher, read_adapter, spectrum
from tests.support.models.saved_adapters import CONFIG, Q, factors, save, two_blocks

WEIGHTS = "adapter_model.safetensors"


def zip_of(folder, target):
    with zipfile.ZipFile(target, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"adapter/{file.name}")
    return target


def test_a_folder_a_zip_a_lone_file_and_both_files_are_the_same_adapter(tmp_path):
    folder = two_blocks(tmp_path / "mine")
    apart = tmp_path / "elsewhere" / "adapter_config.json"
    apart.parent.mkdir()
    apart.write_text((folder / "adapter_config.json").read_text())

    ways = [
        read_adapter([folder]),
        read_adapter([zip_of(folder, tmp_path / "mine.zip")]),
        read_adapter([folder / WEIGHTS]),
        read_adapter([apart, folder / WEIGHTS]),
    ]

    assert ["mine"] * 4 == [each.outline.name for each in ways]
    assert 1 == len({spectrum(each).layers for each in ways})


def test_singular_values_are_of_the_scaled_update(tmp_path):
    adapter = read_adapter([two_blocks(tmp_path)])
    a, b = factors(10, 4, 12, seed=10)
    dense = np.linalg.svd(2.0 * b.astype(np.float64) @ a, compute_uv=False)[:4]

    result = spectrum(adapter)

    assert [
        "model.layers.0.self_attn.q_proj",
        "model.layers.0.self_attn.v_proj",
        "model.layers.1.self_attn.q_proj",
        "model.layers.1.self_attn.v_proj",
    ] == [layer.name for layer in result.layers]
    np.testing.assert_allclose(result.layers[0].singular_values, dense, rtol=1e-6)
    assert ("model.layers.1.self_attn.v_proj",) == result.dead
    assert (4, 8, "fp32") == (result.r, result.lora_alpha, result.dtype)


def test_rank_pattern_is_what_the_shapes_must_agree_with(tmp_path):
    a, b = factors(10, 2, 12)
    tensors = {f"{Q}.lora_A.weight": a, f"{Q}.lora_B.weight": b}

    config = CONFIG | {"rank_pattern": {"layers.0.self_attn.q_proj": 2}}
    adapter = read_adapter([save(tmp_path / "good", tensors, config)])

    assert (2, 8 / 2) == (adapter.modules[0].r, adapter.modules[0].scale)
    with pytest.raises(BadAdapterError, match=r"q_proj has rank 2 in the weights and 4 in adapter_config\.json"):
        read_adapter([save(tmp_path / "bad", tensors)])


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_half_precision_is_read_as_the_numbers_it_holds(tmp_path, dtype):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_torch

    a, b = factors(10, 4, 12)
    kind = {"F16": torch.float16, "BF16": torch.bfloat16}[dtype]
    tensors = {f"{Q}.lora_A.weight": torch.tensor(a).to(kind), f"{Q}.lora_B.weight": torch.tensor(b).to(kind)}
    save(tmp_path, {"x": np.zeros(1, dtype=np.float32)})
    save_torch(tensors, tmp_path / WEIGHTS)

    adapter = read_adapter([tmp_path])
    (read,) = map(adapter.pair, adapter.updates)

    for mine, name in zip(read, tensors, strict=True):
        np.testing.assert_array_equal(tensors[name].float().numpy(), mine)
        np.testing.assert_array_equal(tensors[name].view(torch.int16).numpy(), encode(mine, dtype).view(np.int16))


def test_fused_experts_are_one_update_each(tmp_path):
    """Two experts of rank 4 in PEFT's layout: A's rows expert by expert, B's columns rank by rank."""
    pairs = [factors(6, 4, 12, seed=seed) for seed in (0, 1)]
    name = "base_model.model.model.layers.0.mlp.experts"
    tensors = {
        f"{name}.lora_A.weight": np.concatenate([a for a, _ in pairs]),
        f"{name}.lora_B.weight": np.stack([b for _, b in pairs], axis=2).reshape(6, 8),
    }
    config = CONFIG | {"target_modules": [], "target_parameters": ["mlp.experts.down_proj"]}

    adapter = read_adapter([save(tmp_path, tensors, config)])

    assert ["model.layers.0.mlp.experts.down_proj.0", "model.layers.0.mlp.experts.down_proj.1"] == list(adapter.updates)
    for mine, theirs in zip(map(adapter.pair, adapter.updates), pairs, strict=True):
        np.testing.assert_array_equal(theirs[0], mine[0])
        np.testing.assert_array_equal(theirs[1], mine[1])


def test_parameters_of_equal_rank_are_in_the_order_in_which_transformers_declares_them(tmp_path):
    """down_proj is declared last, so PEFT wraps it outermost; here with alphas that are not the same."""
    name = "base_model.model.model.layers.0.mlp.experts"
    tensors = {}
    for module, out in ((f"{name}.base_layer", 20), (name, 12)):
        tensors[f"{module}.lora_A.weight"], tensors[f"{module}.lora_B.weight"] = factors(out, 8, 10)
    config = {"target_modules": [], "target_parameters": ["experts.down_proj", "experts.gate_up_proj"]}
    pattern = {"alpha_pattern": {"experts.down_proj": 4}}

    modules = read_adapter([save(tmp_path, tensors, CONFIG | config | pattern)]).modules

    assert {("gate_up_proj", 20, 2.0), ("down_proj", 12, 1.0)} == {
        (module.name.rpartition(".")[2], module.out_features, module.scale) for module in modules
    }


NAMES = [
    f"{top}.layers.{block}.{part}"
    for top in ("model", "model.language_model", "transformer")
    for block in (0, 1, 9, 10, 31)
    for part in ("self_attn.q_proj", "self_attn.o_proj", "mlp.down_proj", "mlp.experts.3.up_proj", "mlp.experts")
] + ["lm_head", "model.embed_tokens", "q_proj", "x", "modelxlayersx0xself_attnxq_proj", "a", "aa", "aab"]
USUAL = [
    "q_proj",
    "proj",
    "^model.layers.(0|31).self_attn.q_proj",
    r".*\.gate_up_proj",
    r"^model\.layers\.\d{1,2}\.self_attn\.(?:q_proj|o_proj)$",
    r"(.*?(?:language).*?(?:self_attn|mlp).*?(?:q_proj|down_proj).*?)",
    r"(?:model\.layers\.(?:0|1)\.self_attn\.(?:q_proj))|(?:\bnever)",
    r"(?=model)model.*(?<!down)_proj",
    "a{2}b?",
    "",
    "(|a)b",
]


def peft_key(keys, name):
    from peft.utils.other import get_pattern_key

    return get_pattern_key(keys, name)


@pytest.mark.parametrize("key", USUAL)
def test_a_pattern_matches_as_in_peft(key):
    value_of = matcher({key: 1})

    for name in NAMES:
        assert (peft_key([key], name) == key) == (value_of(name) is not None or name == key), name


@pytest.mark.parametrize("key", ["(a+)+b", "(a|aa)+b", "(a*)*b"])
def test_a_pattern_that_takes_re_for_ever_is_refused_in_time(key):
    with pytest.raises(BadAdapterError, match="takes too long to match"), processor_time(0.2, BadAdapterError(ENDLESS)):
        matcher({key: 4})("a" * 60)


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
        (lambda t: t.update({f"{Q}.lora_A.weight": np.zeros(48, np.float32)}), "not matrices: gather the shards"),
        (lambda t: t.update({f"{Q}.lora_A.weight": np.zeros((4, 12), np.int32)}), "the adapter in fp32, bf16 or fp16"),
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
        (json.dumps(CONFIG | {"target_parameters": ["a b"]}), "target_parameters must be a plain name"),
        (json.dumps(CONFIG | {"lora_alpha": "8"}), "lora_alpha must be a number from"),
        (json.dumps(CONFIG | {"rank_pattern": {"(": 4}}), r"The pattern '\(' is not a regular expression"),
        (json.dumps(CONFIG)[:-1] + f', "x": {"[" * 900 + "]" * 900}}}', "is nested deeper than PEFT nests it"),
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
