"""Which GPU training uses, as NVML answers, the processor, and what is installed."""

import sys
from types import SimpleNamespace

import pytest

from rankviz import machine
from rankviz.core.preflight import numbers
from rankviz.machine import software
from rankviz.machine.cards import chosen, only, read_driver, usable, worker_environment
from rankviz.visitor import HOST, Visitor, acting_as

GIB = 2**30


class Nvml:
    """As pynvml: `cards` are (name, GiB)."""

    class NVMLError(Exception):
        pass

    def __init__(self, *cards, cuda=13000, driver=True):
        """A card of None GiB gives no memory, as one that shares the machine's."""
        self.cards, self.driver, self.open = cards, driver, 0
        self.nvmlSystemGetCudaDriverVersion_v2 = lambda: cuda
        self.nvmlSystemGetDriverVersion = lambda: "580.95"
        self.nvmlDeviceGetCount = lambda: len(cards)
        self.nvmlDeviceGetName = lambda handle: handle.name
        self.nvmlDeviceGetUUID = lambda handle: handle.uuid
        self.nvmlDeviceGetCudaComputeCapability = lambda handle: (9, 0)

    def nvmlInit(self):
        if not self.driver:
            raise self.NVMLError("Driver Not Loaded")
        self.open += 1

    def nvmlShutdown(self):
        self.open -= 1

    def nvmlDeviceGetHandleByIndex(self, index):
        name, size = self.cards[index]
        return SimpleNamespace(index=index, name=name, size=size, uuid=f"GPU-{index}abc")

    def nvmlDeviceGetMemoryInfo(self, handle):
        if handle.size is None:
            raise self.NVMLError("Not Supported")
        return SimpleNamespace(total=handle.size * GIB, used=GIB)


TWO = Nvml(("Small", 8), ("Large", 24))


def card(nvml, **environ):
    found = chosen(read_driver(nvml), environ)
    assert 0 == nvml.open
    return (found.name, found.memory_bytes // GIB) if found else None


def test_of_two_cards_the_larger_is_used_and_it_alone_is_visible_to_a_worker():
    assert ("Large", 24) == card(TWO)
    assert {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "GPU-1abc"} == worker_environment({}, TWO)


@pytest.mark.parametrize(
    ("visible", "name"), [("0", "Small"), ("1,0", "Large"), ("GPU-0a", "Small"), ("", None), ("-1", None), ("7", None)]
)
def test_cuda_visible_devices_decides_where_it_is_set(visible, name):
    found = card(TWO, CUDA_VISIBLE_DEVICES=visible)

    assert name == (found and found[0])


def test_a_slice_of_a_card_is_used_with_its_memory_unknown():
    a_slice = chosen(read_driver(Nvml(("H100", 80))), {"CUDA_VISIBLE_DEVICES": "MIG-1"})

    assert ("H100", "MIG-1", None, (9, 0)) == (a_slice.name, a_slice.uuid, a_slice.memory_bytes, a_slice.capability)


FOUR = read_driver(Nvml(("T4", 16), ("L4", 24), ("L4", 24), ("T4", 16)))


@pytest.mark.parametrize(
    ("visible", "indices"), [(None, [1, 2]), ("GPU-3abc,GPU-1abc", [3, 1]), ("1,9,2", [1]), ("", [])]
)
def test_the_gpus_that_are_used_at_once_are_those_named_or_else_those_alike(visible, indices):
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}

    assert indices == [each.index for each in usable(FOUR, environ)]
    assert () == usable(None, environ)


def test_a_worker_is_shown_its_card_by_what_means_the_same_card_in_any_order():
    assert {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "GPU-2abc"} == only(FOUR.cards[2])


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
