"""Modules that are trained or saved in full beside an adapter, on toy models."""

from dataclasses import replace

import pytest

from rankviz.catalog.models import load_model
from rankviz.core.lora.config import LoraConfig
from rankviz.core.lora.resolve import resolve
from rankviz.core.model.spec import ModelSpec, OwnTensor, PlainModule
from rankviz.errors import InvalidSettingError
from tests.core.lora.toy_plans import UNTIED, WITH_HEAD, plan_of
from tests.support.runs.toy import ASSETS, TOY_MOE, layer


def test_saved_modules_are_trained_in_full():
    plan = plan_of(UNTIED, ("q_proj",), modules_to_save=("lm_head", "embed_tokens"))

    # 64 a rank for q_proj, and twice 100 · 16.
    assert 64 * 2 + 3200 == plan.parameters(2)


def test_a_tied_pair_is_two_copies_for_peft_and_one_for_unsloth():
    both = ("lm_head", "embed_tokens")
    peft = plan_of(WITH_HEAD, ("q_proj",), modules_to_save=both)
    unsloth = plan_of(WITH_HEAD, ("q_proj",), "unsloth", modules_to_save=both)

    assert 64 + 3200 == peft.parameters(1)
    assert 64 + 1600 == unsloth.parameters(1)
    assert peft.file_bytes(1) == unsloth.file_bytes(1)
    assert any("the tie is lost" in note for note in peft.notes)
    assert any("trains one set of weights and saves it twice" in note for note in unsloth.notes)


def test_embeddings_as_targets_are_lora_for_peft_and_saved_in_full_by_unsloth():
    names = ("q_proj", "embed_tokens")
    peft, unsloth = plan_of(UNTIED, names), plan_of(UNTIED, names, "unsloth")

    assert 64 + 116 == peft.parameters(1)
    assert 64 + 1600 == unsloth.parameters(1)
    assert ("q_proj",) == unsloth.target_modules
    assert ("embed_tokens",) == unsloth.modules_to_save
    assert any("frozen weight of embed_tokens" in note for note in peft.notes)


def tensors(**shapes: tuple[int, ...]) -> tuple[OwnTensor, ...]:
    return tuple(OwnTensor(name=name, shape=shape) for name, shape in shapes.items())


NORM = PlainModule(path="model.layers.{}.input_layernorm", tensors=tensors(weight=(16,)), blocks=(0, 1), is_norm=True)
LAST_NORM = PlainModule(path="model.norm", tensors=tensors(weight=(16,)), is_norm=True)
GATE = PlainModule(path="model.layers.{}.mlp.gate", tensors=tensors(weight=(4, 16), bias=(4,)), blocks=(0, 1))
FUSED = PlainModule(
    path="model.layers.{}.mlp.experts",
    tensors=tensors(gate_up_proj=(4, 16, 16), down_proj=(4, 16, 8)),
    part="mlp",
    blocks=(0, 1),
)
NORMED = replace(
    UNTIED,
    id="toy/normed",
    plain_modules=(NORM, LAST_NORM),
    other_modules=("model", "model.layers", "model.layers.{}", "model.layers.{}.mlp", NORM.path, LAST_NORM.path),
)
ROUTED = replace(TOY_MOE, id="toy/routed-moe", model_type="qwen3_moe", plain_modules=(GATE, FUSED))


def test_unsloths_own_families_save_embedding_head_and_norms_only():
    for names in (("lm_head", "score"), ("o_proj",), ("mlp",)):
        with pytest.raises(InvalidSettingError, match="takes only embed_tokens, lm_head and normalization layers"):
            plan_of(NORMED, framework="unsloth", modules_to_save=names)
    assert 512 + 1600 == plan_of(NORMED, framework="unsloth", modules_to_save=("lm_head",)).parameters(1)
    assert 512 + 3 * 16 == plan_of(NORMED, framework="unsloth", modules_to_save=("norm",)).parameters(1)
    assert any("which this model lacks" in note for note in plan_of(NORMED, modules_to_save=("score",)).notes)


def test_a_name_of_modules_to_save_hits_every_path_that_ends_with_it():
    # 512 a rank for all seven; q_proj, saved in full, leaves 32 a block and takes 16 · 16.
    for names, parameters in (
        (("norm",), 512 + 3 * 16),
        (("model.norm",), 512 + 16),
        (("layers.1.input_layernorm",), 512 + 16),
        (("q_proj",), 512 - 64 + 2 * 256),
        (("mlp",), 512 - 2 * 144 + 2 * 3 * 512),
    ):
        plan = plan_of(NORMED, modules_to_save=names)
        assert parameters == plan.parameters(1), names
        assert parameters == sum(row.parameters for row in plan.by_module(1)), names
        assert parameters == sum(map(sum, plan.by_block(1).parameters)), names


def test_a_saved_norm_lies_in_the_file_once_a_block():
    one = replace(NORMED, id="toy/one-normed", layers=(layer("self_attn.q_proj", 16, 16, blocks=(0,)),))
    before = plan_of(one, ("q_proj",)).file_bytes(4, saved_dtype="fp32")
    after = plan_of(one, ("q_proj",), modules_to_save=("layernorm",)).file_bytes(4, saved_dtype="fp32")

    entry = ',"base_model.model.model.layers.0.input_layernorm.weight":{"dtype":"F32","shape":[16],"data_offsets":[,]}'
    # Two norms of 64 bytes come before the pair: offsets 0, 64, 64, 128, and 128, 384, 384, 640 for 0, 256, 256, 512.
    header = 272 + 2 * len(entry) + len("06464128128384384640") - len("0256256512")
    assert 8 + 272 + 512 == before
    assert 8 + -(-header // 8) * 8 + 512 + 128 == after


def test_routers_and_experts_saved_in_full_count_and_unsloth_freezes_what_has_no_weight():
    saved = {"target_modules": ("q_proj",), "modules_to_save": ("gate", "experts")}
    peft = resolve(ROUTED, LoraConfig(**saved), "peft")
    unsloth = resolve(ROUTED, LoraConfig(**saved), "unsloth")

    # 64 a rank for q_proj; 68 a gate; 4 · 16 · (16 + 8) in the experts of a block.
    assert 64 + 2 * 68 + 2 * 1536 == peft.parameters(1)
    assert 64 + 2 * 68 == unsloth.parameters(1)
    assert peft.file_bytes(1) == unsloth.file_bytes(1)
    assert any("saves experts in full and does not train it" in note for note in unsloth.notes)


def test_what_cannot_be_saved_in_full_is_refused():
    def refusal(
        spec: ModelSpec, names: tuple[str, ...], framework="peft", precision="bf16", targets=("q_proj",)
    ) -> str:
        with pytest.raises(InvalidSettingError) as refused:
            resolve(spec, LoraConfig(target_modules=targets, modules_to_save=names), framework, precision=precision)
        return str(refused.value)

    assert "model.layers, a list of blocks" in refusal(NORMED, ("layers",))
    assert "both model.layers.N.mlp and model.layers.N.mlp.up_proj inside it" in refusal(NORMED, ("mlp", "up_proj"))
    assert "dropout, which also hits modules that PEFT adds" in refusal(NORMED, ("dropout",))
    lfm2 = load_model(ASSETS, "LiquidAI/LFM2-1.2B")  # one name, two modules
    remedy = "Replace conv, which ends both paths, by conv.conv, which ends the inner one alone."
    assert refusal(lfm2, ("conv",)).endswith(f"which RankViz does not count. {remedy}")
    assert "where q_proj carries LoRA" in refusal(NORMED, ("_proj",))
    assert "packed in a 4-bit or 8-bit base" in refusal(NORMED, ("o_proj",), precision="nf4")
    assert "packed in a 4-bit or 8-bit base" in refusal(ROUTED, ("experts",), "unsloth", "nf4-dq")
    for spec, names, framework in ((NORMED, ("norm", "lm_head"), "peft"), (ROUTED, ("experts",), "trl")):
        lora = LoraConfig(target_modules=("q_proj",), modules_to_save=names)
        assert resolve(spec, lora, framework, precision="nf4").saved
