"""The acceptance suite as a program, where there is no card. What its checks measure is for a card to show."""

import subprocess
import sys

import pytest

from rankviz.core.preflight.checks import uses_gpu
from rankviz.paths import IMPORT_ROOT
from tests.gpu.__main__ import measure
from tests.gpu.bench import Bench
from tests.gpu.checks import Measured
from tests.gpu.suite import CHECKS, AcceptanceCheck


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_there_are_fifteen_checks_each_with_its_number():
    assert list(range(1, 16)) == [check.number for check in CHECKS]


def test_without_a_card_the_suite_says_so_and_checks_nothing(bench, tmp_path):
    if uses_gpu(bench.api.preflight.facts()):
        pytest.skip("there is a GPU here: make test-gpu runs the suite on it")

    run = subprocess.run(
        [sys.executable, "-m", "tests.gpu", "--out", str(tmp_path / "out")],
        cwd=IMPORT_ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )

    assert (0, "") == (run.returncode, run.stderr)
    assert run.stdout.startswith("Skipped: there is no NVIDIA GPU here that torch can use.")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("answer", "ok", "said"),
    [
        (lambda bench: Measured("0.11 GB", True), True, "0.11 GB"),
        (lambda bench: Measured("9 GB", False), False, "9 GB"),
        (lambda bench: 1 / 0, False, "ZeroDivisionError: division by zero"),
    ],
)
def test_a_check_that_breaks_has_failed_and_says_how(bench, capsys, answer, ok, said):
    check = AcceptanceCheck(number=2, what="Embedded base", expected="about 0.11 GB", measure=answer)

    result = measure(check, bench)

    assert (2, ok, said) == (result["number"], result["ok"], result["measured"])
    shown = capsys.readouterr().out
    assert shown.startswith("passed " if ok else "FAILED ")
    assert "expected about 0.11 GB" in shown
