"""Nothing of a cluster outlives the tests, also where these are killed."""

import signal
import subprocess
import sys

from rankviz.paths import IMPORT_ROOT
from tests.support.processes.guard import having
from tests.support.processes.workers import wait_for

TESTS = """
import os, subprocess, sys
subprocess.Popen([sys.executable, "-m", "tests.support.processes.guard", "PLACE", sys.argv[1]],
                 stdin=subprocess.PIPE, start_new_session=True)
of_cluster = {**os.environ, "PLACE": sys.argv[1]}
subprocess.Popen(["setsid", "sh", "-c", "sleep 901 & sleep 902; true"], env=of_cluster, start_new_session=True)
print("started", flush=True)
sys.stdin.read()
"""


def test_what_tests_that_were_killed_have_started_ends_and_its_folder_goes(tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    tests = subprocess.Popen(
        [sys.executable, "-c", TESTS, str(place)], cwd=IMPORT_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert b"started\n" == tests.stdout.readline()
    wait_for(lambda: 3 == len(having("PLACE", str(place))))

    tests.send_signal(signal.SIGKILL)
    tests.communicate()

    wait_for(lambda: not having("PLACE", str(place)) and not place.exists())
