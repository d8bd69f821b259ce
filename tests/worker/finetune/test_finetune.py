"""Real runs through the true Unsloth path, on a tiny random Llama; slow ones on the embedded model."""

import json
import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from rankviz.core.runs.events import stages_of
from rankviz.core.runs.record import RunState
from rankviz.core.runs.run_time import times_of
from rankviz.jobs.supervisor import Supervisor
from rankviz.store import RunStore
from tests.support.models.tiny_llama import TINY_LLAMA_PARAMETERS, write_tiny_data
from tests.support.runs import questions
from tests.support.runs.tiny_runs import letters, run_to_the_end

pytestmark = pytest.mark.torch

ROOT = Path(__file__).resolve().parents[3]


def parameters(r: int) -> int:
    """By hand: in each of 2 blocks r × (in + out), where that is 128 for q and o, 96 for k and v, 192 in the MLP."""
    return 2 * r * (2 * 128 + 2 * 96 + 3 * 192)


def test_a_sweep_trains_each_rank_and_the_held_out_loss_falls(swept):
    _, sweep = swept

    assert [RunState.COMPLETED] * 3 == [run.state for run in sweep.runs], [
        run.error + run.log_tail for run in sweep.runs
    ]
    for run in sweep.runs:
        assert list(range(1, 13)) == [step.step for step in run.steps]
        assert run.loss_after.loss < run.loss_before.loss - 0.3
        assert run.steps[-1].loss < run.steps[0].loss - 0.3


def test_trainable_parameters_and_file_size_are_those_of_the_adapter_on_disk(swept):
    from safetensors import safe_open

    store, sweep = swept
    for run, r in zip(sweep.runs, (4, 8, 16), strict=True):
        file = store.run_dir(run.run_id) / run.adapter_path / "adapter_model.safetensors"
        with safe_open(file, "pt") as tensors:
            saved = sum(tensors.get_tensor(name).numel() for name in tensors.keys())  # noqa: SIM118

        assert parameters(r) == run.trainable_parameters == saved
        assert file.stat().st_size == run.adapter_bytes


def test_the_environment_says_what_was_used(swept):
    _, sweep = swept
    facts = sweep.runs[0].environment

    assert ("cpu", "fp32", TINY_LLAMA_PARAMETERS) == (facts["device"], facts["precision"], facts["total_parameters"])
    assert (80, 16) == (facts["train_examples"], facts["held_out_examples"])
    assert {"torch", "transformers", "peft", "trl", "unsloth"} <= set(facts["versions"])
    assert sweep.runs[0].environment["model_fingerprint"] == sweep.runs[1].environment["model_fingerprint"]


def test_the_base_is_evaluated_once_and_the_later_runs_say_so(swept):
    _, sweep = swept
    first, second, third = (run.loss_before for run in sweep.runs)

    assert [False, True, True] == [first.reused, second.reused, third.reused]
    assert first.example_losses == second.example_losses == third.example_losses
    assert 16 == first.examples == len(first.example_losses)


def test_tokens_time_and_memory_are_measured(swept):
    _, sweep = swept
    for run in sweep.runs:
        # A row is "7 h" + "hhhhhh 7" + the end, a byte a token: 12 tokens, 14 where the number has two digits.
        assert all(8 * 12 <= later.tokens - earlier.tokens <= 8 * 14 for earlier, later in pairwise(run.steps))
        assert 8 * 12 <= run.steps[0].tokens <= 8 * 14
        assert 0 < run.steps[0].seconds < run.steps[-1].seconds <= run.completed.train_seconds
        assert "process resident" == run.completed.peak_memory_kind
        assert run.completed.baseline_memory_bytes <= run.completed.peak_memory_bytes < 8 * 2**30


def test_a_run_goes_through_the_stages_that_its_time_left_is_made_of(swept):
    _, sweep = swept
    for run in sweep.runs:
        stages = list(stages_of(run.request, loads=run is sweep.runs[0]))
        assert stages == [each.stage for each in run.ended_stages]


def test_all_runs_of_a_sweep_answer_the_same_four_prompts_and_the_base_once(swept):
    _, sweep = swept

    assert 1 == len({tuple((each.place, each.prompt, each.reference) for each in run.answers) for run in sweep.runs})
    assert 4 == len(sweep.runs[0].answers)
    for each in sweep.runs[0].answers:
        # A row is "7 h" and "hhhhhh 7".
        number, letter = each.prompt.split()
        assert each.reference == f"{letter * 6} {number}"
    assert [False, True, True] == [run.answered_before.reused for run in sweep.runs]
    assert 1 == len({tuple(each.before.text for each in run.answers) for run in sweep.runs})
    assert all(0 < run.answered_after.seconds < 20 for run in sweep.runs)
    assert any(each.before.text != each.after.text for each in sweep.runs[-1].answers)


@pytest.mark.skipif(not Path("/proc/self/schedstat").is_file(), reason="only Linux counts what threads wait for")
def test_a_run_says_how_busy_the_machine_was(swept):
    _, sweep = swept
    first, *later = sweep.runs
    assert "loading_waited_cpu_seconds" in first.environment
    assert not any("loading_waited_cpu_seconds" in run.environment for run in later)
    for run in sweep.runs:
        last = run.steps[-1]
        assert run.environment["load_average"] > 0
        assert 0 < last.own_cpu_seconds < run.completed.own_cpu_seconds
        assert 0 <= last.waited_cpu_seconds <= run.completed.waited_cpu_seconds
        assert 0 < run.loss_after.own_cpu_seconds < run.completed.own_cpu_seconds
        assert {"training", "evaluation"} <= times_of(run).slowdowns.keys()


ALONE = """
import hashlib, json, sys
from pathlib import Path
from rankviz import dataset
from rankviz.store import RunStore
from rankviz.worker.journal import set_environment

def facts(model):
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        digest.update(name.encode() + parameter.detach().numpy().tobytes())
    return digest.hexdigest(), [(name, type(module).__name__) for name, module in model.named_modules()]

set_environment()
from rankviz.worker.finetune.base import resolve
from rankviz.worker.journal import admit
from rankviz.worker.finetune.session import Session
from rankviz.worker.stages import Stages
home, run_id = Path(sys.argv[1]), sys.argv[2]
store = RunStore(home)
run = store.get(run_id).request
session = Session.load(run, resolve(admit(store, run)[0], home), dataset.read(run.data), Stages(print))
before = facts(session.model)
session.run(run, lambda event: store.append(run_id, event), store.run_dir(run_id))
(home / "untouched.json").write_text(json.dumps(facts(session.model) == before))
"""


@pytest.fixture(scope="module")
def alone(swept, tiny, tmp_path_factory):
    """The second run of the sweep again, in a process of its own (Unsloth patches the process it is imported into),
    which also compares the base before with the base afterwards."""
    _, sweep = swept
    store = RunStore(tmp_path_factory.mktemp("alone"))
    run_id = store.run_ids(store.create(letters(tiny, sweep.runs[1].request.data, 8)))[0]
    program = subprocess.run(
        [sys.executable, "-c", ALONE, str(store.home), run_id],
        cwd=store.home,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == program.returncode, program.stderr[-2000:]
    return store, store.get(run_id)


def test_a_run_alone_in_a_fresh_process_gives_the_same_losses_as_within_the_sweep(swept, alone):
    """So the base is untouched when an adapter is taken off, and order, split and initialisation are the seed's."""
    (_, sweep), (_, by_itself) = swept, alone

    within = sweep.runs[1]
    assert [step.loss for step in within.steps] == [step.loss for step in by_itself.steps]
    assert within.loss_after.example_losses == by_itself.loss_after.example_losses


def test_taking_the_adapter_off_leaves_every_weight_and_module_of_the_base(alone):
    store, _ = alone

    assert json.loads((store.home / "untouched.json").read_text()) is True


@pytest.mark.slow
def test_a_bad_row_fails_the_sweep_once_and_names_the_row(tiny, tmp_path):
    data = tmp_path / "d.jsonl"
    data.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "a"}\n')
    store = RunStore(tmp_path / "home")
    sweep_id = store.create(questions.sweep(base=str(tiny), data=str(data), ranks=(4, 8)))

    run_to_the_end(store)

    for run in store.sweep(sweep_id).runs:
        assert "Row 2 of d.jsonl has no 'completion', which the first row has." == run.error


@pytest.mark.slow
def test_cancel_during_a_real_run_leaves_no_process(tiny, tmp_path):
    data = write_tiny_data(tmp_path / "letters.jsonl")
    store = RunStore(tmp_path / "home")
    sweep_id = store.create(questions.sweep(base=str(tiny), data=str(data), ranks=(4,), max_steps=100_000))
    supervisor = Supervisor(store)
    supervisor.start()
    run_id = store.run_ids(sweep_id)[0]
    while not store.get(run_id).steps:
        assert not store.get(run_id).state.ended, store.get(run_id).log_tail
        time.sleep(0.1)

    supervisor.cancel(sweep_id)
    supervisor.stop()

    assert RunState.CANCELLED is store.get(run_id).state
    mine = [p.info["cmdline"] for p in psutil.process_iter(["cmdline"]) if run_id in (p.info["cmdline"] or [])]
    assert [] == mine


@pytest.mark.slow
def test_the_embedded_model_learns_the_phonemes_a_little_in_a_few_steps(tmp_path):
    store = RunStore(tmp_path / "home")
    sweep_id = store.create(questions.sweep(base="embedded", data="phonemes", ranks=(4, 16), max_steps=6))

    run_to_the_end(store, 500)

    runs = store.sweep(sweep_id).runs
    assert [RunState.COMPLETED] * 2 == [run.state for run in runs], [run.error + run.log_tail for run in runs]
    # 30 blocks × r × (in + out) over q, o 576+576, k, v 576+192, gate, up, down 576+1536
    assert [30 * r * (2 * 1152 + 2 * 768 + 3 * 2112) for r in (4, 16)] == [run.trainable_parameters for run in runs]
    assert 134_515_008 == runs[0].environment["total_parameters"]
    assert all(run.loss_after.loss < run.loss_before.loss - 1 for run in runs)
    config = json.loads((tmp_path / "home" / "models" / "SmolLM2-135M-Instruct" / "config.json").read_text())
    assert "quantization_config" not in config


@pytest.mark.slow
def test_the_embedded_model_has_the_chat_template_and_the_ends_of_the_original(tmp_path):
    from transformers import AutoTokenizer

    from rankviz.worker.finetune.base import embedded_folder

    tokenizer = AutoTokenizer.from_pretrained(embedded_folder(tmp_path))

    assert ("<|im_start|>", "<|im_end|>") == (tokenizer.bos_token, tokenizer.eos_token)
    assert "<|im_start|>assistant\n" in tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
