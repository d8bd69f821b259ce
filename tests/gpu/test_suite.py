"""The acceptance suite as a program, where there is no card. What its checks measure is for a card to show."""

import subprocess
import sys

from rankviz.machine import cards
from rankviz.paths import IMPORT_ROOT
from tests.gpu.checks import CHECKS


def test_without_a_card_the_suite_of_fifteen_says_so_and_checks_nothing(tmp_path):
    assert list(range(1, 16)) == [check.number for check in CHECKS]
    if cards.chosen(cards.read_driver()):
        return  # make test-gpu runs the suite on it
    command = [sys.executable, "-m", "tests.gpu", "--out", str(tmp_path / "out")]

    run = subprocess.run(command, cwd=IMPORT_ROOT, capture_output=True, text=True, timeout=600, check=False)

    assert (0, "") == (run.returncode, run.stderr)
    assert run.stdout.startswith("Skipped: there is no NVIDIA GPU here that torch can use.")
    assert not (tmp_path / "out").exists()
