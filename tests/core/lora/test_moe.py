"""How experts get an adapter, or do not: schemes, ranks and refusals, on toy models."""

from dataclasses import replace

import pytest

from rankviz.core.lora.config import UNSLOTH_SEVEN, LoraConfig
from rankviz.core.lora.experts import experts_at
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.lora.resolve import resolve
from rankviz.core.model.spec import UnslothCheckpoint
from rankviz.errors import InvalidSettingError
from tests.core.lora.toy_plans import REMAPPED, plan_of
from tests.support.runs.toy import ATTENTION, MLP, TOY, TOY_MOE, layer, model


def test_experts_multiply_the_pair_by_their_number():
    # Attention 224; experts: 2 blocks · 4 · (16 + 16) and 2 · 4 · (8 + 16).
    assert 224 + 256 + 192 == plan_of(TOY_MOE, framework="unsloth").parameters(1)
    assert 224 == plan_of(TOY_MOE).parameters(1)
    assert 224 + 256 + 192 == plan_of(TOY_MOE, moe_scheme="target-parameters").parameters(1)


def test_peft_rewrites_families_it_knows_with_gate_up_at_twice_the_rank():
    # Shared experts carry 144 a block, the router 16 + 4.
    cases = {
        ("unsloth", "default"): 224 + 2 * 256 + 192,
        ("all-linear", "default"): 224 + 2 * 256 + 192 + 40,
        ("all-linear", "linear-only"): 224 + 288,
        ("attention", "target-parameters"): 224 + 256 + 192,
    }

    for (targets, scheme), expected in cases.items():
        assert expected == plan_of(REMAPPED, targets, moe_scheme=scheme).parameters(1), (targets, scheme)


@pytest.mark.parametrize("targets", ["unsloth", "all-linear"])
def test_experts_named_as_unsloth_names_them_stay_at_rank_r_since_no_name_is_rewritten(targets):
    plan = plan_of(REMAPPED, targets, moe_scheme="unsloth")

    assert 224 + 256 + 192 == plan.parameters(1)
    assert {"q_proj", "k_proj", "v_proj", "o_proj"} == set(plan.target_modules)
    assert ("experts.gate_up_proj", "experts.down_proj") == tuple(
        n.removeprefix("mlp.") for n in plan.target_parameters
    )
    assert any("gate_proj, up_proj and down_proj carry no LoRA outside" in note for note in plan.notes)
    assert any("rank r an expert" in note for note in plan.notes)


@pytest.mark.parametrize(("rule", "e"), [("r/active", 4), ("r/all", 2), ("r / all", 2), ("3", 3), (3, 3), ("r", 8)])
def test_experts_have_the_rank_of_a_rule_or_a_number(rule, e):
    # As above, by rank: attention 224, experts 256 + 192; PEFT's rewrite has gate_up_proj at twice their rank.
    fused, remap = plan_of(TOY_MOE, framework="unsloth", expert_rank=rule), plan_of(REMAPPED, expert_rank=rule)

    assert 224 * 8 + (256 + 192) * e == fused.parameters(8)
    assert 224 * 8 + (2 * 256 + 192) * e == remap.parameters(8)
    for plan in (fused, remap):
        assert plan.parameters(8) == sum(row.parameters for row in plan.by_module(8))
        assert plan.parameters(8) == sum(map(sum, plan.by_block(8).parameters))
    assert f"LoRA per expert at rank {e}, gate and up fused" == experts_at(fused, 8)
    assert f"LoRA per expert at rank {e}, gate_up_proj at {2 * e} (PEFT's remap)" == experts_at(remap, 8)


def test_a_divided_rank_is_at_least_1():
    assert 224 * 3 + (256 + 192) * 1 == plan_of(TOY_MOE, framework="unsloth", expert_rank="r/all").parameters(3)


@pytest.mark.parametrize(("use_rslora", "alphas"), [(False, (16, 8)), (True, (32, 16))])
def test_the_experts_of_another_rank_keep_alpha_over_r(use_rslora, alphas):
    lora = LoraConfig(r=8, lora_alpha=32, use_rslora=use_rslora, expert_rank=2)

    # PEFT's own pattern, .*[.]gate_up_proj, comes after a bracket when the saved configuration is sorted.
    names = ("(mlp.experts.gate_up_proj)", "mlp.experts.down_proj")
    assert {
        "rank_pattern": dict(zip(names, (4, 2), strict=True)),
        "alpha_pattern": dict(zip(names, alphas, strict=True)),
    } == plan_of(REMAPPED, expert_rank=2).patterns(lora)
    assert {} == plan_of(REMAPPED).patterns(LoraConfig(r=8))


def test_an_expert_rank_that_does_nothing_says_so():
    dense, linear = plan_of(TOY, expert_rank="r/all"), plan_of(TOY_MOE, expert_rank=4)

    assert plan_of(TOY).parameters(8) == dense.parameters(8)
    assert "expert_rank has no effect here: this model has no experts." in dense.notes
    assert "expert_rank has no effect here: these experts carry no LoRA." in linear.notes
    assert ("", "no LoRA on the experts") == (experts_at(dense, 8), experts_at(linear, 8))


@pytest.mark.parametrize("wrong", ["r/2", "", 0, 1025, True, 1.5, None])
def test_a_wrong_expert_rank_is_refused(wrong):
    with pytest.raises(
        InvalidSettingError, match="expert_rank, unless it is one of r, r/active, r/all, must be a whole"
    ):
        LoraConfig(expert_rank=wrong).validate()


def test_a_rank_per_active_expert_needs_their_number():
    with pytest.raises(InvalidSettingError, match="Give the rank of experts as a number"):
        plan_of(replace(TOY_MOE, num_experts_per_tok=0), framework="unsloth", expert_rank="r/active")


def test_half_of_a_fused_pair_is_refused_as_peft_refuses_it():
    with pytest.raises(InvalidSettingError, match="cannot adapt gate_proj without up_proj"):
        plan_of(REMAPPED, ("q_proj", "gate_proj"))


def test_dora_on_experts_is_refused_as_peft_refuses_it():
    with pytest.raises(InvalidSettingError, match="DoRA does not work on gate_up_proj"):
        plan_of(TOY_MOE, framework="unsloth", use_dora=True)


def test_a_moe_count_comes_with_its_scheme_and_the_versions():
    remap, unsloth = plan_of(REMAPPED), plan_of(REMAPPED, framework="unsloth")

    assert ("peft-remap", "unsloth") == (remap.scheme, unsloth.scheme)
    assert any("PEFT 0.21.2" in note and "2r" in note for note in remap.notes)
    assert any("Unsloth 2026.10.9" in note for note in unsloth.notes)
    assert "dense" == plan_of(TOY).scheme


def test_experts_left_out_are_said():
    plan = plan_of(TOY_MOE)

    assert ("linear-only", 224) == (plan.scheme, plan.parameters(1))
    assert any(note.startswith("No adapter on the experts: gate_up_proj and down_proj") for note in plan.notes)


OTHER_MOE = replace(REMAPPED, model_type="toy", id="toy/other-moe")
"""A family that Unsloth has no kernels for. Attention 224, shared experts 288, experts 256 + 192."""


@pytest.mark.parametrize("unsloth_class", ["FastLanguageModel", "FastModel"])
def test_linear_only_hands_unsloth_names_that_reach_no_expert(unsloth_class):
    plan = plan_of(OTHER_MOE, "unsloth", "unsloth", moe_scheme="linear-only", unsloth_class=unsloth_class)

    # A bare gate_proj would make FastModel train the experts, too.
    expected = {
        "FastLanguageModel": UNSLOTH_SEVEN,
        "FastModel": (*UNSLOTH_SEVEN[:4], *(f"shared_expert.{name}" for name in UNSLOTH_SEVEN[4:])),
    }
    assert expected[unsloth_class] == plan.target_modules
    assert 224 + 288 == plan.parameters(1)


def test_the_remap_of_peft_is_refused_where_unsloth_trains_the_experts_itself():
    with pytest.raises(InvalidSettingError, match="the MoE scheme peft-remap has no effect there"):
        plan_of(OTHER_MOE, framework="unsloth", moe_scheme="peft-remap")


SPLIT = replace(
    TOY_MOE,
    model_type="gpt_oss",
    id="toy/gpt-oss",
    unsloth_checkpoint=UnslothCheckpoint(repository="unsloth/gpt-oss-unsloth-bnb-4bit"),
)
"""In 4 bit each expert's gate_up_proj and down_proj are linear layers. Attention 224, experts 256 + 192."""


def split_plan(targets, **settings) -> AdapterPlan:
    return resolve(SPLIT, LoraConfig(target_modules=targets, **settings), "unsloth", precision="nf4")


def test_split_experts_are_trained_by_name_and_left_out_by_name():
    assert 224 + 256 + 192 == split_plan("unsloth").parameters(1)
    for targets in ("unsloth", "all-linear"):
        plan = split_plan(targets, moe_scheme="linear-only")
        assert (UNSLOTH_SEVEN[:4], 224) == (plan.target_modules, plan.parameters(1))


@pytest.mark.parametrize(
    ("targets", "scheme", "sentence"),
    (
        ("attention", "target-parameters", "target_parameters names nothing"),
        (("q_proj", "down_projs"), "default", r"experts\.down_projs is not a linear layer"),
        (("q_proj", "down_projs.0"), "default", "hit single experts"),
        (("q_proj", "0"), "default", "hit single experts"),
    ),
)
def test_split_experts_are_refused_where_unsloth_stops_or_trains_one_of_them(targets, scheme, sentence):
    unsloth_class = "FastModel" if "down_projs.0" in targets else "FastLanguageModel"

    with pytest.raises(InvalidSettingError, match=sentence):
        split_plan(targets, moe_scheme=scheme, unsloth_class=unsloth_class)


def test_peft_rewrites_targets_of_a_moe_family_without_experts_too():
    dense = model((*ATTENTION, *MLP), id="toy/dense-moe", model_type="toy", peft_remap="qwen2_moe")
    peft = plan_of(dense)

    # The MLP's names leave target_modules; Unsloth puts them back.
    assert 224 == peft.parameters(1)
    assert any("carry no LoRA" in note for note in peft.notes)
    assert 512 == plan_of(dense, framework="unsloth", unsloth_class="FastModel").parameters(1)
    with pytest.raises(InvalidSettingError, match="cannot adapt gate_proj without up_proj"):
        plan_of(dense, ("q_proj", "gate_proj"), "unsloth", unsloth_class="FastModel")


def test_a_router_trains_by_name_where_it_is_a_plain_linear_layer():
    routed = model((*ATTENTION, layer("feed_forward.router", 16, 4)), id="toy/routed", model_type="toy")

    assert 2 * (16 + 4) == plan_of(routed, ("router",), "unsloth").parameters(1)
    assert 224 == plan_of(routed, "all-linear", "unsloth").parameters(1)
    with pytest.raises(InvalidSettingError, match=r"router: Unsloth 2026\.10\.9 stops here"):
        plan_of(replace(routed, model_type="llama4_text", id="toy/tuple-router"), ("router",), "unsloth")
