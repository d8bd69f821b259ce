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


def test_the_cuts_of_a_fast_curve_take_an_evaluation_each_and_low_ones_a_few_steps():
    settings = {"max_steps": 10, "per_device_train_batch_size": 8, "held_out_examples": 40, "r": 64}
    hundred = Range(100.0, 100.0, 100.0)

    def seconds(**more):
        run_request = request(**settings, **more)
        estimate = replace(estimate_run(TOY, run_request, Device(cpu_count=2), ASSUMPTIONS), seconds=hundred)
        return sweep_time(TOY, [run_request], [estimate], ASSUMPTIONS).total.expected

    # 40 rows forward are a quarter of 80 rows of training; two cuts twice that, and r = 2 two steps of ten.
    assert 100 * (2 * 0.25 + 0.2) == pytest.approx(seconds(cut_ranks=(8, 2)) - seconds())


def test_exact_match_is_in_the_time_of_a_sweep_for_each_adapter_and_the_base():
    hundred = Range(100.0, 100.0, 100.0)
    settings = {"max_steps": 10, "per_device_train_batch_size": 8, "held_out_examples": 40, "r": 64, "cut_ranks": (8,)}

    def seconds(examples):
        run_request = request(**settings, exact_match_examples=examples)
        estimate = replace(estimate_run(TOY, run_request, Device(cpu_count=2), ASSUMPTIONS), seconds=hundred)
        return sweep_time(TOY, [run_request], [estimate], ASSUMPTIONS).other.expected

    # 40 rows forward take 25 s; base, adapter and its truncation answer 20 of them, at three passes each.
    assert 3 * 12.5 * 3 == pytest.approx(seconds(20) - seconds(0))
    assert 3 * 25.0 * 3 == pytest.approx(seconds(1000) - seconds(0))


API = Api(assets=ASSETS)


CPU, GPU = Device(), Device(cuda=True)


def check(model_id, device, **lora):
    refuse_base(API.models.get(model_id), LoraConfig(**lora), SHORT_TRAINING, device)


@pytest.mark.parametrize("model_id", ["google/gemma-3-4b-it:whole"])
@pytest.mark.parametrize(("device", "what"), [(CPU, "A run without a GPU"), (GPU, "A run")])
def test_a_whole_multimodal_model_is_refused_and_its_text_tower_named(model_id, device, what):
    tower = model_id.removesuffix(":whole")

    with pytest.raises(InvalidSettingError, match=f"{what} trains on text only: choose {tower} instead.$"):
        check(model_id, device)


@pytest.mark.parametrize(
    "lora", [{"finetune_vision_layers": True}, {"unsloth_class": "FastModel"}], ids=["flag", "FastModel's default"]
)
def test_a_vision_tower_that_would_train_with_its_text_tower_is_refused_on_a_gpu(lora):
    with pytest.raises(InvalidSettingError, match=r"which would train too.*Turn finetune_vision_layers off"):
        check("google/gemma-3-4b-it", GPU, **lora)

    with pytest.raises(InvalidSettingError, match=r"A run without a GPU does not train google/gemma-3-4b-it"):
        check("google/gemma-3-4b-it", CPU, **lora)
    check("google/gemma-3-4b-it", GPU, **lora | {"finetune_vision_layers": False})
