"""Operations and bytes of one micro-step, worked out by hand on the toy."""

from dataclasses import replace

import pytest

from rankviz.core.cost.duration import work_of
from rankviz.core.cost.stack import Habits, Stack
from tests.core.cost.memory.toy_memory import shape_of, stack
from tests.support.runs.toy import ASSUMPTIONS, TOY, model


def work(spec=TOY, framework="trl", **setup):
    return work_of(spec, shape_of(spec), stack(framework, **setup))


def test_operations_with_loras_own_terms():
    counted = work()

    attention = 2 * 4 * 16 * 5  # blocks × 4 · Q · half the length
    assert 10 * (6 * 4608 + 4.5 * attention + 4 * 16 * 100) == counted.operations
    assert 10 * 8 * 2 * (32 + 24) == counted.operations_per_rank  # q and v of two blocks
    assert (0, 0) == (counted.operations_fp32, counted.operations_fp32_per_rank)


def test_without_checkpointing_nothing_is_computed_twice():
    counted = work(gradient_checkpointing="none")

    assert 10 * (4 * 4608 + 3.5 * 640 + 6400) == counted.operations
    assert 10 * 6 * 112 == counted.operations_per_rank


def test_a_sliding_window_bounds_the_keys_a_query_sees():
    sliding = model(layer_types=("sliding_attention", "full_attention"), sliding_window=4)

    full_block, sliding_block = 4 * 16 * 5, 4 * 16 * 3.2  # 4 · (1 - 4/20) keys
    assert pytest.approx(10 * (6 * 4608 + 4.5 * (full_block + sliding_block) + 6400)) == work(sliding).operations


def test_eager_attention_multiplies_the_whole_matrix():
    assert 10 * 4.5 * 640 == work(attn_implementation="eager").operations - work().operations


def test_without_autocast_the_adapter_works_in_fp32_and_so_does_what_k_bit_preparation_raised():
    def without_autocast(**setup):
        plain = stack("peft", **setup)
        return work_of(TOY, shape_of(TOY), replace(plain, measured_habits=replace(plain.habits, autocast=False)))

    plain, raised = without_autocast(), without_autocast(precision="nf4")

    assert (0, 10 * 8 * 112) == (plain.operations_per_rank, plain.operations_fp32_per_rank)
    assert 0 == plain.operations_fp32
    attention = 2 * 4 * 16 * 10  # the math kernel's whole matrix, since no fused one takes grouped keys in fp32
    assert 10 * (4.5 * attention + 6400) == raised.operations_fp32  # and the head
    assert 10 * 6 * 4608 == raised.operations


def test_training_the_base_too_adds_the_gradients_of_its_weights():
    more = work_of(TOY, shape_of(TOY), stack("trl"), weight_gradients=True).operations - work().operations

    assert 10 * (2 * 4608 + 2 * 1600) == more


def test_bytes_moved_by_operators_and_by_dequantizing():
    block = 368 * 16 + 43 * 48 + 12.7 * 96 + 42 * 32 + 24 * 24  # H, 2Q + 2K, 3M, in and out features of q and v
    logits = 45 * 100

    assert pytest.approx(10 * (2 * block + logits)) == work().bytes_moved
    own_dtype = block - (42 - 6) * 32
    weights = 3 * 4608 * (0.5625 + 4)
    assert pytest.approx(10 * (2 * own_dtype + logits) + weights) == work(precision="nf4").bytes_moved


def test_fused_kernels_move_a_share():
    habits = Habits(triton_kernels=True)
    plain = stack("trl")
    fused = Stack(setup=plain.setup, use_dora=False, assume=ASSUMPTIONS, measured_habits=habits)

    saved = work().bytes_moved - work_of(TOY, shape_of(TOY), fused).bytes_moved

    blocks = work().bytes_moved - 10 * 45 * 100
    assert pytest.approx(0.4 * blocks) == saved
