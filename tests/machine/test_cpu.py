"""What the kernel says of this machine's processor."""

import pytest

from rankviz import machine


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
