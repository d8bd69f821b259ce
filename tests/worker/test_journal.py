"""What every worker sets before it imports anything."""

import os
import subprocess
import sys

import pytest

CODE = "import os; from rankviz.worker.journal import set_environment; set_environment(); print(os.environ.get({!r}))"


def after(name, **environ):
    """A variable's value in a process with these variables that has set its environment."""
    inherited = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    command = [sys.executable, "-c", CODE.format(name)]
    return subprocess.run(command, env={**inherited, **environ}, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize(
    ("environ", "spins"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
)
def test_threads_sleep_soon_where_they_wait_unless_the_user_has_set_how(environ, spins):
    assert spins == after("GOMP_SPINCOUNT", **environ)
