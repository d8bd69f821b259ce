"""What Unsloth does by itself, beside the files of the installed Unsloth (read, not imported), and what it holds of a
base in 4 bit, beside what its real quantizer made of these models at full size: the real
Bnb4BitHfQuantizer.preprocess_model under the patches of unsloth 2026.10.9, on the meta device. `make test-counts` has
the real loader of every family."""

import runpy
from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest

from rankviz.api import Api
from rankviz.core.cost.memory import fp32_tensors, unsloth_bytes
from rankviz.core.cost.setup import TrainingSetup, card
from rankviz.core.cost.stack import FORCED_FP32, Stack, forces_fp32, settled
from rankviz.core.model.towers import as_loaded
from rankviz.errors import InvalidSettingError
from tests.support.runs.questions import question
from tests.support.runs.toy import ASSUMPTIONS, gpu

API = Api()
GIB = 2**30
BF16, T4 = card(gpu()), card(gpu(supports_bf16=False))


def installed(package, file):
    """The names that one file of an installed package defines, without the package itself."""
    spec = find_spec(package)
    if spec is None:
        pytest.skip(f"{package} is not installed")
    return runpy.run_path(str(Path(spec.submodule_search_locations[0]) / file))


def test_the_families_that_train_in_fp32_are_those_of_unsloths_list():
    named = {name.strip(",") for name in installed("unsloth_zoo", "model_lists.py")["FORCE_FLOAT32"]}

    assert {name for name in named if not name.replace("text", "_text").startswith(FORCED_FP32)} == set()
    assert set(FORCED_FP32) <= named


@pytest.mark.parametrize(
    ("model_id", "precision", "device", "expected"),
    [
        ("openai/gpt-oss-20b", "nf4-dq", T4, True),
        ("google/gemma-3-4b-it", "fp16", BF16, True),
        ("google/gemma-3-4b-it", "fp32", T4, False),
        ("meta-llama/Llama-3.1-8B", "fp16", T4, False),
    ],
)
def test_fp32_is_forced_where_fp16_is_asked_for_or_the_card_has_no_bf16(model_id, precision, device, expected):
    assert expected is forces_fp32(API.models.get(model_id), precision, device)


def notes_of(model_id, gpu_name, *, ranks=(8,), **training):
    asked = question(model_id, ranks=ranks, gpu=gpu_name, **{"precision": "nf4-dq", "max_steps": 100, **training})
    return " ".join(API.estimates.estimate(asked).estimate.notes)


@pytest.mark.parametrize(
    ("model_id", "sentences"),
    [
        (
            "Qwen/Qwen3-14B",
            "Unsloth loads unsloth/Qwen3-14B-unsloth-bnb-4bit in place of this model. It is dynamic 4-bit, 1.11 GiB "
            "more than plain NF4.",
        ),
        ("Qwen/Qwen3-8B", "It is dynamic 4-bit, 427 MiB more than plain NF4 (up to 598 MiB)."),
        (
            "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
            "Unsloth loads this model in 16 bit, as its name ends in -BF16: the estimate is for 16 bit.",
        ),
    ],
)
def test_the_notes_name_what_is_loaded_and_say_what_was_done_about_its_size(model_id, sentences):
    assert sentences in notes_of(model_id, "A100-80GB (SXM)")


def test_memory_of_every_model_grows_up_to_rank_1024_but_where_the_embedding_moves():
    """Where it moves, the expected value and the low end may fall, by no more than it takes."""
    moves = 0
    for row in API.models.all():
        ranks = (1, 16, 64, 128, 256, 300, 400, 512, 700, 1024)
        asked = question(row.id, ranks=ranks, gpu="T4", precision="nf4-dq", target_modules="all-linear")
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


def parts_of(model_id, *, text_only=False, **setup):
    own_files = replace(API.models.get(model_id), unsloth_checkpoint=None)
    model = as_loaded(own_files, text_only=text_only, unsloth_on_gpu=True)
    stack = Stack(setup=TrainingSetup(**setup), use_dora=False, assume=ASSUMPTIONS)
    return unsloth_bytes(model, settled(stack, model, card(None)))


@pytest.mark.parametrize(
    ("model_id", "gib"),
    [
        ("Qwen/Qwen3-30B-A3B", 15.55),
        ("Qwen/Qwen3.5-35B-A3B", 18.92),
        ("google/gemma-4-26B-A4B", 14.23),
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", 55.09),
        ("deepseek-ai/DeepSeek-V2-Lite", 8.13),
        ("openai/gpt-oss-20b", 11.66),
        ("google/gemma-4-E2B", 6.91),
        ("mistralai/Ministral-3-3B-Instruct-2512", 2.99),
    ],
)
def test_the_bytes_of_a_base_are_those_of_unsloths_quantizer(model_id, gib):
    """Before norms and biases are raised to fp32, which is after the quantizer."""
    model = as_loaded(API.models.get(model_id), text_only=False, unsloth_on_gpu=True)
    modules = [(len(each.blocks) or 1, fp32_tensors(model, each, four_bit=True)) for each in model.plain_modules]
    raised = 2 * sum(copies * tensors for copies, tensors in modules)

    assert gib == round((sum(parts_of(model_id).values()) - raised) / GIB, 2)


def test_without_its_towers_a_base_has_the_same_other_bytes():
    for model_id in ("google/gemma-3-4b-it:whole", "google/gemma-4-26B-A4B:whole", "Qwen/Qwen3.5-35B-A3B:whole"):
        assert {**parts_of(model_id), "towers": 0} == parts_of(model_id, text_only=True)


def test_stacks_of_2_to_the_31_weights_lose_double_quantization():
    """DeepSeek-V3's gate and up projections in one stack: 256 × 7,168 × 4,096 in each of 58 blocks, 30.5 GB more."""
    gate_up, down = 58 * 256 * 7168 * 4096, 58 * 256 * 7168 * 2048
    held = parts_of("deepseek-ai/DeepSeek-V3")["experts"]

    assert 0.5625 * (gate_up + down) == held
    assert 30.5 == round((held - (0.5 + 1 / 64 + 4 / 64 / 256) * (gate_up + down)) / 1e9, 1)


USABLE = 15_636_902_182
PEAKS = (13_788_992_503, 13_931_800_166, 14_618_994_933)
"""torch's max_memory_reserved, which leaves out the CUDA context."""


def at_r_8(targets):
    batch = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4, "max_length": 1024, "max_steps": 100}
    setup = {"framework": "unsloth", "precision": "nf4-dq", "target_modules": targets}
    asked = question("openai/gpt-oss-20b", ranks=(8,), gpu="T4", **batch, **setup)
    (rank,) = API.estimates.estimate(asked).estimate.ranks
    return rank


# 24 blocks. Attention: q 2880 to 4096, k and v 2880 to 512, o 4096 to 2880. 32 experts: gate_up 2880 to 5760, down
# 2880 to 2880.
ATTENTION = 8 * 24 * ((2880 + 4096) + 2 * (2880 + 512) + (4096 + 2880))
EXPERTS = 8 * 24 * 32 * ((2880 + 5760) + (2880 + 2880))


@pytest.mark.parametrize(
    ("targets", "parameters"), [("unsloth", ATTENTION + EXPERTS), ("attention", ATTENTION)], ids=["today", "2025"]
)
def test_it_fits_tight(targets, parameters):
    rank = at_r_8(targets)

    assert parameters == rank.adapter_parameters
    assert 0.95 * USABLE < rank.memory.high <= USABLE
    assert "tight" == rank.fit


def test_the_measured_peaks_are_inside_the_range_and_below_the_expected_value_at_full_length():
    """Of attention in nf4-dq, what load_in_4bit is: 13.6 to 15.3 GB reserved, 14.9 expected."""
    memory = at_r_8("attention").memory
    context = memory.device - memory.reserved

    assert [True] * 3 == [memory.low - context <= peak <= memory.high - context for peak in PEAKS]
    assert max(PEAKS) < memory.reserved < 1.09 * min(PEAKS)
