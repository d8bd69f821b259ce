"""Unsloth's CUDA branch and RankViz's own, run without a card.

What is emulated, and so what this does not cover (Triton, torch.compile, bitsandbytes, offloading, GPU memory and
speed), is said in tests/support/engines/emulated_cuda.py. Each process here is a true worker; nothing in it knows of
the test.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rankviz.core.runs.events import GPU_LOST, StageReached
from rankviz.core.runs.record import RunState
from rankviz.store import RunStore
from tests.support.engines.emulated_cuda import OFFLOADING
from tests.support.models.tiny_llama import TINY_LLAMA_PARAMETERS, write_tiny_data
from tests.support.processes.workers import Patient
from tests.support.runs.tiny_runs import letters

pytestmark = [pytest.mark.torch, pytest.mark.emulated_cuda]

ROOT = Path(__file__).resolve().parents[2]
WORKER = (sys.executable, "-m", "tests.support.engines.emulated_cuda", "finetune")
ON_A_GPU = {"precision": "bf16", "optim": "adamw_torch", "gradient_checkpointing": "unsloth"}
STEPS = 12


def run_here(store: RunStore, *run_ids: str) -> None:
    """Runs of several sweeps in one worker, in this order."""
    command = [*WORKER, str(store.home), *run_ids]
    log = store.home / "worker.log"
    with log.open("wb") as output:
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=store.home, env=env, stdout=output, stderr=output, timeout=1200)
    assert 0 == done.returncode, log.read_text()[-3000:]


@pytest.fixture(scope="module")
def runs(tiny, tmp_path_factory):
    """r = 4, 8 and 4 again, then DoRA with rsLoRA: four sweeps' runs on one base."""
    store = RunStore(tmp_path_factory.mktemp("home"))
    data = write_tiny_data(store.home / "letters.jsonl")
    asked = {**ON_A_GPU, "exact_match_examples": 4}
    sweeps = [
        letters(tiny, data, 4, **asked),
        letters(tiny, data, 8, **asked),
        letters(tiny, data, 4, **asked),
        letters(tiny, data, 4, use_dora=True, use_rslora=True, **asked),
    ]
    run_ids = [store.run_ids(store.create(request))[0] for request in sweeps]
    run_here(store, *run_ids)
    records = [store.get(run_id) for run_id in run_ids]
    assert [RunState.COMPLETED] * 4 == [run.state for run in records], [run.error + run.log_tail for run in records]
    return store, records


def test_load_attach_train_evaluate_and_save_on_the_cuda_branch(runs):
    store, (first, second, *_) = runs

    for run, r in ((first, 4), (second, 8)):
        assert 2 * r * (2 * 128 + 2 * 96 + 3 * 192) == run.trainable_parameters
        assert list(range(1, STEPS + 1)) == [step.step for step in run.steps]
        assert run.loss_after.loss < run.loss_before.loss - 0.3
        assert run.steps[-1].loss < run.steps[0].loss - 0.3
        assert (store.run_dir(run.run_id) / "adapter" / "adapter_model.safetensors").stat().st_size == run.adapter_bytes


def test_the_record_says_what_was_done_and_not_only_what_was_asked(runs):
    store, (first, *_) = runs
    facts = first.environment

    assert ("cuda", "Emulated GPU", "8.9") == (facts["device"], facts["device_name"], facts["capability"])
    assert ("bf16", "bfloat16", "bfloat16") == (facts["precision"], facts["base_dtype"], facts["mixed_precision"])
    # of rows of 256 tokens Unsloth offloads nothing, whatever it was asked for
    assert "hf" == facts["gradient_checkpointing"]
    assert first.request.training.gradient_checkpointing == "unsloth"
    logs = [(folder / "worker.log").read_text() for folder in (store.home, store.run_dir(first.run_id))]
    assert OFFLOADING not in "".join(logs)
    assert "tiny-llama0" == facts["base"] == facts["loaded_from"]
    assert TINY_LLAMA_PARAMETERS == facts["total_parameters"]
    assert "GPU allocated" == first.completed.peak_memory_kind


def test_a_rank_trained_again_on_the_same_base_gives_the_same_losses_bit_for_bit(runs):
    _, (first, _, third, _) = runs

    assert [step.loss for step in first.steps] == [step.loss for step in third.steps]
    assert first.loss_after.example_losses == third.loss_after.example_losses


def test_dora_with_rslora_trains(runs):
    _, (*_, dora) = runs

    # beside A and B one magnitude per output of each module: q and o 64, k and v 32, gate and up 128, down 64
    assert 2 * (4 * (2 * 128 + 2 * 96 + 3 * 192) + 64 + 32 + 32 + 64 + 128 + 128 + 64) == dora.trainable_parameters
    assert dora.loss_after.loss < dora.loss_before.loss - 0.3


@pytest.fixture(scope="module")
def faulty(tiny, tmp_path_factory):
    """Memory runs out while r = 8 is attached and while r = 16 trains; the card fails while r = 32 trains."""
    store = RunStore(tmp_path_factory.mktemp("faulty"))
    data = write_tiny_data(store.home / "letters.jsonl")
    sweep_id = store.create(letters(tiny, data, 4, 8, 16, 32, 64, **ON_A_GPU))
    faults = "FAULTS=attach 8,step 16,kernel 32"
    supervisor = Patient(store, command=("env", faults, f"PYTHONPATH={ROOT}", *WORKER))
    supervisor.start()
    supervisor.settle(500)
    supervisor.stop()
    return store, store.sweep(sweep_id).runs


@pytest.mark.slow
def test_a_run_that_fails_as_a_gpu_does_says_what_to_change_and_the_queue_goes_on(faulty):
    """A base that was left half wrapped is loaded again, and a clean one is not; a dead card ends its worker."""
    store, (fine, attaching, training, kernel, last) = faulty

    def loads(run):
        events = store.events(run.run_id)
        return sum(isinstance(event, StageReached) and event.stage == "loading the base" for event in events)

    for run in (fine, last):
        assert RunState.COMPLETED is run.state, run.error + run.log_tail
    assert [RunState.FAILED] * 3 == [run.state for run in (attaching, training, kernel)]
    for run in (attaching, training):
        assert run.error.startswith("Out of memory. Lower the batch size or max_length")
    assert kernel.error.startswith("The GPU failed in a way that only a new process can recover from (AcceleratorError")
    assert "illegal memory access" in kernel.error
    assert [0, 1, 0] == [loads(run) for run in (attaching, training, kernel)]
    assert 75 == GPU_LOST
