"""What Unsloth does by itself, beside the files of the installed Unsloth. They are read, not imported: no torch."""

import runpy
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest

from rankviz.api import Api
from rankviz.core.cost.setup import TrainingSetup, card
from rankviz.core.cost.stack import FORCED_FP32, Stack, forces_fp32, quantizes_experts, settled
from rankviz.errors import InvalidSettingError
from tests.support.runs.questions import question
from tests.support.runs.toy import ASSUMPTIONS, TOY, gpu

API = Api()
BF16, T4 = card(gpu()), card(gpu(supports_bf16=False))


def installed(package, file):
    """The names that one file of an installed package defines, without the package itself."""
    spec = find_spec(package)
    if spec is None:
        pytest.skip(f"{package} is not installed")
    return runpy.run_path(str(Path(spec.submodule_search_locations[0]) / file))


def settle(model_id, device=BF16, **setup):
    training = TrainingSetup(**setup)
    return settled(Stack(setup=training, use_dora=False, assume=ASSUMPTIONS), API.models.get(model_id), device)


def test_the_families_that_train_in_fp32_are_those_of_unsloths_list():
    named = {name.strip(",") for name in installed("unsloth_zoo", "model_lists.py")["FORCE_FLOAT32"]}

    assert {name for name in named if not name.replace("text", "_text").startswith(FORCED_FP32)} == set()
    assert set(FORCED_FP32) <= named


@pytest.mark.parametrize(
    ("model_id", "precision", "device", "expected"),
    [
        ("openai/gpt-oss-20b", "nf4-dq", T4, True),
        ("openai/gpt-oss-20b", "nf4-dq", BF16, False),
        ("google/gemma-3-4b-it", "fp16", BF16, True),
        ("google/gemma-3-4b-it", "fp32", T4, False),
        ("meta-llama/Llama-3.1-8B", "fp16", T4, False),
    ],
)
def test_fp32_is_forced_where_fp16_is_asked_for_or_the_card_has_no_bf16(model_id, precision, device, expected):
    assert expected is forces_fp32(API.models.get(model_id), precision, device)


def test_sizes_are_known_of_repositories_that_a_name_stands_for():
    """The names themselves are compared with Unsloth in tests/tools/test_names.py."""
    models = [API.models.get(row.id) for row in API.models.all()]

    assert {
        "unsloth/Qwen3-14B-unsloth-bnb-4bit",
        "unsloth/Llama-3.2-3B-unsloth-bnb-4bit",
        "unsloth/gpt-oss-20b-unsloth-bnb-4bit",
    } == {
        checkpoint.repository
        for model in models
        if (checkpoint := model.unsloth_checkpoint) and (checkpoint.file_bytes or checkpoint.at_most_bytes)
    }


def test_a_repository_named_bf16_stays_in_16_bit():
    nemotron = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16"
    loaded = {
        (precision, device.gpu.supports_bf16): settle(nemotron, device, precision=precision).setup.precision
        for precision in ("nf4-dq", "int8", "fp32")
        for device in (BF16, T4)
    }

    assert ["bf16", "fp16", "bf16", "fp16", "fp32", "fp32"] == list(loaded.values())
    assert "nf4-dq" == settle("Qwen/Qwen3-14B", precision="nf4-dq").setup.precision


def test_of_the_catalogue_only_nemotrons_experts_stay_in_16_bit():
    moe = [model for row in API.models.all() if (model := API.models.get(row.id)).has_experts]

    assert {"nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16"} == {m.id for m in moe if not quantizes_experts(m)}
    assert 21 == len(moe)


def test_experts_are_packed_in_4_bit_only():
    packed = {
        precision: settle("Qwen/Qwen3-30B-A3B", precision=precision).habits.quantizes_experts
        for precision in ("nf4-dq", "int8", "bf16")
    }

    assert {"nf4-dq": True, "int8": False, "bf16": False} == packed


def test_families_that_go_to_fastmodel_run_transformers_blocks_and_int8_always_does():
    fast = {
        (model_id, precision): settle(model_id, precision=precision).habits.fast_blocks
        for model_id in ("meta-llama/Llama-3.1-8B", "google/gemma-3-4b-it")
        for precision in ("nf4-dq", "int8")
    }

    assert [True, False, False, False] == list(fast.values())


def test_llama_4s_whole_model_has_no_fused_loss():
    scout = "meta-llama/Llama-4-Scout-17B-16E-Instruct"

    assert ["fused", "full"] == [settle(name).setup.loss_path for name in (scout, f"{scout}:whole")]


def test_other_programs_are_left_as_they_are():
    plain = Stack(setup=TrainingSetup(framework="trl"), use_dora=False, assume=ASSUMPTIONS)

    assert plain is settled(plain, TOY, T4)


GIB = 2**30


def memory_of(model_id, gpu_name, **training):
    asked = question(model_id, ranks=(8,), gpu=gpu_name, **{"precision": "nf4-dq", "max_steps": 100, **training})
    (rank,) = API.estimates.estimate(asked).estimate.ranks
    return rank


def test_base_weights_of_experts_in_4_bit():
    held = {
        model_id: memory_of(model_id, "A100-80GB (SXM)").memory.base_weights / GIB
        for model_id in (
            "openai/gpt-oss-20b",
            "Qwen/Qwen3-30B-A3B",
            "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
        )
    }

    gpt_oss, qwen, nemotron = held.values()
    assert 12 <= gpt_oss <= 14
    assert 15.5 <= qwen <= 16  # plain NF4: quantized as it is loaded
    assert 58 <= nemotron <= 59  # all of it stays in 16 bit


def test_gpt_oss_20b_trains_on_a_t4_with_its_embedding_on_the_host():
    """Unsloth's own notebook trains it there: 12.8 to 13.6 GiB reserved, examples shorter than the 1,024 tokens."""
    rank = memory_of("openai/gpt-oss-20b", "T4", per_device_train_batch_size=1, max_length=1024)

    assert rank.fit in ("fits", "tight")
    assert 13 * GIB <= rank.memory.device <= 14.3 * GIB
    assert 11 * GIB <= rank.memory.base_weights <= 12 * GIB  # less 1.08 GiB of embedding


def test_a_fuller_card_leaves_unpacked_experts_a_smaller_window():
    at = {
        length: memory_of("openai/gpt-oss-20b", "T4", per_device_train_batch_size=1, max_length=length).memory
        for length in (1024, 4096)
    }

    stack = 2 * 32 * 5760 * 2880 + 17_039_360  # cuBLAS's workspaces
    assert stack >= at[1024].other > at[4096].other


def notes_of(model_id, gpu_name, *, ranks=(8,), **training):
    asked = question(model_id, ranks=ranks, gpu=gpu_name, **{"precision": "nf4-dq", "max_steps": 100, **training})
    return " ".join(API.estimates.estimate(asked).estimate.notes)


@pytest.mark.parametrize(
    ("model_id", "sentences"),
    [
        (
            "Qwen/Qwen3-14B",
            "Unsloth loads unsloth/Qwen3-14B-unsloth-bnb-4bit in place of this model. It is dynamic 4-bit: it keeps "
            "some layers in 16 bit and weighs 10.36 GiB, 1.11 GiB more than plain NF4.",
        ),
        ("unsloth/Qwen3-14B-bnb-4bit", "Unsloth loads unsloth/Qwen3-14B-bnb-4bit. It is plain NF4."),
        ("Qwen3-14B-bnb-4bit", "Unsloth loads unsloth/Qwen3-14B-bnb-4bit. It is plain NF4."),
        (
            "Qwen/Qwen3-8B",
            "its size is not known here: the estimate adds 7 % to the size of plain NF4, the upper estimate 10 %.",
        ),
        (
            "unsloth/Qwen3-8B-unsloth-bnb-4bit",
            "Unsloth loads unsloth/Qwen3-8B-unsloth-bnb-4bit. It is dynamic 4-bit: it keeps some layers in 16 bit",
        ),
        (
            "unsloth/gemma-3-4b-it-unsloth-bnb-4bit",
            "Unsloth loads unsloth/gemma-3-4b-it-unsloth-bnb-4bit. It is dynamic 4-bit: it keeps some layers in 16 bit",
        ),
        (
            "openai/gpt-oss-20b",
            "the estimate adds 8 % to the size of plain NF4, the upper estimate 10 %, since a load of it took "
            "12.86 GiB at most.",
        ),
        (
            "meta-llama/Llama-3.2-1B-Instruct",
            "Unsloth loads unsloth/Llama-3.2-1B-Instruct-unsloth-bnb-4bit in place of this model.",
        ),
        (
            "Qwen/Qwen3-32B",
            "Unsloth loads unsloth/Qwen3-32B-bnb-4bit in place of this model. It is plain NF4.",
        ),
        (
            "Qwen/Qwen3-30B-A3B",
            "Unsloth loads unsloth/Qwen3-30B-A3B in place of this model. It is in 16 bit, and Unsloth quantizes it as "
            "it loads it.",
        ),
        (
            "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
            "Unsloth loads this model in 16 bit: it never quantizes a repository whose name ends in -BF16. "
            "The estimate is for 16 bit.",
        ),
    ],
)
def test_the_notes_name_what_is_loaded_and_say_what_was_done_about_its_size(model_id, sentences):
    assert sentences in notes_of(model_id, "A100-80GB (SXM)")


def test_a_dynamic_4_bit_repository_is_named_whatever_loads_it():
    name, larger = "unsloth/Qwen3-8B-unsloth-bnb-4bit", "take about 7 % more than plain NF4 (at most 10 %)"
    at = {(fw, p): notes_of(name, "L4", framework=fw, precision=p) for fw in ("trl", "peft") for p in ("nf4", "bf16")}

    assert all(f"{name} is dynamic 4-bit: some layers stay in 16 bit." in notes for notes in at.values())
    assert all((larger in notes) == (precision == "nf4") for (_, precision), notes in at.items())
    assert "dynamic" not in notes_of("Qwen/Qwen3-8B", "L4", framework="trl")


@pytest.mark.parametrize("gpu_name", ["T4", "L4", "A100-80GB (SXM)"])
def test_memory_of_every_model_grows_up_to_rank_1024_but_where_the_embedding_moves(gpu_name):
    """Where it moves, the expected value and the low end may fall, by no more than it takes."""
    moves = 0
    for row in API.models.all():
        ranks = (1, 16, 64, 128, 256, 300, 400, 512, 700, 1024)
        asked = question(row.id, ranks=ranks, gpu=gpu_name, precision="nf4-dq", target_modules="all-linear")
        try:
            each = [rank.memory for rank in API.estimates.estimate(asked).estimate.ranks]
        except InvalidSettingError:  # Unsloth refuses some of the models
            continue
        for lower, higher in pairwise(each):
            moved = lower.base_weights - higher.base_weights
            moves += moved > 0
            assert lower.high <= higher.high, row.id
            assert lower.device <= higher.device + 1.1 * moved, row.id
            assert lower.low <= higher.low + 1.1 * moved, row.id
            assert moved or lower.low < higher.low, row.id
    assert moves > 10


def test_the_low_end_above_the_rank_where_the_embedding_moves_keeps_its_distance_from_the_expected_value():
    asked = question("Qwen/Qwen3-8B", ranks=(256, 400, 1024), gpu="L4", precision="nf4-dq", max_steps=100)
    before, after, highest = (rank.memory for rank in API.estimates.estimate(asked).estimate.ranks)

    assert before.base_weights > after.base_weights
    assert 15 * GIB < after.low < after.device < 17 * GIB
    assert highest.device - highest.low < 1.5 * GIB


def test_no_checkpoint_is_named_where_the_models_own_files_are_loaded():
    own, in_16_bit = (
        notes_of("allenai/OLMo-2-1124-7B", "A100-80GB (SXM)"),
        notes_of("Qwen/Qwen3-14B", "A100-80GB (SXM)", precision="bf16"),
    )

    assert "Unsloth loads" not in own
    assert "Unsloth loads" not in in_16_bit


def test_an_estimate_follows_the_name_that_was_asked_for():
    held = [
        memory_of(f"unsloth/Qwen3-14B{end}", "A100-80GB (SXM)").memory.base_weights
        for end in ("", "-unsloth-bnb-4bit", "-bnb-4bit")
    ]

    assert [11_120_000_000, 11_120_000_000] == held[:2]
    assert held[2] < 0.95 * held[0]


def test_the_notes_say_what_a_small_card_without_bf16_changes():
    asks = {"per_device_train_batch_size": 1, "max_length": 1024, "target_modules": ("q_proj",)}
    every, some = (notes_of("openai/gpt-oss-20b", "T4", ranks=ranks, **asks) for ranks in ((256,), (8, 256)))

    assert "its numbers overflow in fp16, so Unsloth computes it in fp32" in every
    assert "The card is short of room, so Unsloth moves the input embedding (1.08 GiB) to host memory." in every
    assert "short of room at r = 256 and above" in some
    assert "overflow in fp16" not in notes_of("openai/gpt-oss-20b", "L4", **asks)
