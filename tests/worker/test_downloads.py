"""A download that goes on past its limit: its worker ends with what fetches, and every run of the job says why."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from rankviz.paths import IMPORT_ROOT
from rankviz.worker.downloads import DownloadLimit
from tests.support.processes.workers import sweep

FETCHES = """
import subprocess, sys, time
from pathlib import Path
from rankviz.core.runs.events import Attempt
from rankviz.store import RunStore
from rankviz.worker.finetune.main import _download_bounded
from rankviz.worker.journal import Journal

home, cache, *run_ids = sys.argv[1:]
store, attempts = RunStore(Path(home)), [Attempt(run_id, 1) for run_id in run_ids]
store.begin(*attempts[0])
blobs = Path(cache, "models--a--large", "blobs")
blobs.mkdir(parents=True)
fetch = f"f = open('{blobs}/large', 'wb')\\nwhile True: f.write(bytes(10**6)); f.flush()"
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


@pytest.fixture
def cache(tmp_path):
    """(the cache's folder, a function that writes a file into a repository there and returns its path)"""

    def write(repository, name, size):
        blobs = tmp_path / f"models--a--{repository}" / "blobs"
        blobs.mkdir(parents=True, exist_ok=True)
        (blobs / name).write_bytes(bytes(size))
        return blobs / name

    return tmp_path, write


def test_what_other_workers_fetch_into_the_same_cache_ends_no_run(cache):
    folder, write = cache
    errors = []
    limit = DownloadLimit(folder, 6000, errors.append)

    write("others", "x", 70_000)
    with write("own", "x", 4096).open("rb"):
        limit.look()
    assert [] == errors

    write("own", "y", 4096)
    limit.look()
    assert 1 == len(errors)


def test_a_repository_counts_while_only_its_lock_is_open(cache):
    folder, write = cache
    errors = []
    limit = DownloadLimit(folder, 6000, errors.append)
    lock = folder / ".locks" / "models--a--own" / "x.lock"
    lock.parent.mkdir(parents=True)

    write("own", "x", 8192)
    with lock.open("w"):
        limit.look()

    assert 1 == len(errors)


def test_a_base_that_is_removed_meanwhile_makes_no_room_for_a_download(cache):
    folder, write = cache
    errors, base = [], write("own", "old", 8192)
    limit = DownloadLimit(folder, 6000, errors.append)
    base.unlink()
    limit.look()

    with write("own", "x", 8192).open("rb"):
        limit.look()

    assert 1 == len(errors)
