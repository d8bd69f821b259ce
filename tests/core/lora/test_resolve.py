"""Adapter numbers on a toy model, worked out by hand, and the laws they obey.

The toy (toy.py): two blocks, 16 wide. in + out is 32 for q and o, 24 for k and v, 48 for gate, up and down: 112 for
attention, 144 for the MLP, 256 a block, 512 for both.
"""

from dataclasses import replace

import pytest

from rankviz.core.lora.config import UNSLOTH_SEVEN, LoraConfig
from rankviz.core.lora.targets import module_choices
from rankviz.core.model.spec import LinearLayer
from rankviz.errors import InvalidSettingError
from tests.core.lora.toy_plans import REMAPPED, UNTIED, WITH_HEAD, plan_of
from tests.support.runs.toy import ATTENTION, EMBEDDING, MLP, TOY, layer, model


def test_each_layer_adds_rank_times_in_plus_out():
    assert 4096 == plan_of(TOY, "all-linear").parameters(8)
    assert 4096 == plan_of(TOY, "unsloth").parameters(8)
    assert 448 == plan_of(TOY, "qv").parameters(4)
    assert 896 == plan_of(TOY, "attention").parameters(4)
    assert 1152 == plan_of(TOY, "mlp").parameters(4)
    assert 96 == plan_of(TOY, ("down_proj",)).parameters(1)


def test_twice_the_rank_is_twice_the_adapter():
    plan = plan_of(TOY)
    for r in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512):
        assert 2 * plan.parameters(r) == plan.parameters(2 * r)


def test_a_larger_rank_never_makes_a_smaller_file():
    plan = plan_of(TOY)
    sizes = [plan.file_bytes(r) for r in range(1, 1025)]

    assert sizes == sorted(sizes)


def test_dora_adds_one_magnitude_an_output():
    # Outputs a block: 16 + 8 + 8 + 16 + 32 + 32 + 16 = 128.
    assert 4096 + 256 == plan_of(TOY, use_dora=True).parameters(8)


def test_scale_is_alpha_over_rank_and_with_rslora_over_its_root():
    assert 1.0 == LoraConfig(r=16, lora_alpha=16).scale
    assert 2.0 == LoraConfig(r=16, lora_alpha=32).scale
    assert 4.0 == LoraConfig(r=16, lora_alpha=16, use_rslora=True).scale


def test_a_file_is_its_length_its_padded_header_and_its_data():
    one = model((layer("self_attn.q_proj", 16, 16, blocks=(0,)),), id="toy/one")
    plan = plan_of(one, ("q_proj",))

    header = (
        '{"__metadata__":{"format":"pt"},'
        '"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight":'
        '{"dtype":"F32","shape":[4,16],"data_offsets":[0,256]},'
        '"base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight":'
        '{"dtype":"F32","shape":[16,4],"data_offsets":[256,512]}}'
    )
    assert 272 == len(header)
    assert 8 + 272 + 512 == plan.file_bytes(4)
    # In bf16 the header says BF16 twice, and its offsets are 0, 128, 128, 256: two characters more, so 280 once padded.
    assert 8 + 280 + 256 == plan.file_bytes(4, 2)


def test_parts_add_up_to_the_whole():
    for spec, changes in ((TOY, {"use_dora": True}), (UNTIED, {"modules_to_save": ("lm_head",)}), (REMAPPED, {})):
        plan = plan_of(spec, **changes)
        grid = plan.by_block(16)

        assert plan.parameters(16) == sum(row.parameters for row in plan.by_module(16))
        assert plan.parameters(16) == sum(sum(row) for row in grid.parameters)


def test_parameters_by_module_and_by_block():
    plan = plan_of(TOY, ("q_proj", "down_proj"))

    assert [("q_proj", 2, 128), ("down_proj", 2, 192)] == [(m.name, m.count, m.parameters) for m in plan.by_module(2)]
    assert ("0", "1") == plan.by_block(2).blocks
    assert ("q_proj", "down_proj") == plan.by_block(2).modules
    assert ((64, 96), (64, 96)) == plan.by_block(2).parameters


def test_names_match_whole_components_from_the_end():
    assert 64 == plan_of(TOY, ("self_attn.q_proj",)).parameters(1)
    assert 32 == plan_of(TOY, ("layers.1.self_attn.q_proj",)).parameters(1)
    assert 32 + 48 == plan_of(TOY, ("model.layers.0.self_attn.q_proj", "1.mlp.up_proj")).parameters(1)
    for nothing in (
        ("proj",),
        ("layers.2.self_attn.q_proj",),
        ("attn.q_proj",),
        ("a.model.layers.0.self_attn.q_proj",),
    ):
        with pytest.raises(InvalidSettingError, match="matches nothing"):
            plan_of(TOY, nothing)


def test_a_target_that_matches_nothing_is_an_error_with_the_names_that_exist():
    with pytest.raises(InvalidSettingError) as caught:
        plan_of(TOY, ("c_attn",))

    assert (
        "c_attn matches nothing in this model. "
        "Linear layers here: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj. "
        "Choose all-linear or one of the layers above." == str(caught.value)
    )


def test_several_targets_that_match_nothing_take_the_plural():
    with pytest.raises(InvalidSettingError, match=r"^c_attn, c_proj match nothing in this model\."):
        plan_of(TOY, ("c_attn", "c_proj"))


def test_a_target_that_matches_nothing_beside_one_that_does_is_said():
    plan = plan_of(TOY, ("q_proj", "c_attn"))

    assert 64 == plan.parameters(1)
    assert (
        "c_attn matches nothing in this model, which has q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj."
        in plan.notes
    )


def test_fused_projections_that_the_seven_names_miss_are_said():
    fused = model(
        (layer("self_attn.qkv_proj", 16, 32), layer("self_attn.o_proj", 16, 16), layer("mlp.gate_up_proj", 16, 64)),
        id="toy/fused",
    )
    seven, qv = plan_of(fused, "unsloth"), plan_of(fused, "qv")

    assert ("o_proj",) == seven.target_names
    assert any("qkv_proj and gate_up_proj hold them fused" in note for note in seven.notes)
    assert ("qkv_proj",) == qv.target_modules
    assert any("qkv_proj holds queries, keys and values" in note for note in qv.notes)


def test_modules_that_few_blocks_have_are_said():
    hybrid = model((*MLP, replace(ATTENTION[0], blocks=(1,))), id="toy/hybrid")

    assert "q_proj exists in 1 of 2 blocks." in plan_of(hybrid).notes


def test_presets_take_the_shortest_names_that_hit_one_part_only():
    gpt2 = model(
        (
            layer("attn.c_attn", 16, 48, kind="conv1d"),
            layer("attn.c_proj", 16, 16, kind="conv1d"),
            layer("mlp.c_fc", 16, 64, kind="conv1d", part="mlp"),
            layer("mlp.c_proj", 64, 16, kind="conv1d", part="mlp"),
        ),
        id="toy/gpt2",
    )

    assert ("c_attn", "attn.c_proj") == plan_of(gpt2, "attention").target_modules
    assert ("c_fc", "mlp.c_proj") == plan_of(gpt2, "mlp").target_modules
    assert {"attn.c_proj", "mlp.c_proj"} < {row.name for row in plan_of(gpt2, "all-linear").by_module(1)}


def test_a_module_that_is_no_layer_is_refused():
    spec = replace(TOY, other_modules=("model.layers.{}.mlp",), id="toy/others")

    with pytest.raises(InvalidSettingError, match=r"model\.layers\.N\.mlp is not a linear layer"):
        plan_of(spec, ("q_proj", "mlp"))


NUMBERED = model(
    (
        *ATTENTION,
        LinearLayer(path="model.visual.merger.mlp.0", in_features=8, out_features=8, part="vision"),
        LinearLayer(path="model.visual.merger.mlp.2", in_features=8, out_features=16, part="vision"),
    ),
    other_modules=("model.layers.{}", "model.visual.merger.mlp", "model.visual.merger.mlp.1"),
    id="toy/numbered",
    model_type="toy",
)


def test_a_layer_may_have_a_number_for_a_name():
    plan = plan_of(NUMBERED, "all-linear")

    # Attention 224, the merger's 16 and 24, which Unsloth passes by, since each exists once.
    assert 264 == plan.parameters(1)
    assert 224 == plan_of(NUMBERED, "all-linear", "unsloth").parameters(1)
    assert {"mlp.0", "mlp.2"} < {row.name for row in plan.by_module(1)}
    assert 224 + 24 == plan_of(NUMBERED, ("q_proj", "k_proj", "v_proj", "o_proj", "mlp.2")).parameters(1)
    with pytest.raises(InvalidSettingError, match=r"model\.layers\.N is not a linear layer"):
        plan_of(NUMBERED, ("q_proj", "0"))


def test_a_convolution_is_a_layer_for_peft_and_no_linear_one():
    patch = LinearLayer(
        path="model.visual.patch_embed.proj", in_features=48, out_features=8, kind="conv", part="vision", kernel=(4, 4)
    )
    vision = model((*ATTENTION, patch), id="toy/patches")

    assert 48 + 8 == plan_of(vision, ("proj",)).parameters(1)
    assert 224 == plan_of(vision, "all-linear").parameters(1)


def test_towers_are_said():
    text = replace(TOY, tower="text tower", id="toy/tower")
    whole = model((*ATTENTION, layer("attn.qkv", 16, 48, part="vision")), id="toy/whole", tower="whole model")

    assert any(note.startswith("Text tower only") for note in plan_of(text).notes)
    assert any("2 of 10 targeted modules are outside the text tower" in n for n in plan_of(whole, "all-linear").notes)


def test_choices_are_the_names_with_their_counts():
    choices = {choice.name: (choice.count, choice.in_all_linear) for choice in module_choices(WITH_HEAD)}

    assert (2, True) == choices["q_proj"]
    assert (1, False) == choices["lm_head"]
    assert (1, False) == choices["embed_tokens"]
    assert set(UNSLOTH_SEVEN) < set(choices)
    assert EMBEDDING.name in choices


def test_lists_as_peft_has_them_are_taken_and_a_preset_loses_its_spaces():
    lora = LoraConfig(target_modules=["q_proj", "v_proj"], modules_to_save=["lm_head"])

    lora.validate()
    assert (("q_proj", "v_proj"), ("lm_head",)) == (lora.target_modules, lora.modules_to_save)
    assert "mlp" == LoraConfig(target_modules=" mlp").target_modules
    assert hash(lora) == hash(LoraConfig(target_modules=("q_proj", "v_proj"), modules_to_save=("lm_head",)))


@pytest.mark.parametrize("settings", [{"target_modules": (1,)}, {"modules_to_save": "lm_head"}, {"target_modules": []}])
def test_names_that_are_none_are_refused(settings):
    with pytest.raises(InvalidSettingError):
        LoraConfig(**settings).validate()
