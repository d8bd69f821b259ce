"""Resized adapters: the truncated product of a dense SVD, the size that was promised, and nothing else changed."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from rankviz.errors import BadAdapterError, InvalidSettingError
from rankviz.trained.plan import plan, received
from rankviz.trained.read import read_adapter, resize, spectrum
from rankviz.trained.svd import decompose, singular_values, truncate
from tests.support.models.saved_adapters import CONFIG, Q, factors, save, two_blocks

WEIGHTS = "adapter_model.safetensors"


def planned(folder, **options):
    adapter = read_adapter([folder])
    return adapter, plan(adapter.outline, spectrum(adapter), **options)


def update(adapter, name: str) -> np.ndarray:
    """scale · B·A in fp64."""
    (a, b), (module, _) = adapter.pair(name), adapter.updates[name]
    return module.scale * b.astype(np.float64) @ a.astype(np.float64)


def truncated(matrix: np.ndarray, k: int) -> np.ndarray:
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    return u[:, :k] * s[:k] @ vt[:k]


@pytest.mark.parametrize("dtype", [None, "fp32", "bf16", "fp16"])
def test_the_file_has_the_size_that_was_promised_to_the_byte(tmp_path, dtype):
    before, what = planned(two_blocks(tmp_path / "old"), r=1, dtype=dtype)

    folder = resize(before, what, tmp_path / "new")

    assert (folder / WEIGHTS).stat().st_size == what.adapter_bytes
    assert (dtype or "fp32") == read_adapter([folder]).dtype


def test_what_is_no_factor_stays_as_it_is_and_so_does_the_rest_of_the_config(tmp_path):
    (a, b), head = factors(10, 4, 12), np.arange(6, dtype=np.float16).reshape(2, 3)
    tensors = {f"{Q}.lora_A.weight": a, f"{Q}.lora_B.weight": b, "base_model.model.lm_head.weight": head}
    config = CONFIG | {"base_model_name_or_path": "some/base", "lora_dropout": 0.25, "modules_to_save": ["lm_head"]}
    before, what = planned(save(tmp_path / "old", tensors, config), r=3)

    folder = resize(before, what, tmp_path / "new")

    written, after = json.loads((folder / "adapter_config.json").read_text()), read_adapter([folder])
    assert {**config, "r": 3, "lora_alpha": 6, "rank_pattern": {}, "alpha_pattern": {}} == written
    assert {"format": "pt"} == after.outline.metadata
    assert ("Not changed: lm_head.weight.",) == before.notes
    assert head.tobytes() == after.raw("base_model.model.lm_head.weight").tobytes()


def test_convolutions_and_embeddings_keep_their_shapes(tmp_path):
    draw = np.random.default_rng(0)
    shapes = {
        "conv.lora_A.weight": (4, 5, 3, 3),
        "conv.lora_B.weight": (7, 4, 1, 1),
        "embed.lora_embedding_A": (4, 30),
        "embed.lora_embedding_B": (8, 4),
    }
    tensors = {f"base_model.model.{n}": draw.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    tensors["base_model.model.embed.lora_magnitude_vector"] = np.ones(8, np.float32)
    before, what = planned(save(tmp_path / "old", tensors, CONFIG | {"use_dora": True}), r=2)

    after = read_adapter([resize(before, what, tmp_path / "new")])

    assert {"conv": (45, 7), "embed": (30, 8)} == {m.name: (m.in_features, m.out_features) for m in before.modules}
    assert "a resized DoRA adapter is approximate" in " ".join(before.notes)
    tensors = dict(after.outline.tensors)
    del tensors["base_model.model.embed.lora_magnitude_vector"]
    assert {
        "conv.lora_A.weight": (2, 5, 3, 3),
        "conv.lora_B.weight": (7, 2, 1, 1),
        "embed.lora_embedding_A": (2, 30),
        "embed.lora_embedding_B": (8, 2),
    } == {n.removeprefix("base_model.model."): tensor.shape for n, tensor in tensors.items()}
    assert sum(np.prod(tensor.shape) for tensor in tensors.values()) == what.adapter_parameters
    np.testing.assert_allclose(update(after, "conv"), truncated(update(before, "conv"), 2), atol=1e-4)


def test_nothing_is_overwritten_and_nothing_is_left_half_written(tmp_path):
    folder = two_blocks(tmp_path / "old")
    before, what = planned(folder, r=2)
    (tmp_path / "file").write_text("mine")

    for used in (folder, tmp_path / "file"):
        with pytest.raises(InvalidSettingError, match=r"already exists and is not overwritten"):
            resize(before, what, used)
    (tmp_path / "empty").mkdir()
    assert 2 == read_adapter([resize(before, what, tmp_path / "empty")]).r
    assert {"old", "file", "empty"} == {path.name for path in tmp_path.iterdir()}


def test_an_unknown_dtype_and_values_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(InvalidSettingError, match="dtype of an adapter must be fp32, bf16 or fp16"):
        planned(two_blocks(tmp_path / "old"), r=2, dtype="int8")
    large = {k: v * 1e4 for k, v in dict(zip("AB", factors(10, 4, 12), strict=True)).items()}
    tensors = {f"base_model.model.q.lora_{side}.weight": values * 1e3 for side, values in large.items()}
    before, what = planned(save(tmp_path / "large", tensors), r=2, dtype="fp16")
    with pytest.raises(BadAdapterError, match="fp16 cannot hold values above 65,504: choose bf16 or fp32"):
        resize(before, what, tmp_path / "new")


def test_an_adapter_that_moves_its_base_when_loaded_is_refused(tmp_path):
    with pytest.raises(BadAdapterError, match="first save it with path_initial_model_for_weight_conversion"):
        planned(two_blocks(tmp_path, init_lora_weights="pissa_niter_4"), r=2)


def test_what_is_read_arrives_as_it_was_made(tmp_path):
    adapter = read_adapter([two_blocks(tmp_path / "mine")])
    read = spectrum(adapter)

    sent = json.loads(json.dumps({"outline": asdict(adapter.outline), "spectrum": asdict(read)}))

    assert (adapter.outline, read) == received(**sent)


def dense(a: np.ndarray, b: np.ndarray) -> tuple:
    return np.linalg.svd(b.astype(np.float64) @ a.astype(np.float64), full_matrices=False)


@pytest.mark.parametrize("shape", [(48, 8, 32), (32, 8, 48), (6, 8, 40), (40, 8, 5), (24, 1, 24)])
def test_singular_values_equal_dense_svd(shape):
    a, b = factors(*shape)
    expected = np.zeros(shape[1])
    decomposition = dense(a, b)[1][: shape[1]]
    expected[: len(decomposition)] = decomposition

    for values in (singular_values("q", (a, b)), decompose("q", (a, b)).singular_values):
        np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-7 * expected[0])


@pytest.mark.parametrize("k", [1, 3, 8])
def test_a_cut_pair_is_the_truncated_product(k):
    a, b = factors(48, 8, 32)
    u, s, vt = dense(a, b)

    low_a, low_b = truncate((a, b), decompose("q", (a, b)), k)

    assert ((k, 32), (48, k)) == (low_a.shape, low_b.shape)
    assert (np.float32, np.float32) == (low_a.dtype, low_b.dtype)
    np.testing.assert_allclose(low_b @ low_a, u[:, :k] * s[:k] @ vt[:k], atol=2e-6 * s[0])


def test_a_module_that_was_never_trained_has_no_update_and_can_still_be_trained_after_a_cut():
    a, b = factors(20, 4, 16)
    b[:] = 0.0
    decomposition = decompose("q", (a, b))

    low_a, low_b = truncate((a, b), decomposition, 2)

    assert [0.0] * 4 == list(decomposition.singular_values)
    np.testing.assert_array_equal(a[:2], low_a)
    assert not low_b.any()


def test_a_diverged_module_is_named():
    a, b = factors(20, 4, 16)
    b[0, 0] = np.nan

    with pytest.raises(BadAdapterError, match=r"layers\.3\.q_proj holds values that are infinite or not a number"):
        decompose("layers.3.q_proj", (a, b))
