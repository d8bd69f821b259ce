"""Runs and probes from before settings were nested are read as they were meant."""

import json
from dataclasses import replace

import pytest

from rankviz.core.cost.setup import Device, TrainingSetup
from rankviz.core.lora.config import LoraConfig
from rankviz.store import recorded
from rankviz.store.journal import parse_request, request_text
from tests.support.runs.toy import ASSETS

FLAT_RUN = """
{"run_id": "20261125-102247-feeb-005-r64", "sweep_id": "20261125-102247-feeb", "created_at": 1795602167.6781404,
 "base": "embedded", "data": "phonemes", "r": 64, "lora_alpha": 32.0, "target_modules": ["q_proj", "v_proj"],
 "use_rslora": true, "use_dora": false, "learning_rate": 0.001, "seed": 3, "max_steps": 40,
 "per_device_train_batch_size": 8, "gradient_accumulation_steps": 2, "max_length": 256, "held_out_examples": 128,
 "precision": "bf16", "optim": "auto", "cut_ranks": [16, 8]}
"""
FLAT_PROBE = """
{"probe_id": "probe-1", "created_at": 1.0, "model_id": "gpt2", "total_depth": 12, "depths": [2, 4], "r": 8,
 "lora_alpha": 16.0, "target_modules": "all-linear", "use_rslora": false, "use_dora": true, "framework": "peft",
 "precision": "fp32", "optim": "sgd", "checkpointing": "hf", "per_device_train_batch_size": 2,
 "gradient_accumulation_steps": 1, "max_length": 64, "timed_steps": 5, "time_limit_seconds": 300.0,
 "memory_limit_bytes": null, "seed": 0}
"""


def test_a_flat_run_is_read_with_its_settings_in_their_places():
    run = parse_request(FLAT_RUN)

    assert LoraConfig(r=64, lora_alpha=32, target_modules=("q_proj", "v_proj"), use_rslora=True) == run.lora
    assert (
        TrainingSetup(
            precision="bf16",
            optim="auto",
            gradient_checkpointing="auto",
            loss_path="auto",
            per_device_train_batch_size=8,
            gradient_accumulation_steps=2,
            max_length=256,
            max_steps=40,
        )
        == run.training
    )
    assert ("embedded", "phonemes", 1e-3, 3, 128, (16, 8)) == (
        run.base, run.data, run.learning_rate, run.seed, run.held_out_examples, run.cut_ranks
    )  # fmt: skip


def test_a_flat_run_trains_without_checkpointing_on_a_cpu_and_with_unsloths_on_a_gpu_as_it_did():
    training = replace(parse_request(FLAT_RUN).training, optim="auto")

    assert ("none", "adamw_torch") == settled(training, Device())
    assert ("unsloth", "adamw_8bit") == settled(training, Device(cuda=True))


def settled(training, device):
    training = training.settle(device)
    return training.gradient_checkpointing, training.optim


def test_a_flat_probe_is_read_with_the_loss_of_its_framework():
    probe = parse_request(FLAT_PROBE)

    assert LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", use_dora=True) == probe.lora
    assert ("peft", "hf", "full", 2, 64) == (
        probe.training.framework,
        probe.training.gradient_checkpointing,
        probe.training.loss_path,
        probe.training.per_device_train_batch_size,
        probe.training.max_length,
    )
    assert (2, 4) == probe.depths


@pytest.mark.parametrize("flat", [FLAT_RUN, FLAT_PROBE], ids=["run", "probe"])
def test_what_was_read_flat_is_written_nested_and_read_again(flat):
    request = parse_request(flat)

    written = request_text(request)

    assert {"lora", "training"} < json.loads(written).keys()
    assert "r" not in json.loads(written)
    assert request == parse_request(written)


def test_a_setting_that_no_version_knows_makes_a_request_unreadable():
    with pytest.raises(ValueError, match=r"training\.precision must be one of bf16, .*auto"):
        parse_request(FLAT_RUN.replace('"bf16"', '"fp8"'))


def test_every_recorded_run_is_read():
    folders = [path for path in (ASSETS / "recorded" / "runs").iterdir() if path.is_dir()]

    assert len(folders) == sum(len(sweep.runs) for sweep in recorded(ASSETS))


def test_what_a_flat_request_left_out_is_what_its_version_meant():
    left_out = ("max_steps", "precision", "optim", "max_length")
    run = {name: value for name, value in json.loads(FLAT_RUN).items() if name not in left_out}

    training = parse_request(json.dumps(run)).training

    assert (40, "auto", "auto", 256) == tuple(getattr(training, name) for name in left_out)
