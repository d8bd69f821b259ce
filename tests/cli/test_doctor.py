"""`rankviz doctor`: what this machine trains on, and the exit code."""

import json
import os
import subprocess
import sys

from tests.cli.command import ROOT, rankviz


def test_the_doctor_says_what_this_machine_trains_on(tmp_path):
    run = rankviz("doctor", "--quick", "--json", home=tmp_path / "home")

    answer = json.loads(run.stdout)
    assert {"ready", "device", "device_name", "device_memory_bytes", "driver", "torch", "torch_cuda", "checks"} == set(
        answer
    )
    assert {"ok", "warning", "problem", "not needed"} >= {check["state"] for check in answer["checks"]}
    assert {"trainer", "device", "bf16", "disk", "Hub"} <= {check["name"] for check in answer["checks"]}
    assert answer["ready"] == (0 == run.returncode)


def test_the_doctors_exit_code_is_1_where_training_would_fail(tmp_path):
    """No GPU is needed to see it: without the trainer's libraries nothing trains."""
    hidden = (
        "import sys, importlib.util as u; find = u.find_spec; "
        "u.find_spec = lambda name, *a: None if name == 'unsloth' else find(name, *a); "
        "sys.argv = ['rankviz', 'doctor', '--quick']; from rankviz.cli import main; main()"
    )
    run = subprocess.run(
        [sys.executable, "-c", hidden],
        cwd=ROOT,
        env=os.environ | {"RANKVIZ_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )

    assert 1 == run.returncode, run.stderr
    assert "Not ready: 1 problem to solve first." in run.stdout
