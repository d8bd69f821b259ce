"""Memory that ran out, and the settings of a worker on a device."""

import itertools

import pytest

from rankviz.core.cost.setup import TrainingSetup
from rankviz.worker.device import WorkerSettings, ran_out_of_memory


def chain(*errors: BaseException) -> BaseException:
    """The first error, caused by the second, and so on."""
    for error, cause in itertools.pairwise(errors):
        error.__cause__ = cause
    return errors[0]


def test_memory_that_ran_out_in_a_cause_is_memory_that_ran_out():
    assert ran_out_of_memory(chain(RuntimeError("the loader failed"), MemoryError()))
    assert not ran_out_of_memory(RuntimeError("CUDA out of memory, says a log line"))


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
    assert fp16 == probe.trainer_arguments.get("fp16")
