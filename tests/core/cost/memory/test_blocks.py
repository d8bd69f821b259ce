"""What a block of the toy keeps for its backward pass and holds in it, worked out by hand."""

from dataclasses import replace

import pytest

from rankviz.core.cost import blocks
from rankviz.core.model.spec import ActivationBytes
from tests.core.cost.memory.toy_memory import HELD, shape_of, stack
from tests.support.runs.toy import ATTENTION, TOY, layer, model

WIDE_MLP = (
    layer("mlp.gate_proj", 16, 64, part="mlp"),
    layer("mlp.up_proj", 16, 64, part="mlp"),
    layer("mlp.down_proj", 64, 16, part="mlp"),
)
SEVEN = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def test_the_wider_the_mlp_the_later_the_fullest_moment():
    wide = model((*ATTENTION, *WIDE_MLP))
    held = [blocks.backward_bytes(shape_of(spec).kinds[0], spec, stack()) for spec in (TOY, wide)]

    assert [10 * (2 * 32 + 11 * 16), 10 * (6 * 64 + 2 * 16)] == held


def test_adapters_in_the_activations_own_dtype_keep_an_input_once():
    kept = [
        blocks.kept_bytes(shape_of(TOY, names).kinds[0], TOY, stack("trl", precision="nf4"))[0]
        for names in ((), ("q_proj",), ("q_proj", "v_proj"), ("q_proj", "o_proj"), ("q_proj", "gate_proj", "down_proj"))
    ]

    hidden, mlp_hidden = 2 * 10 * 16, 2 * 10 * 32
    assert [0, hidden, hidden, hidden, 2 * hidden + mlp_hidden] == [each - kept[0] for each in kept]


def test_where_the_projection_down_keeps_its_input_the_fullest_moment_is_another():
    shape = shape_of(TOY, ("down_proj",))
    held = {
        (framework, precision): blocks.backward_bytes(shape.kinds[0], TOY, stack(framework, precision=precision))
        for framework, precision in (("trl", "bf16"), ("trl", "nf4"), ("peft", "bf16"), ("peft", "nf4"))
    }

    assert {
        ("trl", "bf16"): 10 * (6 * 32 + 10 * 16),
        ("trl", "nf4"): 10 * (4 * 32 + 2 * 16),  # 16-bit adapters
        ("peft", "bf16"): 10 * (6 * 32 + 10 * 16),
        ("peft", "nf4"): 10 * (10 * 32 + 2 * 16),  # fp32 hidden states
    } == held


def test_without_a_gate_the_fullest_moment_is_that_of_the_projection_down_as_well():
    plain = model(
        (*ATTENTION, layer("mlp.dense_h_to_4h", 16, 64, part="mlp"), layer("mlp.dense_4h_to_h", 64, 16, part="mlp"))
    )
    (kind,) = shape_of(plain, ("dense_4h_to_h",)).kinds

    assert 10 * (6 * 64 + 10 * 16) == blocks.backward_bytes(kind, plain, stack("trl"))


def test_figures_read_off_a_blocks_class_take_the_formulas_place():
    own = replace(TOY, activation_bytes_per_token=(HELD,))

    def kept(framework, **setup):
        return blocks.kept_bytes(shape_of(own, ()).kinds[0], own, stack(framework, **setup))[0]

    assert (10 * 700, 10 * 700) == (kept("trl"), kept("trl", gradient_checkpointing="none"))
    in_16_bit = 2 * 48  # queries, keys, values and the output: autocast turns them back
    assert (10 * (900 - in_16_bit), 10 * (964 - in_16_bit)) == (
        kept("peft", precision="nf4"),
        kept("peft", precision="nf4", gradient_checkpointing="none"),
    )
    assert 10 * 2 * (4 * 16 + 48 + 96) == kept("unsloth")


def test_the_gradients_of_a_blocks_class_move_with_adapters_as_a_llamas_do():
    own = replace(TOY, activation_bytes_per_token=(HELD,))
    held = [
        blocks.backward_bytes(shape_of(own, names).kinds[0], own, stack(framework))
        for framework, names in (("peft", ()), ("peft", ("down_proj",)), ("trl", ()), ("unsloth", ()))
    ]

    with_adapter = 6 * 32 + 10 * 16
    assert [10 * 350, 10 * (with_adapter + 350 - 240), 10 * 350, 10 * 2 * 3 * 32] == held


def test_families_without_blocks_of_unsloths_own_keep_what_their_class_keeps_and_adapters_what_they_read_once():
    own = replace(TOY, activation_bytes_per_token=(HELD,))
    compiled = stack("unsloth")
    compiled = replace(compiled, measured_habits=replace(compiled.habits, fast_blocks=False))
    (kind,) = shape_of(own, ("q_proj", "v_proj")).kinds

    assert 10 * (700 + 2 * 16) == blocks.kept_bytes(kind, own, compiled)[0]
    assert 10 * 350 == blocks.backward_bytes(kind, own, compiled)


def test_of_many_blocks_unsloth_leaves_four_hidden_states_on_the_card_and_none_moves_below_512_tokens():
    shape = shape_of(TOY)._replace(blocks=30)
    held = [
        blocks.checkpoint_bytes(TOY, shape, stack("unsloth", gradient_checkpointing="unsloth", max_length=length))
        for length in (512, 511)
    ]

    assert [4 * 512 * 16 * 2, 30 * 511 * 16 * 2] == held


def test_normed_queries_are_kept_twice_and_biased_ones_have_copies_of_their_input():
    llama, qwen3, qwen2 = (replace(TOY, model_type=name) for name in ("llama", "qwen3", "qwen2"))

    def kept(spec, *names):
        return blocks.kept_bytes(shape_of(spec, names).kinds[0], spec, stack("unsloth"))[0]

    assert 10 * 2 * (16 + 8) == kept(qwen3, *SEVEN) - kept(llama, *SEVEN)  # queries and keys
    assert 10 * 2 * 2 * 16 == kept(qwen2, *SEVEN) - kept(llama, *SEVEN)  # three copies for one
    assert kept(llama, *SEVEN[4:]) == kept(qwen2, *SEVEN[4:])


def test_parts_of_unsloths_blocks_without_all_of_their_adapters_run_as_they_are_written():
    def held(*names):
        (kind,) = shape_of(TOY, names).kinds
        return [
            blocks.kept_bytes(kind, TOY, stack("unsloth"))[0] // 20,
            blocks.backward_bytes(kind, TOY, stack("unsloth")) // 20,
        ]

    block = 4 * 16 + 48
    assert [block + 2 * 32, 16 + 32] == held(*SEVEN)
    assert [block + 3 * 32, 3 * 32] == held(*SEVEN[:4])  # the MLP keeps its product and has three gradients
    assert [block + 3 * 32 + 16, 3 * 32] == held("q_proj", "v_proj")  # two copies of the hidden state for one
    assert [block + 3 * 32 + 32, 3 * 32] == held(*SEVEN[:4], "down_proj")  # and one of the adapter's input


def test_pefts_k_bit_preparation_makes_checkpoints_fp32():
    held = {
        framework: blocks.checkpoint_bytes(TOY, shape_of(TOY), stack(framework, precision="nf4"))
        for framework in ("trl", "peft")
    }

    assert {"trl": 2 * 10 * 16 * 2, "peft": 2 * 10 * 16 * 4} == held


def test_where_optional_kernels_may_save_most_of_what_linear_attention_keeps_the_band_says_so():
    (kind,) = shape_of(TOY, ()).kinds
    linear = kind._replace(attention_width=0, activations=HELD)
    wide = linear._replace(activations=replace(HELD, autocast=ActivationBytes(kept=4160, gradients=300)))

    def width(kind):
        shape = shape_of(TOY, ())._replace(kinds=(kind,))
        return blocks.working_width(TOY, shape, stack("peft"))

    plain = width(kind)
    assert (1 - 416 / 700) ** 2 == pytest.approx(width(linear) ** 2 - plain**2)  # more than 0.4
    assert 0.9**2 == pytest.approx(width(wide) ** 2 - plain**2)  # 1 - 416/4160
