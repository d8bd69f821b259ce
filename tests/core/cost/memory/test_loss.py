"""What the loss holds, worked out by hand on the toy: 16 wide, a vocabulary of 100."""

from dataclasses import replace

import pytest

from rankviz.core.cost.blocks import loss_moments, unsloth_chunk
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.cost.stack import Habits, Stack
from tests.support.runs.toy import ASSUMPTIONS, TOY

LLAMA, QWEN3_4B, GEMMA_3_4B = (4096, 128_256), (2560, 151_936), (2560, 262_208)
CARD_80_GIB, CARD_24_GIB = 79.2 * 2**30, 22.0 * 2**30


def moments(spec=TOY, framework="trl", habits=None, usable=None, previous=0.0, **setup):
    fields = {"precision": "bf16", "per_device_train_batch_size": 1, "max_length": 512, "loss_path": "full", **setup}
    chosen = Stack(
        setup=TrainingSetup(framework=framework, **fields), use_dora=False, assume=ASSUMPTIONS, measured_habits=habits
    )
    return loss_moments(spec, chosen, usable, previous)


def all_of(moment):
    return moment.logits + moment.activations + moment.scratch


def test_transformers_own_loss_holds_three_fp32_copies_and_what_the_caller_keeps():
    (plain,), (held,), (old,) = (
        moments(habits=habits)
        for habits in (None, Habits(holds_logits=True), Habits(holds_logits=True, rebinds_logits=True))
    )

    assert [12 * 512 * 100, 14 * 512 * 100, 12 * 512 * 100] == [plain.logits, held.logits, old.logits]
    assert 6 * 512 * 16 == plain.activations


def test_a_soft_cap_on_logits_keeps_its_tanh():
    gemma = replace(TOY, model_type="gemma2")

    (moment,) = moments(gemma)

    assert 14 * 512 * 100 == moment.logits


def test_trls_fused_loss_holds_a_tile_of_logits_and_the_gradient_of_hidden_states():
    (moment,) = moments(loss_path="fused")

    assert 2 * 512 * 100 + 4 * 512 * 16 == moment.logits


def test_a_tile_of_it_has_4_096_tokens_and_32_768_entries_at_most():
    """trl/kernels/chunked_logprob.py: mm_buf."""
    wide = replace(TOY, vocab_size=100_000)
    tiles = [moments(wide, max_length=n, loss_path="fused")[0].logits for n in (512, 8192)]

    assert [2 * 512 * 32_768 + 4 * 512 * 16, 2 * 4096 * 32_768 + 4 * 8192 * 16] == tiles


def test_a_triton_loss_over_fp32_logits_lost_a_copy_with_transformers_before_4_46():
    held = [
        moments(loss_path="triton", habits=Habits(triton_kernels=True, rebinds_logits=old))[0].logits
        for old in (False, True)
    ]

    assert [10 * 512 * 100, 8 * 512 * 100] == held


def test_unsloths_loss_holds_a_chunk_of_logits_the_gradient_of_hidden_states_and_its_part_in_fp32():
    (moment,) = moments(framework="unsloth", loss_path="fused")

    rows = 512 - 1  # the last token of a row has no label
    assert 4 * rows * 100 + 2 * 512 * 16 == moment.logits
    assert 4 * 512 * 16 + 4 * rows * 16 == moment.activations  # what the last norm keeps, and the product of the chunk


def test_two_rows_of_2_048_tokens_have_too_few_labels_for_unsloths_tiles_on_a_large_card():
    llama = replace(TOY, hidden_size=2048, vocab_size=128_256)
    held = [
        moments(llama, framework="unsloth", loss_path="fused", per_device_train_batch_size=rows, max_length=length)[0]
        for rows, length in ((2, 2048), (1, 4097))
    ]

    assert [4 * 512 * 128_256 + 2 * 4096 * 2048, 4 * 4096 * 16_384 + 2 * 4097 * 2048] == [each.logits for each in held]


@pytest.mark.parametrize(
    ("shape", "tokens", "expected"),
    [(LLAMA, 4096, (512, 128_256)), (QWEN3_4B, 4096, (512, 151_936)), (GEMMA_3_4B, 4096, (512, 262_208))],
)
def test_chunks_are_of_512_rows_for_usual_models(shape, tokens, expected):
    assert expected == unsloth_chunk(tokens, *shape, CARD_80_GIB, ampere=False)


def test_a_small_vocabulary_gives_longer_chunks_and_few_tokens_give_one():
    assert (4096, 32_000) == unsloth_chunk(100_000, 4096, 32_000, None, ampere=True)
    assert (100, 32_000) == unsloth_chunk(100, 4096, 32_000, None, ampere=True)


def test_cards_since_ampere_work_in_tiles_of_at_most_256_mib():
    assert (4096, 16_384) == unsloth_chunk(8192, *LLAMA, CARD_80_GIB, ampere=True)
    assert (512, 128_256) == unsloth_chunk(2048, *LLAMA, CARD_80_GIB, ampere=True)  # too few tokens for a large card
    assert (2048, 16_384) == unsloth_chunk(2048, *LLAMA, CARD_24_GIB, ampere=True)


def test_unsloths_former_losses_are_capped_by_the_card_and_cut_cross_entropy_holds_no_logits():
    own = Habits(unsloth_kernels=True)
    held = {
        kind: moments(framework="unsloth", loss_path="fused", habits=replace(own, unsloth_loss=kind))[0]
        for kind in ("func", "func-2025", "cut")
    }

    assert [16 * 512 * 100, 16 * 512 * 100, 2 * 512 * 16] == [each.logits for each in held.values()]
    assert [4 * 2**30, 16 * 2**30, None] == [each.cap for each in held.values()]
    assert [0.5, 2.0] == [held[kind].share_of_free for kind in ("func", "func-2025")]


LITGPT = Habits(autocast=False, fp32_logits=True)


def test_litgpts_chunks_are_kept_in_fp32_with_their_softmax_and_two_gradients_of_one_chunk():
    (moment,) = moments(loss_path="chunked", habits=LITGPT)

    assert (4 + 4 + 8 / 4) * 512 * 100 == moment.logits


def test_a_quantized_head_is_unpacked_twice_over_while_all_gradients_wait():
    habits = replace(LITGPT, quantizes_every_linear=True, dequantizes_twice=True)
    _, backward = moments(loss_path="chunked", habits=habits, precision="nf4")

    assert (8 + 2 / 4) * 512 * 100 == backward.logits
    assert 2 * 2 * 100 * 16 == backward.scratch


def test_a_graph_that_lives_until_the_next_forward_pass_is_over_is_there_twice():
    habits = replace(LITGPT, keeps_previous_graph=True)
    _, last_chunk, handed_over = moments(loss_path="chunked", habits=habits, previous=5000.0)

    assert (4 + 2) * 512 * 100 == last_chunk.logits
    assert (4 + 2 + 4) * 512 * 100 == handed_over.logits
    assert 5000 + 4 * 512 * 16 == handed_over.activations
    assert all_of(last_chunk) < all_of(handed_over)
