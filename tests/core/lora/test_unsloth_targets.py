"""What Unsloth's classes, flags and patterns make of targets, on toy models."""

from dataclasses import replace

import pytest

from rankviz.catalog.models import load_model
from rankviz.core.lora.config import FLAGS, UNSLOTH_SEVEN, LoraConfig
from rankviz.core.lora.resolve import resolve
from rankviz.core.model.spec import LinearLayer, UnslothCheckpoint
from rankviz.errors import InvalidSettingError
from tests.core.lora.toy_plans import REMAPPED, plan_of
from tests.support.runs.toy import ASSETS, ATTENTION, EXPERTS, MLP, TOY, TOY_MOE, layer, model

OTHER = model(
    (
        *ATTENTION,
        *MLP,
        layer("conv.in_proj", 16, 48, part="other"),
        layer("per_layer_gate", 16, 4, part="other"),
        LinearLayer(
            path="model.visual.blocks.{}.attn.q_proj", in_features=8, out_features=8, blocks=(0, 1, 2), part="vision"
        ),
        LinearLayer(path="model.visual.merger.down_proj", in_features=8, out_features=16, part="vision"),
    ),
    id="toy/other",
    model_type="toy",
)
"""A family that Unsloth has no kernels for, with a vision tower. Attention 224, MLP 288, the tower's attention 48."""


def test_what_unsloth_leaves_out_of_all_linear_is_said():
    peft, unsloth = plan_of(OTHER, "all-linear"), plan_of(OTHER, "all-linear", "unsloth")

    # Outside attention and MLP: 16 + 48 and 16 + 4 a block, and the merger's 24.
    assert 512 + 48 + 2 * 84 + 24 == peft.parameters(1)
    assert 512 + 48 == unsloth.parameters(1)
    assert any("it leaves out in_proj, per_layer_gate and down_proj" in note for note in unsloth.notes)
    assert 512 == plan_of(TOY, "all-linear", "unsloth").parameters(1)


def test_unsloths_pattern_takes_names_inside_attention_and_mlp_of_the_language_model():
    names = (*UNSLOTH_SEVEN, "in_proj")
    fast = plan_of(OTHER, names, "unsloth")

    assert 512 == fast.parameters(1)
    assert names == fast.target_modules
    assert any("Unsloth 2026.10.9 leaves out in_proj" in note for note in fast.notes)
    assert any("4 more modules that PEFT would adapt stay out" in note for note in fast.notes)
    # PEFT: the tower's q_proj, the merger, and in_proj twice.
    assert 512 + 48 + 24 + 128 == plan_of(OTHER, names).parameters(1)
    assert 512 + 48 + 24 + 128 == plan_of(OTHER, names, "unsloth", unsloth_class="FastModel").parameters(1)


def test_unsloths_flags_choose_towers_and_kinds_of_layers():
    counts = {
        (True, True, True, False): 224 + 48,
        (True, False, True, True): 48,
        (False, True, False, True): 288,
        (True, True, False, True): 288,
    }

    for flags, expected in counts.items():
        chosen = dict(zip(FLAGS, flags, strict=True))
        assert expected == plan_of(OTHER, "unsloth", "unsloth", **chosen).parameters(1), flags
    spelled_out = plan_of(OTHER, "all-linear", "unsloth", **dict.fromkeys(FLAGS[::3], False))
    assert 224 == spelled_out.parameters(1)
    assert any("RankViz and its exports name the layers instead: q_proj" in note for note in spelled_out.notes)


def test_a_preset_that_last_names_cannot_keep_apart_says_what_else_it_reaches():
    gated = model((*ATTENTION, layer("self_attn.gate_proj", 16, 16), *MLP), id="toy/gated", model_type="toy")
    both = plan_of(gated, "attention", "unsloth")
    apart = plan_of(gated, "attention", "unsloth", finetune_mlp_modules=False)

    # Attention with its gate 224 + 64, the MLP's gate 96.
    assert 224 + 64 + 96 == both.parameters(1)
    assert any("Preset attention also reaches mlp.gate_proj" in note for note in both.notes)
    assert 224 + 64 == apart.parameters(1) == plan_of(gated, "attention").parameters(1)
    assert not any("also reaches" in note for note in apart.notes)


def test_a_plan_says_which_class_and_flags_a_script_has():
    whole = replace(OTHER, tower="whole model", id="toy/whole-other")
    text, off = plan_of(OTHER, "unsloth", "unsloth"), plan_of(whole, "unsloth", "unsloth", finetune_mlp_modules=False)

    assert ("FastLanguageModel", {}) == (text.unsloth_class, text.unsloth_flags)
    assert "FastVisionModel" == off.unsloth_class
    assert [False, True, True, False] == [off.unsloth_flags[flag] for flag in FLAGS]
    assert {} == plan_of(whole, "all-linear", "unsloth").unsloth_flags


@pytest.mark.parametrize(
    ("spec", "targets", "settings", "sentence"),
    (
        (TOY, "unsloth", {"finetune_mlp_modules": True}, "FastLanguageModel takes no finetune_mlp_modules for llama"),
        (OTHER, "unsloth", dict.fromkeys(FLAGS[:2], False), "finetune_language_layers are both off"),
        (OTHER, "unsloth", dict.fromkeys(FLAGS[2:], False), "finetune_mlp_modules are both off"),
        (OTHER, ("self_attn.q_proj",), {}, "last names without dots"),
        (OTHER, ("in_proj",), {}, "match no linear layer inside attention or MLP with finetune_vision_layers off"),
        (OTHER, "mlp", {"finetune_mlp_modules": False}, "match no linear layer"),
    ),
)
def test_what_unsloth_refuses_is_refused_with_what_to_do(spec, targets, settings, sentence):
    with pytest.raises(InvalidSettingError, match=sentence):
        plan_of(spec, targets, "unsloth", **settings)


def test_experts_alone_are_refused_as_unsloth_refuses_them():
    moe = replace(TOY_MOE, model_type="toy_moe")

    with pytest.raises(InvalidSettingError, match=r"Preset mlp: .* it needs a linear layer as well"):
        plan_of(moe, "mlp", "unsloth")
    # Experts: 2 blocks · 4 · (16 + 16) and 2 · 4 · (8 + 16).
    assert 256 + 192 == plan_of(moe, "mlp", "unsloth", unsloth_class="FastModel").parameters(1)
    assert 96 + 192 == plan_of(moe, ("down_proj", "v_proj", "k_proj"), "unsloth").parameters(1)


def test_conv1d_layers_are_refused_by_unsloths_pattern_and_taken_by_fast_model():
    gpt = model((layer("attn.c_attn", 16, 48, kind="conv1d"),), id="toy/gpt", model_type="gpt2")

    for targets, settings in (("qv", {}), ("all-linear", {}), ("all-linear", {"unsloth_class": "FastModel"})):
        with pytest.raises(InvalidSettingError, match="those of gpt2 are Conv1D"):
            plan_of(gpt, targets, "unsloth", **settings)
    assert 128 == plan_of(gpt, "qv", "unsloth", unsloth_class="FastModel").parameters(1)


def test_an_8_bit_base_takes_even_own_families_to_the_pattern():
    lora = LoraConfig(target_modules=("self_attn.q_proj", "v_proj"))

    assert 64 + 48 == resolve(TOY, lora, "unsloth").parameters(1)
    assert 48 == resolve(TOY, lora, "unsloth", precision="int8").parameters(1)


def test_gpt_oss_in_4_bit_has_a_pair_for_each_expert():
    split = UnslothCheckpoint(repository="unsloth/oss-unsloth-bnb-4bit")
    oss = replace(TOY_MOE, model_type="gpt_oss", id="toy/oss", unsloth_checkpoint=split)
    lora = LoraConfig(target_modules=UNSLOTH_SEVEN)
    fused, split = (resolve(oss, lora, "unsloth", precision=precision) for precision in ("bf16", "nf4-dq"))
    dora = resolve(oss, replace(lora, use_dora=True), "unsloth", precision="nf4")

    assert fused.parameters(2) == split.parameters(2)
    # The same values, and 2 blocks · (2 · 4 - 2) more pairs in the header.
    assert 24 * 60 < split.file_bytes(2) - fused.file_bytes(2) < 24 * 200
    # Attention's outputs 48 a block; experts' 4 · (16 + 16).
    assert split.parameters(2) + 2 * 48 + 2 * 128 == dora.parameters(2)
    assert sum(map(sum, dora.by_block(2).parameters)) == sum(row.parameters for row in dora.by_module(2))
    # "down_proj" is found in "down_projs", "gate_proj" is not.
    assert 192 == resolve(oss, LoraConfig(target_modules=("down_proj",)), "unsloth", precision="nf4").parameters(1)
    with pytest.raises(InvalidSettingError, match="Only experts"):
        resolve(oss, LoraConfig(target_modules=("gate_proj",)), "unsloth", precision="nf4")


def test_unsloths_cpu_backend_adds_fused_projections_and_leaves_pefts_rewrite_on():
    phi = model((layer("self_attn.qkv_proj", 16, 48), layer("self_attn.o_proj", 16, 16)), id="toy/phi")
    cpu = resolve(phi, LoraConfig(), "unsloth", cuda=False)

    assert UNSLOTH_SEVEN == cpu.target_modules
    assert (64, 64 + 128) == (plan_of(phi, framework="unsloth").parameters(1), cpu.parameters(1))
    assert "peft-remap" == resolve(REMAPPED, LoraConfig(), "unsloth", cuda=False).scheme
    assert plan_of(REMAPPED).parameters(1) == resolve(REMAPPED, LoraConfig(), "unsloth", cuda=False).parameters(1)


def test_flags_that_do_nothing_are_said():
    for framework, cuda, flag, program in (
        ("trl", True, {"finetune_mlp_modules": False}, "TRL"),
        ("unsloth", False, {"finetune_mlp_modules": True}, "Unsloth's CPU backend"),
        ("unsloth", False, {"finetune_vision_layers": False}, "Unsloth's CPU backend"),
    ):
        plan = resolve(TOY, LoraConfig(**flag), framework, cuda=cuda)
        assert 512 == plan.parameters(1)
        assert any(f"{program} ignores it" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("off", "sentence"),
    [
        (("finetune_mlp_modules",), "^finetune_mlp_modules cannot be off here: without a GPU, Unsloth trains all"),
        (("finetune_attention_modules",), "^finetune_attention_modules cannot be off here"),
        (("finetune_language_layers",), "^finetune_language_layers cannot be off here"),
        (
            ("finetune_mlp_modules", "finetune_attention_modules"),
            "^finetune_attention_modules and finetune_mlp_modules cannot be off here.* Leave them out",
        ),
    ],
)
def test_without_a_gpu_a_flag_that_is_off_is_refused(off, sentence):
    with pytest.raises(InvalidSettingError, match=sentence):
        resolve(TOY, LoraConfig(**dict.fromkeys(off, False)), "unsloth", cuda=False)


def test_unsloth_makes_peft_rewrite_names_of_qwen2_moe_too():
    """A config.json of one block, 64 wide, four experts: Unsloth's FastModel trains 8 · (64 + 4) = 544."""
    router = layer("mlp.gate.weight", 64, 4, kind="router", part="mlp", blocks=(0,))
    spec = replace(
        TOY_MOE,
        model_type="qwen2_moe",
        peft_remap="",
        layers=(*EXPERTS, router),
        other_modules=("model.layers.{}.mlp.gate",),
    )
    chosen = LoraConfig(target_modules=("gate",), unsloth_class="FastModel")

    assert 544 == resolve(spec, chosen, "unsloth").parameters(8)
    with pytest.raises(InvalidSettingError, match=r"mlp\.gate is not a linear layer"):
        resolve(spec, chosen, "peft")


@pytest.mark.parametrize("names", [("gate_proj", "up_proj", "down_proj"), ("down_proj",)])
def test_a_gpt_oss_folder_of_ones_own_holds_stacks_where_a_list_of_experts_alone_has_no_layer(names):
    """The names of the Hub fetch Unsloth's file with a linear layer for each expert, in 4 bit."""
    lora = LoraConfig(target_modules=names)
    known = load_model(ASSETS, "openai/gpt-oss-20b")
    folder = replace(known, id="", unsloth_checkpoint=None)

    assert resolve(known, lora, "unsloth", precision="nf4-dq").parameters(1)
    with pytest.raises(InvalidSettingError, match="Only experts have these names"):
        resolve(folder, lora, "unsloth", precision="nf4-dq")
    by_fast_model = resolve(folder, replace(lora, unsloth_class="FastModel"), "unsloth", precision="nf4-dq")
    assert by_fast_model.parameters(1)
    assert not by_fast_model.route.split_experts
