"""What a worker refuses before it loads anything, its settings on a device, and memory that ran out."""

import json
import os
import subprocess
from dataclasses import replace

import pytest

from rankviz.core.cost.setup import TrainingSetup
from rankviz.errors import InvalidSettingError, LimitError
from rankviz.jobs.local import COMMANDS
from rankviz.paths import IMPORT_ROOT
from rankviz.store import RunStore
from rankviz.store.journal import Ownership, request_text
from rankviz.visitor import data_folder
from rankviz.worker.device import WorkerSettings, ran_out_of_memory
from rankviz.worker.journal import admit, admit_probe
from tests.support.runs import questions
from tests.support.runs.probes import request as probe_request

ANNA = Ownership("anna")


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.delenv("SPACE_ID", raising=False)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    return RunStore(tmp_path / "home")


def stored(store, owner, **changes):
    """A run as an import or a hand may have written it, past every check of a page."""
    (run,) = questions.sweep(ranks=(8,), seeds=(0,)).runs(sweep_id="s1", created_at=1.0)
    run = replace(run, **changes)
    store.publish({run.run_id: {"request.json": request_text(run)}}, owner)
    return run


def test_on_a_shared_server_a_run_without_an_owner_is_the_hosts(store, tmp_path, monkeypatch):
    monkeypatch.setenv("RANKVIZ_SHARED", "true")
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n' * 3)
    run = stored(store, Ownership(), data=str(tmp_path / "rows.jsonl"))

    _, data = admit(store, run)

    assert tmp_path / "rows.jsonl" == data.path
    with pytest.raises(LimitError, match="steps per run"):
        admit(store, replace(run, training=replace(run.training, max_steps=100_000)))
    with pytest.raises(InvalidSettingError, match="This page is shared"):
        admit(store, stored(store, Ownership("?"), run_id="s2", data=str(tmp_path / "rows.jsonl")))


@pytest.mark.parametrize("field", ["base", "data"])
def test_a_visitors_run_names_no_path_of_the_machine(store, tmp_path, field):
    (tmp_path / "config.json").write_text("{}")
    for number, path in enumerate((str(tmp_path), "~", f"{tmp_path}/uploads/../config.json", "/etc/passwd")):
        with pytest.raises(InvalidSettingError, match="This page is shared"):
            admit(store, stored(store, ANNA, run_id=f"s-{number}", **{field: path}))


def test_a_visitors_run_trains_on_the_data_that_it_keeps_and_on_no_others(store):
    for owner in ("anna", "ben"):
        kept = data_folder(store.home, owner) / ("a" * 16) / "rows.jsonl"
        kept.parent.mkdir(parents=True)
        kept.write_text('{"text": "a"}\n')
    mine, other = (str(data_folder(store.home, who) / ("a" * 16) / "rows.jsonl") for who in ("anna", "ben"))

    assert mine == admit(store, stored(store, ANNA, data=mine))[1].text
    with pytest.raises(InvalidSettingError, match="This page is shared"):
        admit(store, stored(store, ANNA, run_id="s2", data=other))


def test_a_visitors_run_keeps_the_limits_of_a_shared_page(store):
    run = stored(store, ANNA)
    with pytest.raises(LimitError, match="steps per run"):
        admit(store, replace(run, training=replace(run.training, max_steps=100_000)))
    with pytest.raises(InvalidSettingError, match="Rank"):
        admit(store, replace(run, lora=replace(run.lora, r=100_000)))
    with pytest.raises(InvalidSettingError, match="Batch size"):
        admit(store, replace(run, training=replace(run.training, per_device_train_batch_size=10**9)))


def test_a_visitors_probe_keeps_them_too(store):
    probe = probe_request()
    store.create_probe(probe, "{}", ANNA.owner)

    admit_probe(store, probe)
    with pytest.raises(LimitError, match="at most 256 as the rank"):
        admit_probe(store, replace(probe, lora=replace(probe.lora, r=1024)))
    with pytest.raises(LimitError, match="tokens per batch"):
        admit_probe(store, replace(probe, training=replace(probe.training, max_length=2**16)))


def test_the_worker_fails_such_a_run_without_a_word_of_the_file(store, tmp_path):
    """Neither columns nor rows of a file that isn't the visitor's are in its error or its log."""
    secret = tmp_path / "payroll.csv"
    secret.write_text("salary,name\n9999,Smith\n")
    run = stored(store, ANNA, data=str(secret))
    # It moves to the runs folder and sends its output to the log.
    command = [*COMMANDS["finetune"], str(store.home), run.run_id]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(IMPORT_ROOT)}, check=False)

    record = store.get(run.run_id)
    folder = store.run_dir(run.run_id)
    texts = json.dumps([record.error, (folder / "worker.log").read_text(), (folder / "events.jsonl").read_text()])
    assert "failed" == record.state
    assert record.error.startswith("This page is shared")
    assert not {word for word in ("salary", "9999", "Smith") if word in texts}


def test_memory_that_ran_out_in_a_cause_is_memory_that_ran_out():
    error = RuntimeError("the loader failed")
    error.__cause__ = MemoryError()

    assert ran_out_of_memory(error)
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
def test_on_a_card_without_bf16_a_probe_computes_as_the_script(monkeypatch, framework, model_type, computed, fp16):
    monkeypatch.setattr("rankviz.worker.device.has_bf16", lambda: False)
    probe = settings(framework=framework, model_type=model_type, precision="nf4-dq")

    assert computed == probe.compute_dtype
    assert fp16 == probe.trainer_arguments.get("fp16")
