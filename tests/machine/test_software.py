"""What is installed, read from files, and the trial's answer, whatever becomes of its process."""

import subprocess
import sys

import pytest

from rankviz.machine import software
from rankviz.visitor import HOST, Visitor, acting_as
from tests.support.processes.workers import wait_for


@pytest.mark.parametrize(
    ("text", "cuda"),
    [
        ("from typing import Optional\n__version__ = '2.14.1+cu130'\ncuda: Optional[str] = '13.0'\n", (13, 0)),
        ("__version__ = '2.9.0'\ncuda = '12.8'\nhip = None\n", (12, 8)),
        ("__version__ = '2.14.1+cpu'\ncuda: Optional[str] = None\n", None),
    ],
)
def test_the_cuda_that_torch_is_built_for_is_read_without_importing_it(tmp_path, text, cuda):
    (tmp_path / "version.py").write_text(text)

    build = software._torch_build(tmp_path)

    assert cuda == software._numbers(build.get("cuda"))
    assert build["__version__"].startswith("2.")


def test_the_native_libraries_of_bitsandbytes_say_which_cuda_they_are_for(tmp_path):
    for name in ("libbitsandbytes_cpu.so", "libbitsandbytes_cuda118.so", "libbitsandbytes_cuda130.so", "nn"):
        (tmp_path / name).touch()

    assert ((11, 8), (13, 0)) == software._built_for(tmp_path)
    assert () == software._built_for(None)


def test_each_is_told_of_a_missing_trainer_what_they_can_do_whoever_asked_before(monkeypatch):
    monkeypatch.setattr("rankviz.installed._has", lambda packages: False)

    def missing(visitor):
        with acting_as(visitor):
            return software.read().missing

    for _ in range(2):
        assert "Training needs the trainer, which this page does not have." == missing(Visitor("ann"))
        assert "pip install" in missing(HOST)


def run(program: str, timeout_s: float = 600.0):
    return software.run(command=(sys.executable, "-c", f"import json, os, time\n{program}"), timeout_s=timeout_s)


SAY = "say = lambda **message: print(json.dumps(message), flush=True)\n"
TORCH = SAY + "say(starting='importing torch')\nsay(name='importing torch', ok=True, found='torch', seconds=1.0)\n"


def test_the_steps_come_in_order_and_what_libraries_print_is_left_out():
    steps = run(TORCH + "print('Unsloth: hello')\nsay(name='importing Unsloth', ok=False, found='no', seconds=0.5)")

    assert [("importing torch", True, 1.0), ("importing Unsloth", False, 0.5)] == [
        (step.name, step.ok, step.seconds) for step in steps
    ]


def test_a_process_that_dies_is_a_failed_step_that_says_where():
    *_, last = run(TORCH + "say(starting='compiling a kernel')\nos._exit(7)")

    assert (False, "It ended with code 7 while compiling a kernel") == (last.ok, last.found)


def test_a_process_that_hangs_is_stopped_and_says_where(monkeypatch, tmp_path):
    has_begun, wait = tmp_path / "has begun", subprocess.Popen.wait

    def until_then(process, timeout=None):
        wait_for(lambda: timeout is None or has_begun.exists())
        return wait(process, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", until_then)
    begins = f"say(starting='importing Unsloth')\nopen({str(has_begun)!r}, 'w')\n"
    *_, last = run(f"{TORCH}{begins}time.sleep(600)", timeout_s=1.0)

    assert (False, "It was stopped at its time limit while importing Unsloth") == (last.ok, last.found)
    assert last.seconds < 50


@pytest.mark.torch
def test_on_this_machine_the_true_trial_imports_what_training_uses():
    steps = {step.name: step for step in software.run()}

    assert {"importing torch", "importing Unsloth"} <= set(steps)
    assert all(step.ok for step in steps.values()), steps
    assert steps["importing torch"].found.startswith("torch 2.")
