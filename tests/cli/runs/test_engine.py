"""`rankviz sweep --engine NAME`: what is not set up is said before anything is queued."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("engine", "sentence"),
    [("ray", "No Ray cluster is set up here. Set RANKVIZ_RAY_ADDRESS"), ("moon", "There is no engine 'moon'. Known:")],
)
def test_an_engine_that_cannot_be_used_is_a_mistake_of_one_line(tmp_path, engine, sentence):
    run = subprocess.run(
        [sys.executable, "-m", "rankviz", "sweep", "embedded", "--data", "phonemes", "--engine", engine],
        cwd=ROOT,
        env={**os.environ, "RANKVIZ_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=1200,
    )

    assert 2 == run.returncode
    assert run.stderr.startswith(sentence)
    assert 1 == len(run.stderr.splitlines())
    assert not list((tmp_path / "home").glob("runs/*"))
