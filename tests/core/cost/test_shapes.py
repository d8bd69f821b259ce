"""Sums over the toy's layers, worked out by hand."""

from dataclasses import replace

from rankviz.core.cost.shapes import model_shape
from rankviz.core.model.spec import ActivationBytes, BlockActivations
from tests.support.runs.toy import ATTENTION, MLP, TOY, TOY_MOE, adapted, layer, model


def test_a_llama_block_keeps_2q_2k_3m_elements_a_token():
    (kind,) = model_shape(TOY, adapted(TOY, "q_proj", "v_proj")).kinds

    assert 2 == kind.count
    assert 48 == kind.attention  # q 16 + k 8 + v 8 + into o 16
    assert 96 == kind.mlp  # gate 32 + up 32 + into down 32
    assert 32 == kind.mlp_hidden
    assert 16 == kind.attention_width
    assert (32, 2) == (kind.targeted_inputs, kind.targeted_modules)


def test_fused_projections_keep_as_much_as_split_ones():
    fused = model(
        (
            layer("attn.qkv_proj", 16, 32),
            layer("attn.o_proj", 16, 16),
            layer("mlp.gate_up_proj", 16, 64, part="mlp"),
            MLP[2],
        )
    )

    (kind,) = model_shape(fused, []).kinds

    assert (48, 96, 32) == (kind.attention, kind.mlp, kind.mlp_hidden)


def test_only_the_active_experts_are_multiplied_and_kept():
    shape = model_shape(TOY_MOE, adapted(TOY_MOE, "gate_up_proj"))

    (kind,) = shape.kinds
    assert 2 * (768 + 2 * (256 + 128)) == shape.active_weights
    assert 2 * (16 + 8) == kind.mlp
    assert 2 * 2 * (16 + 16) == shape.active_adapter_parameters
    assert ((4 * 16 * 16,), 2) == (shape.targeted_experts, shape.expert_blocks)


def test_blocks_that_differ_are_told_apart():
    hybrid = model(
        (
            layer("linear_attn.in_proj_qkv", 16, 40, blocks=(0,)),
            layer("linear_attn.out_proj", 16, 16, blocks=(0,)),
            *(layer(each.path.split("{}.")[1], each.in_features, each.out_features, blocks=(1,)) for each in ATTENTION),
            *MLP,
        ),
        layer_types=("linear_attention", "full_attention"),
    )

    first, second = sorted(model_shape(hybrid, []).kinds, key=lambda kind: kind.attention_width)

    assert (0, 56, 1) == (first.attention_width, first.attention, first.count)
    assert (16, 48, 1) == (second.attention_width, second.attention, second.count)


def test_a_vision_tower_weighs_but_no_text_token_runs_through_it():
    whole = model((*ATTENTION, *MLP, layer("visual.qkv", 1000, 3000, part="vision", blocks=(0, 1, 2))))

    shape = model_shape(whole, [])

    assert 2 == shape.blocks
    assert 4608 == shape.active_weights
    assert 3_000_000 == shape.largest_linear


def test_an_adapter_in_one_block_only_makes_that_block_another_kind():
    (q,) = adapted(TOY, "q_proj")

    kinds = model_shape(TOY, [replace(q, blocks=(1,))]).kinds

    assert [0, 16] == sorted(kind.targeted_inputs for kind in kinds)
    assert [1, 1] == [kind.count for kind in kinds]


def test_blocks_that_hold_differently_are_told_apart():
    figures = [
        BlockActivations(blocks=(block,), bf16=each, fp32=each)
        for block, each in enumerate((ActivationBytes(kept=1, gradients=1), ActivationBytes(kept=2, gradients=1)))
    ]

    kinds = model_shape(replace(TOY, activation_bytes_per_token=tuple(figures)), []).kinds

    assert figures == [kind.activations for kind in kinds]
    assert [1, 1] == [kind.count for kind in kinds]
