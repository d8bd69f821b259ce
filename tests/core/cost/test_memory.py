"""Memory of the toy, worked out by hand, and the laws that any model must keep."""

import itertools
from dataclasses import replace

import pytest

from rankviz.core.cost import weights
from rankviz.core.cost.blocks import Block, checkpoint_bytes, loss_moments, unsloth_chunk
from rankviz.core.cost.memory import MemoryTerms, trained_bytes
from rankviz.core.cost.predict import predict
from rankviz.core.cost.setup import card
from rankviz.core.cost.shapes import BlockAttention
from rankviz.core.cost.stack import Habits, settled
from rankviz.core.lora.config import LoraConfig
from rankviz.core.model.spec import ActivationBytes, OwnTensor, PlainModule, UnslothCheckpoint
from tests.core.cost.toy_cost import HELD, SEVEN, estimate, shape_of, stack
from tests.support.runs.toy import ASSUMPTIONS, ATTENTION, TOY, TOY_MOE, gpu, layer, model

HELD_TOY = replace(TOY, activation_bytes_per_token=(HELD,))


def block(spec=TOY, names=("q_proj", "v_proj"), framework="peft", **setup):
    (kind,) = shape_of(spec, names).kinds
    return Block(kind, spec, stack(framework, **setup))


def test_plain_peft_in_16_bit_peaks_at_the_loss():
    memory = estimate()

    assert 6288 * 2 == memory.base_weights
    assert (400, 400, 800) == (memory.adapter, memory.gradients, memory.optimizer)
    assert 2 * 10 * 16 * 2 + 10 * 16 * 6 == memory.activations  # blocks × tokens × hidden × 2 bytes, the last norm's 6H
    assert 12 * 10 * 100 == memory.logits
    assert 12_576 + 400 + 400 + 800 + 640 + 960 + 12_000 == memory.allocated


@pytest.mark.parametrize(("checkpointing", "blocks"), [("hf", 1), ("none", 2)])
def test_a_block_is_the_peak_with_a_fused_loss_and_all_keep_theirs_without_checkpointing(checkpointing, blocks):
    memory = estimate(loss_path="fused" if blocks == 1 else "full", gradient_checkpointing=checkpointing)

    kept = 10 * (8 * 16 + 2 * (48 + 96))  # tokens × (8H + 2(2Q + 2K + 3M))
    copies = 2 * 10 * 32  # of the inputs of q and v, fp32 and turned back by autocast
    intermediates = 2 * 10 * 2 * 2  # x·A of two modules at r = 2
    gradients = 10 * (2 * 32 + 11 * 16)  # tokens × (2M + 11H): this MLP is narrow
    rest = 640 + gradients if blocks == 1 else 10 * 16 * 6
    assert blocks * (kept + copies + intermediates) + rest == memory.activations


def test_unsloth_moves_checkpoints_to_the_host_and_keeps_less_of_each_block():
    asks = {"framework": "unsloth", "optim": "adamw_8bit", "gradient_checkpointing": "unsloth", "loss_path": "fused"}
    few_words = replace(TOY, vocab_size=10)  # so that a block is the peak
    memory, short = (estimate(few_words, max_length=n, names=SEVEN, **asks) for n in (512, 511))
    whole = estimate(framework="unsloth", names=SEVEN, gradient_checkpointing="none", loss_path="triton")

    each, checkpoints = 2 * (5 * 16 + 48 + 96), 2 * 2 * 16  # 2 × (5H + 2Q + 2K + 3M), and the inputs of two blocks
    assert [512 * (each + checkpoints), 511 * (each + checkpoints)] == [memory.activations, short.activations]
    assert 203 == memory.optimizer
    assert 2 * 2 * 10 * (4 * 16 + 48 + 96 - 32) + 4 * 10 * 16 == whole.activations  # blocks × 2T(4H + 2Q + 2K + 2M)


def test_of_many_blocks_four_hidden_states_stay_on_the_card_and_none_moves_below_512_tokens():
    shape = shape_of(TOY)._replace(blocks=30)
    unsloth = {"framework": "unsloth", "gradient_checkpointing": "unsloth"}

    held = [checkpoint_bytes(TOY, shape, stack(**unsloth, max_length=length)) for length in (512, 511)]

    assert [4 * 512 * 16 * 2, 30 * 511 * 16 * 2] == held
    k_bit = [checkpoint_bytes(TOY, shape_of(TOY), stack(name, precision="nf4")) for name in ("trl", "peft")]
    assert [2 * 10 * 16 * 2, 2 * 10 * 16 * 4] == k_bit  # PEFT's k-bit preparation makes them fp32


def test_unsloth_unpacks_weights_into_a_buffer_that_stays_and_one_more_beside_its_gradients():
    asks = {"framework": "unsloth", "precision": "nf4-dq", "gradient_checkpointing": "unsloth"}

    tables = 2 * 2 * 32_768 * 8  # sines and cosines
    assert 2 * 2 * 16 * 32 + tables == estimate(names=SEVEN, loss_path="fused", **asks).other  # a block is the peak
    assert 2 * 16 * 32 + tables == estimate(names=SEVEN, loss_path="full", **asks).other  # the loss is
    # Without adapters on the MLP the buffer has room for q alone, and nothing is unpacked beside three gradients.
    assert 2 * 16 * 16 + tables == estimate(loss_path="fused", **asks).other
    gemma = estimate(replace(TOY, model_type="gemma2"), framework="unsloth", loss_path="fused")
    assert 2 * 8192 * 8 * 4 == gemma.other  # tables of 8,192 rows in fp32


def test_compiled_blocks_of_unsloth_may_hold_a_twentieth_more_at_the_high_end():
    unsloth, trl = (MemoryTerms(TOY, shape_of(TOY), stack(name), None) for name in ("unsloth", "trl"))
    memory = unsloth.at(2, 100)
    assert 0.05 == unsloth.width_compiled
    unsloth.width_compiled = 0.0

    assert pytest.approx(memory.allocated / 20) == memory.allocated_band.high - unsloth.at(2, 100).allocated_band.high
    never = MemoryTerms(replace(TOY, model_type="gpt_oss"), shape_of(TOY), stack("unsloth"), None)
    assert 0 == trl.width_compiled == never.width_compiled


def test_eager_attention_has_its_fullest_moment_in_its_own_backward_pass():
    asks = {"loss_path": "fused", "max_length": 1000}
    flash, eager = estimate(**asks), estimate(attn_implementation="eager", **asks)

    matrix, mask = 2 * 1000 * 1000, 2 * 1000 * 1000  # heads × length², and two bytes of length²
    copies = 1000 * 2 * 2 * (16 - 8)  # keys and values for both query heads
    freed = 1000 * (2 * 96 + 4 * 16)  # the MLP and the norm before it
    gradients = 1000 * (2 * 32 + 11 * 16)
    assert 16 * matrix + mask + copies - freed - gradients == eager.activations - flash.activations


def test_a_kernel_keeps_the_copies_it_makes_beside_queries_keys_values_and_output():
    tokens, queries, keys, squares = 2 * 10, 16, 8, 2 * 10**2  # batch 2; two heads of 8, and one of keys

    def kept(kernel, **changes):
        one = block(per_device_train_batch_size=2)
        one.attention = BlockAttention(kernel, **changes)
        return one.kept()[0] - flash

    flash = 0
    flash = kept("flash")
    # In fp32, as many key heads as query heads: queries, keys and values in place of those in 16 bit, and the softmax.
    assert 4 * 2 * squares + tokens * (12 * queries - 2 * (queries + 2 * keys)) == kept("math")
    assert tokens * 2 * 2 * (queries - keys) == kept("efficient", expanded=True)
    assert 2 * squares == kept("efficient", masked=True)


def test_in_the_only_micro_step_gradients_come_as_checkpoints_go():
    asks = {"framework": "trl", "loss_path": "fused", "max_length": 1000, "optim": "sgd"}

    def at(steps, parameters):
        return estimate(gradient_accumulation_steps=steps, parameters=parameters, **asks)

    few, many = 1_000, 100_000  # 4,000 and 400,000 bytes of gradients
    assert [4_000, 2_000] == [at(steps, few).gradients for steps in (2, 1)]  # one of two blocks
    assert [400_000, 400_000] == [at(steps, many).gradients for steps in (2, 1)]
    assert 1000 * 16 * 2 == at(2, many).activations - at(1, many).activations  # the first block's alone is left


def test_torchs_adamw_can_be_the_peak_where_nearly_everything_trains():
    memory = estimate(parameters=100_000)

    assert (0, 0, 400_000) == (memory.activations, memory.logits, memory.other)


SETTINGS = [
    {
        "framework": framework,
        "precision": precision,
        "gradient_checkpointing": checkpointing,
        "loss_path": loss,
        "optim": o,
    }
    for framework, precision, checkpointing, loss, o in itertools.product(
        ("unsloth", "trl", "peft"),
        ("bf16", "fp32", "nf4-dq", "int8"),
        ("unsloth", "hf", "none"),
        ("fused", "fused-func", "triton", "full"),
        ("adamw_torch", "adamw_8bit", "sgd"),
    )
]


@pytest.mark.parametrize("spec", [TOY, TOY_MOE], ids=["dense", "experts"])
def test_memory_grows_with_rank_batch_and_length_and_twice_the_rank_is_twice_the_adapter(spec):
    for setup in SETTINGS:

        def at(r=8, setup=setup, **more):
            return estimate(spec, r=r, parameters=1000 * r, usable=2**29, **{**setup, **more})

        small, large = at(r=8), at(r=16)
        assert 2 * small.adapter == large.adapter and 2 * small.gradients == large.gradients
        assert abs(2 * small.optimizer - large.optimizer) <= 1
        pairs = ({"per_device_train_batch_size": 2}, {}), ({"max_length": 5000}, {"max_length": 100})
        for smaller, larger in ((small, large), *((at(**less), at(**more)) for more, less in pairs)):
            assert smaller.allocated <= larger.allocated
            assert smaller.low <= larger.low and smaller.high <= larger.high
        assert small.allocated <= small.reserved <= small.device
        assert small.low <= small.device <= small.high
        assert small.allocated_band.low <= small.allocated <= small.allocated_band.high


def test_the_band_is_narrow_around_what_is_counted_and_wide_around_what_is_modelled():
    memory = estimate(framework="trl")

    static, working = 12_576 + 400 + 400 + 800, 640 + 960 + 12_000
    off = ASSUMPTIONS.value("width-static") + ASSUMPTIONS.value("width-hf") * working
    off += ASSUMPTIONS.value("width-trained-blocks") * (400 + 400 + 800)
    assert 10 * 2**20 < ASSUMPTIONS.value("width-static") < 100 * 2**20  # more than the toy's whole base
    assert pytest.approx(400 + (1 - ASSUMPTIONS.value("width-hf")) * working) == memory.allocated_band.low
    assert pytest.approx(static + working + off) == memory.allocated_band.high
    dora = estimate(use_dora=True)
    assert (memory.high - memory.low) / memory.device < (dora.high - dora.low) / dora.device


def test_the_wider_the_mlp_the_later_the_fullest_moment():
    wide = model((*ATTENTION, *(layer(f"mlp.{n}_proj", 16, 64, part="mlp") for n in ("gate", "up")),
                  layer("mlp.down_proj", 64, 16, part="mlp")))  # fmt: skip

    assert [10 * (2 * 32 + 11 * 16), 10 * (6 * 64 + 2 * 16)] == [block(spec).gradients() for spec in (TOY, wide)]


def test_adapters_in_the_activations_own_dtype_keep_an_input_once():
    kept = [
        block(names=names, framework="trl", precision="nf4").kept()[0]
        for names in ((), ("q_proj",), ("q_proj", "v_proj"), ("q_proj", "o_proj"), ("q_proj", "gate_proj", "down_proj"))
    ]

    hidden, mlp_hidden = 2 * 10 * 16, 2 * 10 * 32
    assert [0, hidden, hidden, hidden, 2 * hidden + mlp_hidden] == [each - kept[0] for each in kept]


@pytest.mark.parametrize(
    ("framework", "precision", "gradients"),
    [
        ("trl", "bf16", 6 * 32 + 10 * 16),
        ("trl", "nf4", 4 * 32 + 2 * 16),  # 16-bit adapters
        ("peft", "bf16", 6 * 32 + 10 * 16),
        ("peft", "nf4", 10 * 32 + 2 * 16),  # fp32 hidden states
    ],
)
def test_an_adapter_on_the_projection_down_moves_the_fullest_moment(framework, precision, gradients):
    assert 10 * gradients == block(names=("down_proj",), framework=framework, precision=precision).gradients()


def test_without_a_gate_the_fullest_moment_is_that_of_the_projection_down_as_well():
    mlp = layer("mlp.dense_h_to_4h", 16, 64, part="mlp"), layer("mlp.dense_4h_to_h", 64, 16, part="mlp")

    assert 10 * (6 * 64 + 10 * 16) == block(model((*ATTENTION, *mlp)), ("dense_4h_to_h",), "trl").gradients()


def test_figures_read_off_a_blocks_class_take_the_formulas_place():
    def kept(framework, **setup):
        return block(HELD_TOY, (), framework, **setup).kept()[0]

    in_16_bit = 2 * 48  # queries, keys, values and the output: autocast turns them back
    assert [10 * 700, 10 * 700, 10 * (900 - in_16_bit), 10 * (964 - in_16_bit), 10 * 2 * (4 * 16 + 48 + 96)] == [
        kept("trl"),
        kept("trl", gradient_checkpointing="none"),
        kept("peft", precision="nf4"),
        kept("peft", precision="nf4", gradient_checkpointing="none"),
        kept("unsloth"),
    ]
    adapted = block(HELD_TOY, ("down_proj",), "peft").gradients()
    assert [10 * 350, 10 * (6 * 32 + 10 * 16 + 350 - 240), 10 * 2 * 3 * 32] == [
        block(HELD_TOY, (), "trl").gradients(),
        adapted,
        block(HELD_TOY, (), "unsloth").gradients(),
    ]


def test_families_without_blocks_of_unsloths_own_keep_what_their_class_keeps_and_adapters_what_they_read_once():
    (kind,) = shape_of(HELD_TOY).kinds
    compiled = Block(kind, HELD_TOY, stack("unsloth").with_habits(fast_blocks=False))

    assert (10 * (700 + 2 * 16), 10 * 350) == (compiled.kept()[0], compiled.gradients())


def test_normed_queries_are_kept_twice_and_biased_ones_have_copies_of_their_input():
    def kept(name, names=SEVEN):
        return block(replace(TOY, model_type=name), names, "unsloth").kept()[0]

    assert 10 * 2 * (16 + 8) == kept("qwen3") - kept("llama")  # queries and keys
    assert 10 * 2 * 2 * 16 == kept("qwen2") - kept("llama")  # three copies for one
    assert kept("llama", SEVEN[4:]) == kept("qwen2", SEVEN[4:])


@pytest.mark.parametrize(
    ("names", "kept", "gradients"),
    [
        (SEVEN, 2 * 32, 16 + 32),
        (SEVEN[:4], 3 * 32, 3 * 32),  # the MLP keeps its product and has three gradients
        (("q_proj", "v_proj"), 3 * 32 + 16, 3 * 32),  # two copies of the hidden state for one
        ((*SEVEN[:4], "down_proj"), 3 * 32 + 32, 3 * 32),  # and one of the adapter's input
    ],
)
def test_parts_of_unsloths_blocks_without_all_of_their_adapters_run_as_they_are_written(names, kept, gradients):
    of_toy = block(names=names, framework="unsloth")

    assert (20 * (4 * 16 + 48 + kept), 20 * gradients) == (of_toy.kept()[0], of_toy.gradients())


def test_where_optional_kernels_may_save_most_of_what_linear_attention_keeps_the_band_says_so():
    def width(**changes):
        (kind,) = (replace(kind, **changes) for kind in shape_of(TOY, ()).kinds)
        return MemoryTerms(TOY, shape_of(TOY, ())._replace(kinds=(kind,)), stack("peft"), None).width_working

    plain, linear = width(), {"layer_type": "linear_attention"}
    wide = replace(HELD, autocast=ActivationBytes(kept=4160, gradients=300))
    assert (1 - 416 / 700) ** 2 == pytest.approx(width(activations=HELD, **linear) ** 2 - plain**2)  # more than 0.4
    assert 0.9**2 == pytest.approx(width(activations=wide, **linear) ** 2 - plain**2)  # 1 - 416/4160


LLAMA, QWEN3_4B, GEMMA_3_4B = (4096, 128_256), (2560, 151_936), (2560, 262_208)
CARD_80_GIB, CARD_24_GIB = 79.2 * 2**30, 22.0 * 2**30
LITGPT = Habits(autocast=False, fp32_logits=True)


def moments(spec=TOY, framework="trl", habits=None, previous=0.0, **setup):
    return loss_moments(spec, stack(framework, habits=habits, **{"max_length": 512, **setup}), None, previous)


@pytest.mark.parametrize(
    ("setup", "logits"),
    [
        ({}, 12 * 512 * 100),  # three fp32 copies
        ({"habits": Habits(holds_logits=True)}, 14 * 512 * 100),  # and what the caller keeps
        ({"habits": Habits(holds_logits=True, rebinds_logits=True)}, 12 * 512 * 100),
        ({"spec": replace(TOY, model_type="gemma2")}, 14 * 512 * 100),  # a soft cap keeps its tanh
        ({"loss_path": "fused"}, 2 * 512 * 100 + 4 * 512 * 16),  # TRL's: logits, the gradient of hidden states
        # a tile of it has 4,096 tokens and 32,768 entries at most (trl/kernels/chunked_logprob.py: mm_buf)
        ({"spec": replace(TOY, vocab_size=100_000), "loss_path": "fused"}, 2 * 512 * 32_768 + 4 * 512 * 16),
        (
            {"spec": replace(TOY, vocab_size=100_000), "loss_path": "fused", "max_length": 8192},
            2 * 4096 * 32_768 + 4 * 8192 * 16,
        ),
        ({"loss_path": "triton", "habits": Habits(triton_kernels=True)}, 10 * 512 * 100),
        ({"loss_path": "triton", "habits": Habits(triton_kernels=True, rebinds_logits=True)}, 8 * 512 * 100),
        ({"loss_path": "chunked", "habits": LITGPT}, (4 + 4 + 8 / 4) * 512 * 100),  # softmax, gradients of one chunk
    ],
)
def test_what_each_loss_holds(setup, logits):
    assert logits == moments(**setup)[0].logits


def test_the_last_norm_keeps_6h_and_unsloths_loss_a_chunk_of_logits_and_its_part_of_a_gradient_in_fp32():
    (plain,), (unsloth,) = moments(), moments(framework="unsloth", loss_path="fused")

    assert 6 * 512 * 16 == plain.activations
    rows = 512 - 1  # the last token of a row has no label
    assert 4 * rows * 100 + 2 * 512 * 16 == unsloth.logits
    assert 4 * 512 * 16 + 4 * rows * 16 == unsloth.activations  # what the last norm keeps, and the product of the chunk


def test_two_rows_of_2_048_tokens_have_too_few_labels_for_unsloths_tiles_on_a_large_card():
    llama = replace(TOY, hidden_size=2048, vocab_size=128_256)
    asks = {"framework": "unsloth", "loss_path": "fused"}
    two = moments(llama, per_device_train_batch_size=2, max_length=2048, **asks)[0]
    one = moments(llama, max_length=4097, **asks)[0]

    assert [4 * 512 * 128_256 + 2 * 4096 * 2048, 4 * 4096 * 16_384 + 2 * 4097 * 2048] == [two.logits, one.logits]


@pytest.mark.parametrize(
    ("tokens", "shape", "usable", "ampere", "expected"),
    [
        (4096, LLAMA, CARD_80_GIB, False, (512, 128_256)),
        (4096, QWEN3_4B, CARD_80_GIB, False, (512, 151_936)),
        (4096, GEMMA_3_4B, CARD_80_GIB, False, (512, 262_208)),
        (100_000, (4096, 32_000), None, True, (4096, 32_000)),  # a small vocabulary
        (100, (4096, 32_000), None, True, (100, 32_000)),
        (8192, LLAMA, CARD_80_GIB, True, (4096, 16_384)),  # tiles of at most 256 MiB since Ampere
        (2048, LLAMA, CARD_80_GIB, True, (512, 128_256)),  # too few tokens for a large card
        (2048, LLAMA, CARD_24_GIB, True, (2048, 16_384)),
    ],
)
def test_unsloths_chunks_and_tiles(tokens, shape, usable, ampere, expected):
    assert expected == unsloth_chunk(tokens, *shape, usable, ampere=ampere)


def test_unsloths_former_losses_are_capped_by_the_card_and_cut_cross_entropy_holds_no_logits():
    held = {
        kind: moments(framework="unsloth", loss_path="fused", habits=Habits(unsloth_kernels=True, unsloth_loss=kind))[0]
        for kind in ("func", "func-2025", "cut")
    }

    assert [16 * 512 * 100, 16 * 512 * 100, 2 * 512 * 16] == [each.logits for each in held.values()]
    assert [4 * 2**30, 16 * 2**30, None] == [each.cap for each in held.values()]
    assert [0.5, 2.0] == [held[kind].share_of_free for kind in ("func", "func-2025")]
    fixed = 12_576 + 400 + ASSUMPTIONS.value("context-bytes")  # base, adapter, context
    asks = {"framework": "unsloth", "gradient_checkpointing": "unsloth", "loss_path": "fused-func"}
    free = {10**9: 1000, 16_000_000: 10_000, 10**12: 4_000_000}
    logits = [estimate(usable=fixed + room, max_length=tokens, **asks).logits for room, tokens in free.items()]
    assert [16 * 100 * 1000, 8_000_000, 4 * 2**30] == logits  # all at once, half of what is free, the cap


def test_litgpts_quantized_head_is_unpacked_twice_and_the_last_graph_stays():
    head = replace(LITGPT, quantizes_every_linear=True, dequantizes_twice=True)
    _, backward = moments(loss_path="chunked", habits=head, precision="nf4")
    old = replace(LITGPT, keeps_previous_graph=True)
    _, last_chunk, handed_over = moments(loss_path="chunked", habits=old, previous=5000.0)

    assert ((8 + 2 / 4) * 512 * 100, 2 * 2 * 100 * 16) == (backward.logits, backward.scratch)
    assert ((4 + 2) * 512 * 100, (4 + 2 + 4) * 512 * 100) == (last_chunk.logits, handed_over.logits)
    assert 5000 + 4 * 512 * 16 == handed_over.activations


@pytest.mark.parametrize(
    ("framework", "precision", "expected"),
    [
        ("trl", "fp32", 6288 * 4),
        ("trl", "nf4", 2592 + 1680 * 2),
        ("trl", "nf4-dq", 2377 + 1680 * 2),
        ("peft", "nf4", 2592 + 1680 * 4),  # prepare_model_for_kbit_training raises the rest to fp32
        ("trl", "int8", 4608 + 4 * 256 + 1680 * 2),  # a scale for each of the 256 output rows
    ],
)
def test_base_weights_by_precision(framework, precision, expected):
    assert expected == weights.base_bytes(TOY, shape_of(TOY), stack(framework, precision=precision))


@pytest.mark.parametrize(
    ("framework", "precision", "optim", "expected"),
    [
        ("peft", "bf16", "adamw_torch", 16),
        ("peft", "bf16", "adamw_8bit", 10.03125),
        ("unsloth", "nf4-dq", "paged_adamw_8bit", 10.03125),
        ("trl", "nf4-dq", "adamw_torch", 8),
        ("trl", "nf4-dq", "adamw_8bit", 6.03125),
        ("peft", "bf16", "sgd", 8),
    ],
)
def test_bytes_of_a_trainable_parameter_by_stack(framework, precision, optim, expected):
    chosen = stack(framework, precision=precision, optim=optim)
    each = trained_bytes(chosen, chosen.habits.adapter_bytes)

    assert expected == each.weight + each.gradient + each.optimizer


def test_modules_to_save_train_as_full_copies_in_the_bases_dtype():
    memory = estimate(parameters=1700, saved=1600)

    assert (100 * 4 + 1600 * 2, 100 * 8 + 1600 * 4) == (memory.adapter, memory.optimizer)


def test_a_quantized_base_needs_one_weight_dequantized_where_that_is_more_than_gradients():
    at = {n: estimate(framework="trl", precision="nf4", max_length=n, loss_path="fused").other for n in (1, 100)}

    assert {1: 2 * 16 * 32, 100: 0} == at


def test_peft_merges_targeted_experts_with_one_gradient_at_a_time_and_unsloth_does_not():
    up, down, both = 4 * 16 * 16, 4 * 8 * 16, ("gate_up_proj", "down_proj")
    merged = [estimate(TOY_MOE, names=n, loss_path="fused").other for n in (both, both[:1], both[1:])]

    assert [2 * (up + down + down), 2 * (up + up), 2 * (down + down)] == merged
    unsloth = estimate(TOY_MOE, names=both, framework="unsloth", loss_path="fused")
    assert 2 * 32_768 * 8 * 2 == unsloth.other  # its tables alone


UNSLOTH_4_BIT = {"framework": "unsloth", "precision": "nf4-dq"}


def checkpoint(name, **more):
    return replace(TOY, unsloth_checkpoint=UnslothCheckpoint(repository=f"unsloth/toy-{name}bnb-4bit", **more))


def test_a_dynamic_checkpoint_weighs_what_is_known_of_it_or_what_others_weigh_more():
    linear = 2432  # 4,608 weights, half a byte each, and maxima of 64 in whole blocks for each of 14 tensors
    plain = linear + 1680 * 2
    known, unknown, plainly, on_the_fly, seen = (
        estimate(spec, **UNSLOTH_4_BIT)
        for spec in (
            checkpoint("unsloth-", file_bytes=6000),
            checkpoint("unsloth-"),
            checkpoint(""),
            TOY,
            checkpoint("unsloth-", at_most_bytes=6000),  # an eighth of 2,432 more would be 6,096
        )
    )

    bases = [each.base_weights for each in (known, unknown, plainly, on_the_fly, seen)]
    assert [6000, plain + linear // 8, plain, plain, 6000] == bases
    above = [each.allocated_band.high - each.allocated for each in (unknown, on_the_fly, seen)]
    compiled = 0.05 * 0.125 * linear
    assert pytest.approx((0.175 - 0.125) * linear + compiled, abs=1) == above[0] - above[1]
    assert above[1] == pytest.approx(above[2])
    by_trl = estimate(checkpoint("unsloth-", file_bytes=6000), framework="trl", precision="nf4-dq")
    assert 2377 + 1680 * 2 == by_trl.base_weights


def test_a_dynamic_checkpoint_adds_to_what_it_holds_and_not_to_an_embedding_raised_after_loading():
    gemma, chosen = replace(checkpoint("unsloth-"), model_type="gemma3_text"), stack("unsloth", precision="nf4-dq")
    here, on_t4 = (
        MemoryTerms(gemma, shape_of(gemma), settled(chosen, gemma, card(gpu(supports_bf16=bf16))), None).base_weights
        for bf16 in (True, False)
    )

    held = 2432 + 2432 // 8 + 1680 * 2
    assert [held, held + 2 * 100 * 16] == [here, on_t4]


def test_unsloth_moves_an_untied_embedding_to_the_host_where_the_card_is_short_of_room():
    untied = replace(TOY, tie_word_embeddings=False)
    asks = {"framework": "unsloth", "precision": "bf16", "loss_path": "fused", "max_length": 10}
    reserve = 17 / 16 * (48 * 10 * 16 + 4 * 10 * 100 + 16 * 100) + 2**28  # tokens, logits, what trains
    left = 12_576 + 400 + ASSUMPTIONS.value("context-bytes")
    roomy, tight = (estimate(untied, usable=left + reserve + more, **asks) for more in (1, -1))

    assert [12_576, 12_576 - 2 * 100 * 16] == [roomy.base_weights, tight.base_weights]
    assert 12_576 == estimate(usable=0, **asks).base_weights  # a tied one is the head's too


def test_an_embedding_that_is_trained_in_full_stays_on_the_card():
    norm = PlainModule(path="model.norm", tensors=(OwnTensor(name="weight", shape=(16,)),), is_norm=True)
    untied = replace(TOY, tie_word_embeddings=False, config_ties=False, plain_modules=(norm,))

    def base_weights(*saves: str) -> int:
        lora = LoraConfig(target_modules=("q_proj",), modules_to_save=saves)
        chosen = stack("unsloth", loss_path="fused")
        return predict(untied, lora, chosen, card(gpu()), usable_bytes=1.0).memory_at(2).base_weights

    assert base_weights() == base_weights("norm") == base_weights("embed_tokens") - 2 * 100 * 16


def test_forced_fp32_doubles_the_residual_stream_and_gemmas_embedding():
    forced = stack("unsloth", precision="fp16").with_habits(fp32_residual=True, fp32_embedding=True)
    terms = MemoryTerms(TOY, shape_of(TOY), forced, None)

    assert (2 * 10 * 16 * 4, 6288 * 2 + 2 * 1600) == (terms.checkpoints, terms.base_weights)
    assert 6288 * 2 == terms.checkpoint_bytes


def test_the_habits_follow_the_setup_and_those_of_a_measured_row():
    trl = stack("trl")

    assert stack("unsloth").habits.unsloth_kernels and not trl.habits.unsloth_kernels
    assert (2, 4) == (trl.residual_bytes, trl.with_habits(fp32_residual=True).residual_bytes)
