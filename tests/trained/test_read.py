"""Reading a trained adapter: where its files may be, and what is in them."""

import json
import zipfile

import numpy as np
import pytest

from rankviz.errors import BadAdapterError
from rankviz.trained.files import encode
from rankviz.trained.read import read_adapter
from rankviz.trained.resize import spectrum
from tests.support.models.saved_adapters import CONFIG, Q, factors, save, two_blocks
from tests.trained.packed import WEIGHTS, remapped, zip_of


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

    assert ["mine"] * 4 == [each.name for each in ways]
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

    adapter = read_adapter(
        [save(tmp_path / "good", tensors, CONFIG | {"rank_pattern": {"layers.0.self_attn.q_proj": 2}})]
    )

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

    (read,) = read_adapter([tmp_path]).pairs.values()

    for mine, name in zip(read, tensors, strict=True):
        np.testing.assert_array_equal(tensors[name].float().numpy(), mine)
        np.testing.assert_array_equal(tensors[name].view(torch.int16).numpy(), encode(mine, dtype).view(np.int16))


def test_embeddings_convolutions_and_what_is_kept(tmp_path):
    """An embedding of 30 tokens, a 3 × 3 convolution, DoRA magnitudes and a head saved in full."""
    draw = np.random.default_rng(0)

    def some(*shape):
        return draw.standard_normal(shape).astype(np.float32)

    prefix = "base_model.model."
    tensors = {
        f"{prefix}embed.lora_embedding_A": some(4, 30),
        f"{prefix}embed.lora_embedding_B": some(8, 4),
        f"{prefix}conv.lora_A.weight": some(4, 5, 3, 3),
        f"{prefix}conv.lora_B.weight": some(7, 4, 1, 1),
        f"{prefix}embed.lora_magnitude_vector": some(8),
        f"{prefix}lm_head.weight": some(30, 8),
    }

    adapter = read_adapter([save(tmp_path, tensors, CONFIG | {"use_dora": True})])

    assert {"conv": (45, 7), "embed": (30, 8)} == {m.name: (m.in_features, m.out_features) for m in adapter.modules}
    assert {f"{prefix}embed.lora_magnitude_vector", f"{prefix}lm_head.weight"} == set(adapter.kept)
    message = " ".join(adapter.notes)
    assert "a resized DoRA adapter is approximate" in message
    assert "Not changed: lm_head." in message


def test_fused_experts_are_one_update_each(tmp_path):
    """Two experts of rank 4 in PEFT's layout: A's rows expert by expert, B's columns rank by rank."""
    pairs = [factors(6, 4, 12, seed=seed) for seed in (0, 1)]
    name = "base_model.model.model.layers.0.mlp.experts"
    tensors = {
        f"{name}.lora_A.weight": np.concatenate([a for a, _ in pairs]),
        f"{name}.lora_B.weight": np.stack([b for _, b in pairs], axis=2).reshape(6, 8),
    }
    config = CONFIG | {"target_modules": [], "target_parameters": ["mlp.experts.down_proj"]}

    read = read_adapter([save(tmp_path, tensors, config)]).pairs

    assert ["model.layers.0.mlp.experts.down_proj.0", "model.layers.0.mlp.experts.down_proj.1"] == list(read)
    for mine, theirs in zip(read.values(), pairs, strict=True):
        np.testing.assert_array_equal(theirs[0], mine[0])
        np.testing.assert_array_equal(theirs[1], mine[1])


def test_parameters_of_one_module_are_told_apart_by_their_ranks(tmp_path):
    modules = {module.name: module for module in read_adapter([remapped(tmp_path)]).modules}

    layer = "model.layers.0"
    assert {
        f"{layer}.mlp.experts.gate_up_proj": (8, 2, 20, 2.0),
        f"{layer}.mlp.experts.down_proj": (4, 2, 12, 2.0),
        f"{layer}.mlp.gate.weight": (4, 1, 2, 2.0),
        f"{layer}.self_attn.q_proj": (4, 1, 10, 2.0),
    } == {name: (m.r, m.experts, m.out_features, m.scale) for name, m in modules.items()}


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


def test_a_zip_with_checkpoints_gives_the_adapter_at_its_top(tmp_path):
    folder = two_blocks(tmp_path / "mine", lora_alpha=8)
    older = two_blocks(tmp_path / "older", lora_alpha=2)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for file in older.iterdir():
            archive.write(file, f"mine/checkpoint-1/{file.name}")
        for file in folder.iterdir():
            archive.write(file, f"mine/{file.name}")

    assert 8 == read_adapter([tmp_path / "all.zip"]).config.lora_alpha


def test_the_steps_of_a_trainer_state_beside_the_weights_are_read(tmp_path):
    folder = two_blocks(tmp_path / "checkpoint-400")
    assert spectrum(read_adapter([folder])).training_steps is None

    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 400, "log_history": []}))

    ways = [
        read_adapter([folder]),
        read_adapter([zip_of(folder, tmp_path / "mine.zip")]),
        read_adapter([folder / WEIGHTS]),
        read_adapter([folder / WEIGHTS, folder / "adapter_config.json", folder / "trainer_state.json"]),
    ]
    assert [400] * 4 == [spectrum(each).training_steps for each in ways]
