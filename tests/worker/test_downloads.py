"""A download that goes on past its limit: its worker ends with what fetches, and every run of the job says why."""

import os
import subprocess
import sys
import time

import psutil

from rankviz.paths import IMPORT_ROOT
from tests.support.processes.workers import sweep

FETCHES = """
import subprocess, sys, time
from pathlib import Path
from rankviz.core.runs.attempts import Attempt
from rankviz.store import RunStore
from rankviz.worker.finetune.main import _download_bounded
from rankviz.worker.journal import Journal

home, cache, *run_ids = sys.argv[1:]
store, attempts = RunStore(Path(home)), [Attempt(run_id, 1) for run_id in run_ids]
store.begin(*attempts[0])
fetch = f"f = open('{cache}/large', 'wb')\\nwhile True: f.write(bytes(10**6)); f.flush()"
with _download_bounded(store, Journal(store, *attempts[0]), attempts):
    fetcher = subprocess.Popen([sys.executable, "-c", fetch], start_new_session=True)
    print(fetcher.pid, flush=True)
    time.sleep(60)
"""


def test_a_download_is_stopped_at_its_limit_with_its_process_and_all_its_runs(store, tmp_path):
    run_ids, cache = sweep(store, 4, 8), tmp_path / "cache"
    cache.mkdir()
    limits = {"RANKVIZ_SHARED": "1", "RANKVIZ_MAX_BASE_PARAMETERS": "1000000", "HF_HUB_CACHE": str(cache)}
    environment = {**os.environ, **limits, "PYTHONPATH": str(IMPORT_ROOT)}

    worker = subprocess.run(
        [sys.executable, "-c", FETCHES, str(store.home), str(cache), *run_ids],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )

    assert 1 == worker.returncode
    while psutil.pid_exists(int(worker.stdout)) and psutil.Process(int(worker.stdout)).status() != "zombie":
        time.sleep(0.02)
    for run_id in run_ids:
        assert store.get(run_id).error.startswith("The download of this base was stopped at 6.0 MB")
