"""Memory of the toy, worked out by hand, and the laws that any model must keep."""

import itertools
from dataclasses import replace

import pytest

from rankviz.core.cost.device import card
from rankviz.core.cost.memory import parts
from rankviz.core.cost.memory.peak import memory_at, memory_terms
from rankviz.core.cost.predict import predict
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.cost.shapes import model_shape
from rankviz.core.cost.stack import Stack
from rankviz.core.cost.unsloth import settled
from rankviz.core.lora.config import LoraConfig
from rankviz.core.model.activations import ActivationBytes, BlockActivations
from rankviz.core.model.spec import OwnTensor, PlainModule, UnslothCheckpoint
from tests.support.toy import ASSUMPTIONS, ATTENTION, TOY, TOY_MOE, adapted, gpu, layer, model

WIDE_MLP = (
    layer("mlp.gate_proj", 16, 64, part="mlp"),
    layer("mlp.up_proj", 16, 64, part="mlp"),
    layer("mlp.down_proj", 64, 16, part="mlp"),
)


def stack(framework="peft", use_dora=False, **setup):
    fields = {
        "precision": "bf16",
        "optim": "adamw_torch",
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 1,
        "max_length": 10,
        "gradient_checkpointing": "hf",
        "loss_path": "full",
    }
    setup = TrainingSetup(**{"framework": framework, **fields, **setup})
    return Stack(setup=setup, use_dora=use_dora, assume=ASSUMPTIONS)


def shape_of(model, names=("q_proj", "v_proj")):
    return model_shape(model, adapted(model, *names))


def estimate(model=TOY, r=2, parameters=100, saved=0, usable=None, names=("q_proj", "v_proj"), **more):
    terms = memory_terms(model, shape_of(model, names), stack(**more), usable)
    return memory_at(terms, r, parameters, saved)


def test_plain_peft_in_16_bit_peaks_at_the_loss():
    memory = estimate()

    assert 6288 * 2 == memory.base_weights
    assert (400, 400, 800) == (memory.adapter, memory.gradients, memory.optimizer)
    assert 2 * 10 * 16 * 2 + 10 * 16 * 6 == memory.activations  # blocks × tokens × hidden × 2 bytes, the last norm's 6H
    assert 14 * 10 * 100 == memory.logits
    assert 12_576 + 400 + 400 + 800 + 640 + 960 + 14_000 == memory.allocated


def test_with_a_fused_loss_the_peak_is_one_blocks_backward_pass():
    memory = estimate(loss_path="fused")

    kept = 10 * (8 * 16 + 2 * (48 + 96))  # tokens × (8H + 2(2Q + 2K + 3M))
    copies = 4 * 10 * 32  # fp32 copies of the inputs of q and v
    intermediates = 2 * 10 * 2 * 2  # x·A of two modules at r = 2
    gradients = 10 * (2 * 32 + 11 * 16)  # tokens × (2M + 11H): this MLP is narrow
    assert 640 + kept + copies + intermediates + gradients == memory.activations
    assert 0 == memory.logits


def test_the_wider_the_mlp_the_later_the_fullest_moment():
    wide = model((*ATTENTION, *WIDE_MLP))
    held = [parts.backward_bytes(shape_of(spec).kinds[0], spec, stack()) for spec in (TOY, wide)]

    assert [10 * (2 * 32 + 11 * 16), 10 * (6 * 64 + 2 * 16)] == held


def test_under_autocast_the_copies_of_inputs_are_kept_in_16_bit():
    plain, autocast = estimate(loss_path="full").activations, estimate(framework="trl", loss_path="full").activations
    fused = [estimate(framework=name, loss_path="fused") for name in ("peft", "trl")]

    assert plain == autocast  # at the loss no block is held
    assert 2 * 10 * 32 == fused[0].activations - (fused[1].activations)


def test_adapters_in_the_activations_own_dtype_keep_an_input_once():
    kept = [
        parts.kept_bytes(shape_of(TOY, names).kinds[0], TOY, stack("trl", precision="nf4"))[0]
        for names in ((), ("q_proj",), ("q_proj", "v_proj"), ("q_proj", "o_proj"), ("q_proj", "gate_proj", "down_proj"))
    ]

    hidden, mlp_hidden = 2 * 10 * 16, 2 * 10 * 32
    assert [0, hidden, hidden, hidden, 2 * hidden + mlp_hidden] == [each - kept[0] for each in kept]


def test_where_the_projection_down_keeps_its_input_the_fullest_moment_is_another():
    shape = shape_of(TOY, ("down_proj",))
    held = {
        (framework, precision): parts.backward_bytes(shape.kinds[0], TOY, stack(framework, precision=precision))
        for framework, precision in (("trl", "bf16"), ("trl", "nf4"), ("peft", "bf16"), ("peft", "nf4"))
    }

    assert {
        ("trl", "bf16"): 10 * (6 * 32 + 10 * 16),
        ("trl", "nf4"): 10 * (4 * 32 + 2 * 16),  # 16-bit adapters
        ("peft", "bf16"): 10 * (4 * 32 + 12 * 16),  # fp32 copies
        ("peft", "nf4"): 10 * (8 * 32 + 4 * 16),  # fp32 hidden states
    } == held


HELD = BlockActivations(
    blocks=(0, 1),
    bf16=ActivationBytes(kept=500, gradients=300, own_input=32),
    autocast=ActivationBytes(kept=700, gradients=350),
    fp32=ActivationBytes(kept=900, gradients=600, own_input=64),
)
"""A Llama block of the toy's widths keeps 416 in 16 bit, 64 + 576 in fp32, and comes to 240 gradients."""


def test_figures_read_off_a_blocks_class_take_the_formulas_place():
    own = replace(TOY, activation_bytes_per_token=(HELD,))

    def kept(framework, **setup):
        return parts.kept_bytes(shape_of(own, ()).kinds[0], own, stack(framework, **setup))[0]

    assert (10 * 500, 10 * 532) == (kept("peft"), kept("peft", gradient_checkpointing="none"))
    assert (10 * 700, 10 * 700) == (kept("trl"), kept("trl", gradient_checkpointing="none"))
    assert (10 * 900, 10 * 964) == (
        kept("peft", precision="nf4"),
        kept("peft", precision="nf4", gradient_checkpointing="none"),
    )
    assert 10 * 2 * (4 * 16 + 48 + 96 - 32) == kept("unsloth")


def test_the_gradients_of_a_blocks_class_move_with_adapters_as_a_llamas_do():
    own = replace(TOY, activation_bytes_per_token=(HELD,))
    held = [
        parts.backward_bytes(shape_of(own, names).kinds[0], own, stack(framework))
        for framework, names in (("peft", ()), ("peft", ("down_proj",)), ("trl", ()), ("unsloth", ()))
    ]

    with_adapter = 4 * 32 + 12 * 16
    assert [10 * 300, 10 * (with_adapter + 300 - 240), 10 * 350, 10 * 2 * (4 * 16 + 32)] == held


def test_families_without_blocks_of_unsloths_own_keep_what_their_class_keeps_and_adapters_what_they_read_once():
    own = replace(TOY, activation_bytes_per_token=(HELD,))
    compiled = stack("unsloth")
    compiled = replace(compiled, measured_habits=replace(compiled.habits, fast_blocks=False))
    (kind,) = shape_of(own, ("q_proj", "v_proj")).kinds

    assert 10 * (700 + 2 * 16) == parts.kept_bytes(kind, own, compiled)[0]
    assert 10 * 350 == parts.backward_bytes(kind, own, compiled)


def test_without_checkpointing_every_block_keeps_its_own():
    memory = estimate(gradient_checkpointing="none")

    kept = 2 * (10 * (8 * 16 + 2 * (48 + 96)) + 4 * 10 * 32 + 2 * 10 * 2 * 2)
    assert kept + 10 * 16 * 6 == memory.activations
    assert 14_000 == memory.logits


def test_unsloth_moves_checkpoints_to_the_host_and_copies_no_inputs():
    asks = {"framework": "unsloth", "optim": "adamw_8bit", "gradient_checkpointing": "unsloth", "loss_path": "fused"}

    few_words = replace(TOY, vocab_size=10)  # so that a block is the peak
    memory, short = (estimate(few_words, max_length=length, **asks) for length in (512, 511))

    block, checkpoints = 2 * (8 * 16 + 48 + 96), 2 * 2 * 16  # 2 × (8H + 2Q + 2K + 3M), and the inputs of two blocks
    assert [512 * (block + checkpoints), 511 * (block + checkpoints)] == [memory.activations, short.activations]
    assert 203 == memory.optimizer


def test_of_many_blocks_unsloth_leaves_three_inputs_on_the_card_and_none_moves_below_512_tokens():
    shape = shape_of(TOY)._replace(blocks=30)
    held = [
        parts.checkpoint_bytes(TOY, shape, stack("unsloth", gradient_checkpointing="unsloth", max_length=length))
        for length in (512, 511)
    ]

    assert [3 * 512 * 16 * 2, 30 * 511 * 16 * 2] == held


def test_without_checkpointing_unsloth_keeps_less_of_each_block():
    memory = estimate(framework="unsloth", gradient_checkpointing="none", loss_path="triton")

    kept = 2 * 2 * 10 * (4 * 16 + 48 + 96 - 32)  # blocks × 2 × tokens × (4H + 2Q + 2K + 2M)
    assert kept + 4 * 10 * 16 == memory.activations


def test_pefts_k_bit_preparation_makes_checkpoints_fp32():
    held = {
        framework: parts.checkpoint_bytes(TOY, shape_of(TOY), stack(framework, precision="nf4"))
        for framework in ("trl", "peft")
    }

    assert {"trl": 2 * 10 * 16 * 2, "peft": 2 * 10 * 16 * 4} == held


def test_unsloths_former_fused_loss_takes_half_of_what_is_free_up_to_its_cap():
    fixed = 12_576 + 400 + ASSUMPTIONS.value("context-bytes")  # base, adapter, context

    def logits(free, tokens):
        asks = {"gradient_checkpointing": "unsloth", "loss_path": "fused-func", "max_length": tokens}
        return estimate(usable=fixed + free, framework="unsloth", **asks).logits

    assert 16 * 100 * 1000 == logits(10**9, 1000)  # all at once where there is room
    assert 8_000_000 == logits(16_000_000, 10_000)
    assert 4 * 2**30 == logits(10**12, 4_000_000)


def test_unsloth_unpacks_weights_into_a_buffer_that_stays_and_one_more_beside_its_gradients():
    asks = {"framework": "unsloth", "precision": "nf4-dq", "gradient_checkpointing": "unsloth"}

    assert 2 * 2 * 16 * 32 == estimate(loss_path="fused", **asks).other  # the peak is a block's backward pass
    assert 2 * 16 * 32 == estimate(loss_path="full", **asks).other  # the peak is the loss


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
    assert expected == parts.base_bytes(TOY, shape_of(TOY), stack(framework, precision=precision))


@pytest.mark.parametrize(
    ("framework", "precision", "optim", "expected"),
    [
        ("peft", "bf16", "adamw_torch", 16),
        ("peft", "bf16", "adamw_8bit", 10.03125),
        ("unsloth", "nf4-dq", "adamw_8bit", 10.03125),
        ("unsloth", "nf4-dq", "paged_adamw_8bit", 10.03125),
        ("trl", "nf4-dq", "adamw_torch", 8),
        ("trl", "nf4-dq", "adamw_8bit", 6.03125),
        ("peft", "bf16", "sgd", 8),
    ],
)
def test_bytes_of_a_trainable_parameter_by_stack(framework, precision, optim, expected):
    chosen = stack(framework, precision=precision, optim=optim)
    each = parts.trained_bytes(chosen, chosen.habits.adapter_bytes)

    assert expected == each.weight + each.gradient + each.optimizer


def test_modules_to_save_train_as_full_copies_in_the_bases_dtype():
    memory = estimate(parameters=1700, saved=1600)

    assert 100 * 4 + 1600 * 2 == memory.adapter
    assert 100 * 8 + 1600 * 4 == memory.optimizer


def test_a_quantized_base_needs_one_weight_dequantized_where_that_is_more_than_gradients():
    short = estimate(framework="trl", precision="nf4", max_length=1, loss_path="fused")
    long = estimate(framework="trl", precision="nf4", max_length=100, loss_path="fused")

    assert 2 * 16 * 32 == short.other
    assert 0 == long.other


def test_peft_merges_targeted_experts_and_unsloth_does_not():
    experts = ("gate_up_proj", "down_proj")

    assert 2 * 2 * 4 * (16 * 16 + 8 * 16) == estimate(TOY_MOE, names=experts, loss_path="fused").other
    assert 0 == estimate(TOY_MOE, names=experts, framework="unsloth", loss_path="fused").other


def test_eager_attention_has_its_fullest_moment_in_its_own_backward_pass():
    asks = {"loss_path": "fused", "max_length": 1000}
    flash, eager = estimate(**asks), estimate(attn_implementation="eager", **asks)

    matrix = 2 * 1000 * 1000  # heads × length²
    kept, mlp = 1000 * 2 * 96, 1000 * (2 * 32 + 11 * 16)
    assert 14 * matrix - kept - mlp == eager.activations - flash.activations


def test_but_for_unsloth_the_caller_still_holds_the_logits_in_the_blocks_backward_pass():
    asks = {"attn_implementation": "eager", "max_length": 1000}
    held = {name: estimate(framework=name, **asks).logits for name in ("trl", "peft", "unsloth")}

    assert {"trl": 2 * 1000 * 100, "peft": 2 * 1000 * 100, "unsloth": 0} == held


def test_torchs_adamw_can_be_the_peak_where_nearly_everything_trains():
    memory = estimate(parameters=100_000)

    assert (0, 0, 400_000) == (memory.activations, memory.logits, memory.other)


SETTINGS = list(
    itertools.product(
        ("unsloth", "trl", "peft"),
        ("bf16", "fp32", "nf4-dq", "int8"),
        ("unsloth", "hf", "none"),
        ("fused", "fused-func", "triton", "full"),
        ("adamw_torch", "adamw_8bit", "paged_adamw_8bit", "sgd"),
    )
)


def every_setting(model, **more):
    for framework, precision, checkpointing, loss_path, optim in SETTINGS:
        setup = {
            "precision": precision,
            "gradient_checkpointing": checkpointing,
            "loss_path": loss_path,
            "optim": optim,
        }
        yield lambda r=8, fw=framework, setup=setup, **other: estimate(
            model, r=r, parameters=1000 * r, usable=2**29, framework=fw, **{**setup, **more, **other}
        )


@pytest.mark.parametrize("model", [TOY, TOY_MOE], ids=["dense", "experts"])
def test_memory_never_falls_as_rank_batch_or_length_grow(model):
    for at in every_setting(model):
        for smaller, larger in (
            (at(r=8), at(r=16)),
            (at(per_device_train_batch_size=1), at(per_device_train_batch_size=2)),
            (at(max_length=100), at(max_length=5000)),
        ):
            assert smaller.allocated <= larger.allocated
            assert smaller.low <= larger.low and smaller.high <= larger.high


def test_the_totals_and_their_bands_rise():
    for at in every_setting(TOY):
        memory = at()

        assert memory.allocated <= memory.reserved <= memory.device
        assert memory.low <= memory.device <= memory.high
        assert memory.allocated_band.low <= memory.allocated <= memory.allocated_band.high


def test_twice_the_rank_is_twice_the_adapter_with_its_gradients_and_states():
    for at in every_setting(TOY):
        small, large = at(r=8), at(r=16)

        assert 2 * small.adapter == large.adapter
        assert 2 * small.gradients == large.gradients
        assert abs(2 * small.optimizer - large.optimizer) <= 1


def test_the_band_is_narrow_around_what_is_counted_and_wide_around_what_is_modelled():
    memory = estimate(framework="trl")

    static, working = 12_576 + 400 + 400 + 800, 640 + 960 + 14_000
    off = ASSUMPTIONS.value("width-static") + ASSUMPTIONS.value("width-hf") * working
    assert 10 * 2**20 < ASSUMPTIONS.value("width-static") < 100 * 2**20  # more than the toy's whole base
    assert pytest.approx((1 - ASSUMPTIONS.value("width-hf")) * working) == memory.allocated_band.low
    assert pytest.approx(static + working + off) == memory.allocated_band.high


def checkpoint(repository, file_bytes=None):
    return replace(TOY, unsloth_checkpoint=UnslothCheckpoint(repository=repository, file_bytes=file_bytes))


def test_a_dynamic_checkpoint_weighs_what_is_known_of_it_or_what_others_weigh_more():
    plain = 2377 + 1680 * 2
    asks = {"framework": "unsloth", "precision": "nf4-dq"}
    known, unknown, plainly, on_the_fly = (
        estimate(spec, **asks)
        for spec in (
            checkpoint("unsloth/toy-unsloth-bnb-4bit", 6000),
            checkpoint("unsloth/toy-unsloth-bnb-4bit"),
            checkpoint("unsloth/toy-bnb-4bit"),
            TOY,
        )
    )

    assert (6000, round(1.08 * plain), plain, plain) == tuple(
        each.base_weights for each in (known, unknown, plainly, on_the_fly)
    )
    around = [each.allocated_band for each in (unknown, on_the_fly)]
    assert pytest.approx((0.12 - 0.08) * plain, abs=1) == (
        around[0].high - around[0].expected - (around[1].high - around[1].expected)
    )
    assert (
        plain
        == estimate(checkpoint("unsloth/toy-unsloth-bnb-4bit", 6000), framework="trl", precision="nf4-dq").base_weights
    )


def test_a_checkpoint_weighs_no_more_than_a_load_of_it_was_seen_to_take():
    seen = UnslothCheckpoint(repository="unsloth/toy-unsloth-bnb-4bit", at_most_bytes=6000)
    asks = {"framework": "unsloth", "precision": "nf4-dq"}
    known, plain = estimate(replace(TOY, unsloth_checkpoint=seen), **asks), estimate(**asks)

    assert 6000 == known.base_weights  # 8 % more would be 6,196
    above = [each.allocated_band.high - each.allocated for each in (known, plain)]
    assert above[0] == pytest.approx(above[1])


def test_a_dynamic_checkpoint_adds_to_what_it_holds_and_not_to_an_embedding_raised_after_loading():
    gemma = replace(checkpoint("unsloth/toy-unsloth-bnb-4bit"), model_type="gemma3_text")
    chosen = stack("unsloth", precision="nf4-dq")
    here, on_t4 = (
        memory_terms(gemma, shape_of(gemma), settled(chosen, gemma, card(gpu(supports_bf16=bf16))), None).base_weights
        for bf16 in (True, False)
    )

    plain = 2377 + 1680 * 2
    assert [round(1.08 * plain), round(1.08 * plain) + 2 * 100 * 16] == [here, on_t4]


def test_unsloth_moves_an_untied_embedding_to_the_host_where_the_card_is_short_of_room():
    untied = replace(TOY, tie_word_embeddings=False)
    asks = {"framework": "unsloth", "precision": "bf16", "loss_path": "fused", "max_length": 10}
    reserve = 17 / 16 * (48 * 10 * 16 + 4 * 10 * 100 + 16 * 100) + 2**28  # tokens, logits, what trains
    left = 12_576 + 400 + ASSUMPTIONS.value("context-bytes")
    roomy, tight = (
        estimate(untied, usable=left + reserve + 1, **asks),
        estimate(untied, usable=left + reserve - 1, **asks),
    )

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
    chosen = stack("unsloth", precision="fp16", gradient_checkpointing="hf")
    forced = replace(chosen, measured_habits=replace(chosen.habits, fp32_residual=True, fp32_embedding=True))

    assert 2 * 10 * 16 * 4 == parts.checkpoint_bytes(TOY, shape_of(TOY), forced)
    assert 6288 * 2 == parts.base_bytes(TOY, shape_of(TOY), forced)
    assert 2 * 1600 == parts.raised_bytes(TOY, forced)


def test_a_setting_without_data_has_a_wider_band():
    usual, dora = estimate(), estimate(use_dora=True)

    assert (usual.high - usual.low) / usual.device < (dora.high - dora.low) / dora.device


def test_where_optional_kernels_may_save_most_of_what_linear_attention_keeps_the_band_says_so():
    (kind,) = shape_of(TOY, ()).kinds
    linear = kind._replace(attention_width=0, activations=HELD)
    wide = linear._replace(activations=replace(HELD, bf16=ActivationBytes(kept=4160, gradients=300)))

    def width(kind):
        shape = shape_of(TOY, ())._replace(kinds=(kind,))
        return parts.working_width(TOY, shape, stack("peft"))

    plain = width(kind)
    assert 0.4**2 == pytest.approx(width(linear) ** 2 - plain**2)  # 1 - 416/500 is less than 0.4
    assert 0.9**2 == pytest.approx(width(wide) ** 2 - plain**2)  # 1 - 416/4160
