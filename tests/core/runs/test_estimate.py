"""What a run on this machine should come to beside measured runs, and which bases it can train.

Measured with Unsloth 2026.10.9 and TRL 1.15 on two CPU cores (torch 2.13): random weights in SmolLM2-135M's shapes,
fp32, r 16 on the seven projections, AdamW, full rows, the kernel's high-water mark of the resident set over 4 steps.
"""

from dataclasses import replace

import pytest

from rankviz.api import Api
from rankviz.catalog.models import load_model
from rankviz.core.cost.setup import Device
from rankviz.core.lora.config import LoraConfig
from rankviz.core.quantity import Range
from rankviz.core.runs.estimate import estimate_run, refuse_base
from rankviz.core.runs.request import SHORT_TRAINING
from rankviz.core.runs.sweep_time import sweep_time
from rankviz.errors import InvalidSettingError
from tests.support.runs.questions import run
from tests.support.runs.toy import ASSETS, ASSUMPTIONS, TOY

MIB = 2**20


def request(**more):
    return run(**{"base": "embedded", "data": "phonemes", "r": 16, **more})


@pytest.mark.parametrize(("max_length", "measured_mib"), [(32, 1652), (128, 2883), (256, 4412)])
def test_resident_memory_of_a_cpu_run_is_as_measured(max_length, measured_mib):
    smol = load_model(ASSETS, "HuggingFaceTB/SmolLM2-135M")
    full_rows = Range(max_length, max_length, max_length)

    estimate = estimate_run(smol, request(max_length=max_length), Device(cpu_count=2), ASSUMPTIONS, full_rows)

    assert "process resident" == estimate.memory_kind
    assert estimate.memory_bytes.low <= measured_mib * MIB <= estimate.memory_bytes.high
    assert 0.9 <= estimate.memory_bytes.expected / (measured_mib * MIB) <= 1.1


def test_cuts_of_a_fast_curve_and_exact_match_take_evaluations():
    def seconds(**more):
        settings = {"max_steps": 10, "per_device_train_batch_size": 8, "held_out_examples": 40, "r": 64}
        run_request = request(**settings, **more)
        estimate = estimate_run(TOY, run_request, Device(cpu_count=2), ASSUMPTIONS)
        hundred = [replace(estimate, seconds=Range(100.0, 100.0, 100.0))]
        return sweep_time(TOY, [run_request], hundred, ASSUMPTIONS).total.expected

    # 40 rows forward are a quarter of 80 rows of training; two cuts twice that, and r = 2 two steps of ten.
    assert 100 * (2 * 0.25 + 0.2) == pytest.approx(seconds(cut_ranks=(8, 2)) - seconds())
    # 40 rows forward take 25 s; base, adapter and its truncation answer 20 of them, at three passes each.
    without = seconds(cut_ranks=(8,))
    assert 3 * 12.5 * 3 == pytest.approx(seconds(cut_ranks=(8,), exact_match_examples=20) - without)
    assert 3 * 25.0 * 3 == pytest.approx(seconds(cut_ranks=(8,), exact_match_examples=1000) - without)


API = Api(assets=ASSETS)
CPU, GPU = Device(), Device(cuda=True)


def check(model_id, device, **lora):
    refuse_base(API.models.get(model_id), LoraConfig(**lora), SHORT_TRAINING, device)


@pytest.mark.parametrize(("device", "what"), [(CPU, "A run without a GPU"), (GPU, "A run")])
def test_a_whole_multimodal_model_is_refused_and_its_text_tower_named(device, what):
    with pytest.raises(InvalidSettingError, match=f"{what} trains on text only: choose google/gemma-3-4b-it instead.$"):
        check("google/gemma-3-4b-it:whole", device)


def test_a_vision_tower_that_would_train_with_its_text_tower_is_refused_on_a_gpu():
    lora = {"unsloth_class": "FastModel"}
    with pytest.raises(InvalidSettingError, match=r"which would train too.*Turn finetune_vision_layers off"):
        check("google/gemma-3-4b-it", GPU, **lora)

    with pytest.raises(InvalidSettingError, match=r"A run without a GPU does not train google/gemma-3-4b-it"):
        check("google/gemma-3-4b-it", CPU, **lora)
    check("google/gemma-3-4b-it", GPU, **lora | {"finetune_vision_layers": False})
