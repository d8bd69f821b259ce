"""What a set-up becomes for torch, Unsloth and the trainers, as far as no card need be asked."""

import pytest

from rankviz.core.cost.setup import TrainingSetup
from rankviz.worker.settings import WorkerSettings


def settings(*, cuda=True, model_type="", **training) -> WorkerSettings:
    return WorkerSettings(training=TrainingSetup(**training), cuda=cuda, model_type=model_type)


@pytest.mark.parametrize(
    ("checkpointing", "max_length", "done"),
    [("unsloth", 511, "hf"), ("unsloth", 512, "unsloth"), ("hf", 256, "hf"), ("none", 4096, "none")],
)
def test_unsloths_checkpointing_offloads_from_512_tokens_on(checkpointing, max_length, done):
    found = settings(gradient_checkpointing=checkpointing, max_length=max_length)

    assert done == found.effective_checkpointing
    assert {"unsloth": "unsloth", "hf": True, "none": False}[checkpointing] == found.gradient_checkpointing


@pytest.mark.parametrize(("precision", "autocast"), [("fp32", None), ("bf16", "bfloat16")])
def test_on_a_cpu_evaluation_runs_in_the_precision_of_the_base(precision, autocast):
    found = settings(cuda=False, precision=precision)

    assert autocast == found.mixed_precision
    assert (autocast or "none") == found.facts["mixed_precision"]


@pytest.mark.parametrize(
    ("framework", "model_type", "computed", "fp16"),
    [
        ("trl", "qwen3", "float16", True),
        ("peft", "gemma3_text", "float32", False),
        ("unsloth", "gemma3", "float16", None),
    ],
)
def test_on_a_card_without_bf16_a_probe_computes_as_the_exported_script(
    monkeypatch, framework, model_type, computed, fp16
):
    monkeypatch.setattr("rankviz.worker.device.has_bf16", lambda: False)
    probe = settings(framework=framework, model_type=model_type, precision="nf4-dq")

    assert computed == probe.compute_dtype
    assert ({} if fp16 is None else {"bf16": False, "fp16": fp16}) == probe.autocast
