"""The processor, what is installed, read from files, and the trial's answer, whatever becomes of its process."""

import sys

import pytest

from rankviz import machine
from rankviz.core.preflight import numbers
from rankviz.machine import software
from rankviz.visitor import HOST, Visitor, acting_as


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

    assert cuda == (numbers(build.get("cuda", "")) or None)
    assert build["__version__"].startswith("2.")


def test_the_native_libraries_of_bitsandbytes_say_which_cuda_they_are_for(tmp_path):
    for name in ("libbitsandbytes_cpu.so", "libbitsandbytes_cuda118.so", "libbitsandbytes_cuda130.so", "nn"):
        (tmp_path / name).touch()

    assert ((11, 8), (13, 0)) == software._built_for(tmp_path)
    assert () == software._built_for(None)


def test_each_is_told_of_a_missing_trainer_what_they_can_do_whoever_asked_before(monkeypatch):
    monkeypatch.setattr("rankviz.installed.has", lambda *libraries: False)

    def missing(visitor):
        with acting_as(visitor):
            return software.read().missing

    for _ in range(2):
        assert "Training needs the trainer, which this page does not have." == missing(Visitor("ann"))
        assert "pip install" in missing(HOST)


@pytest.mark.parametrize(
    ("program", "ok", "found"),
    [
        ("print('torch 2.14 uses the CPU')", True, "torch 2.14 uses the CPU"),
        ("import os; os._exit(7)", False, "It ended with code 7: no message"),
        ("raise ImportError('no libcudart')", False, "It ended with code 1: ImportError: no libcudart"),
        ("import time; time.sleep(600)", False, "Importing the libraries did not end within its time limit"),
    ],
)
def test_a_trial_says_what_became_of_its_process(program, ok, found):
    seconds = 1.0 if "sleep" in program else 600.0

    trial = software.run(command=(sys.executable, "-c", program), timeout_s=seconds)

    assert ("ok" if ok else "problem", f"{found}.") == (trial.state, trial.found)


@pytest.mark.parametrize(
    ("line", "flags", "known"),
    [
        ("flags", "fpu sse2 avx2 fma", False),
        ("flags", "fpu avx2 avx512f avx512vl", True),  # PyTorch's kernels stand in for bf16
        ("Features", "fp asimd bf16 i8mm", True),  # Arm
        ("model name", "a processor", None),
    ],
)
def test_whether_a_processor_is_made_for_bf16(monkeypatch, line, flags, known):
    monkeypatch.setattr(machine, "_cpuinfo", lambda name: flags if name == line else "")

    assert known is machine.cpu_bf16()
