"""Memory of the toy, worked out by hand, and the laws that any model must keep."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import pytest

from rankviz.core.cost import shapes
from rankviz.core.cost.blocks import SMALL_CARD_BYTES, loss_moments, unsloth_chunk
from rankviz.core.cost.memory import MemoryTerms, nf4_bytes, training_reserve_bytes
from rankviz.core.cost.stack import Habits, Litgpt
from tests.core.cost.toy_cost import SEVEN, estimate, shape_of, stack
from tests.support.runs.toy import ASSUMPTIONS, TOY, TOY_MOE


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


def test_unsloth_unpacks_weights_into_a_buffer_that_stays_and_one_more_beside_its_gradients():
    asks = {"framework": "unsloth", "precision": "nf4-dq", "gradient_checkpointing": "unsloth"}

    tables = 2 * 2 * 32_768 * 8  # sines and cosines
    assert 2 * 2 * 16 * 32 + tables == estimate(names=SEVEN, loss_path="fused", **asks).other  # a block is the peak
    assert 2 * 16 * 32 + tables == estimate(names=SEVEN, loss_path="full", **asks).other  # the loss is
    # Without adapters on the MLP the buffer has room for q alone, and nothing is unpacked beside three gradients.
    assert 2 * 16 * 16 + tables == estimate(loss_path="fused", **asks).other
    gemma = estimate(replace(TOY, model_type="gemma2"), framework="unsloth", loss_path="fused")
    assert 2 * 8192 * 8 * 4 == gemma.other  # tables of 8,192 rows in fp32


VALUES = {
    "framework": ("unsloth", "trl", "peft"),
    "precision": ("bf16", "fp32", "nf4-dq"),
    "gradient_checkpointing": ("unsloth", "hf", "none"),
    "loss_path": ("fused", "fused-func", "triton", "full"),
    "optim": ("adamw_torch", "adamw_8bit"),
}
SETTINGS = [dict(zip(VALUES, values, strict=True)) for values in itertools.product(*VALUES.values())]


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


@pytest.mark.parametrize(
    ("setup", "logits"),
    [
        ({}, 12 * 512 * 100),  # three fp32 copies
        ({"habits": Habits(holds_logits=True)}, 14 * 512 * 100),  # and what the caller keeps
        ({"spec": replace(TOY, model_type="gemma2")}, 14 * 512 * 100),  # a soft cap keeps its tanh
        ({"loss_path": "fused"}, 2 * 512 * 100 + 4 * 512 * 16),  # TRL's: logits, the gradient of hidden states
        # a tile of it has 4,096 tokens and 32,768 entries at most (trl/kernels/chunked_logprob.py: mm_buf)
        ({"spec": replace(TOY, vocab_size=100_000), "loss_path": "fused"}, 2 * 512 * 32_768 + 4 * 512 * 16),
        (
            {"spec": replace(TOY, vocab_size=100_000), "loss_path": "fused", "max_length": 8192},
            2 * 4096 * 32_768 + 4 * 8192 * 16,
        ),
        ({"loss_path": "triton", "habits": Habits(triton_kernels=True, rebinds_logits=True)}, 8 * 512 * 100),
        # softmax, gradients of one chunk
        ({"loss_path": "chunked", "habits": Habits(litgpt=Litgpt(logit_bytes=4))}, (4 + 4 + 8 / 4) * 512 * 100),
    ],
)
def test_what_each_loss_holds(setup, logits):
    spec, asks = setup.get("spec", TOY), {name: value for name, value in setup.items() if name != "spec"}

    assert logits == loss_moments(spec, stack("trl", **{"max_length": 512, **asks}), None)[0].logits


def test_peft_merges_targeted_experts_with_one_gradient_at_a_time_and_unsloth_does_not():
    up, down, both = 4 * 16 * 16, 4 * 8 * 16, ("gate_up_proj", "down_proj")
    merged = [estimate(TOY_MOE, names=n, loss_path="fused").other for n in (both, both[:1], both[1:])]

    assert [2 * (up + down + down), 2 * (up + up), 2 * (down + down)] == merged
    unsloth = estimate(TOY_MOE, names=both, framework="unsloth", loss_path="fused")
    assert 2 * 32_768 * 8 * 2 == unsloth.other  # its tables alone


def test_forced_fp32_doubles_the_residual_stream_and_gemmas_embedding():
    forced = Habits(unsloth_kernels=True, fp32_residual=True, fp32_embedding=True)
    terms = MemoryTerms(TOY, shape_of(TOY), stack("unsloth", precision="fp16", habits=forced))

    assert (2 * 10 * 16 * 4, 6288 * 2 + 2 * 1600) == (terms.checkpoints, terms.base_weights)


KERNELS = {
    "efficient": "6.1 60, 7.0 64, 7.5 62 fp32, 8.0 264, 8.0 60 fp32, 8.0 64 masked, 8.0 64 uneven, 8.6 224, 8.9 200, "
    "9.0 64 fp32, 12.0 200",
    "math": "7.0 60, 7.5 64 grouped, 8.0 257, 8.0 62 fp32, 8.6 193",
    "flash": "8.0 200, 8.6 192, 8.6 225, 8.6 256, 8.9 64 grouped, 9.0 136, 9.0 124, 9.0 200, 9.0 129 grouped, "
    "10.0 64 own_blocks, 11.0 64, 12.0 192",
    "cudnn": "9.0 128 masked, 9.0 64 own_blocks, 10.0 64",
}


@pytest.mark.parametrize("kernel", KERNELS)
def test_torchs_kernel_by_card_width_of_heads_and_what_it_is_given(kernel):
    for asked in KERNELS[kernel].split(", "):
        capability, width, *what = asked.split()
        half, own = 4 if "fp32" in what else 2, "own_blocks" in what
        card = SimpleNamespace(compute_capability=float(capability), attention_bytes=half, own_blocks=own)
        given = {name: name in what for name in ("masked", "grouped", "uneven")}
        assert kernel == shapes._sdpa(card, int(width), **given), asked


def test_the_buffer_of_unsloths_loss_at_each_of_its_bounds():
    def rows(vocab, tokens=2046, hidden=4096, usable=None, ampere=False):
        return unsloth_chunk(tokens, hidden, vocab, usable, ampere=ampere)

    # 512 · 151,936 logits are 1,024 rows of 75,968, and a power of two below that of 75,969
    assert [(1024, 75_968), (512, 75_969), (100, 75_969)] == [rows(75_968), rows(75_969), rows(75_969, tokens=100)]
    assert [(2046, 1000), (4096, 1000)] == [rows(1000), rows(1000, tokens=5000)]  # at most 4,096
    assert (2048, 32_000) == rows(32_000, tokens=16_000) == rows(32_000, tokens=31_999)  # 16,000 · 4,096 / 32,000
    assert [(268, 2 * 10**6), (2, 10**9)] == [rows(2 * 10**6), rows(10**9)]  # 2 GiB of 4 bytes, and two rows at least
    small, large = {"ampere": True, "usable": SMALL_CARD_BYTES}, {"ampere": True, "usable": SMALL_CARD_BYTES + 1}
    assert [(5, 16_384), (5, 32_768)] == [rows(32_769, tokens=5, **small), rows(32_768, tokens=5, **small)]
    assert [(4096, 16_384), (4095, 32_769)] == [rows(32_769, tokens=n, hidden=2**16, **large) for n in (4096, 4095)]


def test_bytes_in_nf4_count_each_begun_block_and_room_is_wanted_for_2048_logits():
    # half a byte a weight; 1, 2 and 257 maxima, in 8 bit with an fp32 maximum for each begun 256, or in fp32
    assert [32 + 1 + 4, 33 + 2 + 4, 8193 + 257 + 8] == [nf4_bytes(n, nested=True) for n in (64, 65, 2**14 + 1)]
    assert [32 + 4, 33 + 8] == [nf4_bytes(n, nested=False) for n in (64, 65)]
    assert 17 / 16 * (48 * 4096 * 16 + 4 * 2048 * 100) + 2**28 == training_reserve_bytes(TOY, stack(max_length=4096))
