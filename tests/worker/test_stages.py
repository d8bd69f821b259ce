"""What a worker writes of its stages, and how it follows a download that another program makes."""

import http.server
import json
import os
import subprocess
import sys
import threading

from rankviz.core.runs.events import StageProgressed, StageReached
from rankviz.paths import bytes_on_disk
from rankviz.worker.downloads import HubDownload, weight_bytes
from rankviz.worker.stages import Stages

MB = 10**6


def words(events):
    """Stages by name, and progress as (done, total, unit)."""
    return [each.stage if isinstance(each, StageReached) else (each.done, each.total, each.unit) for each in events]


def test_a_stage_that_is_over_at_once_has_no_progress():
    events = []
    stages = Stages(events.append, every_seconds=3600.0)

    stages.begin("evaluating the base")
    for done in range(1, 65):
        stages.progress(done, 64, "examples")

    assert ["evaluating the base"] == words(events)


def test_progress_is_written_once_its_time_has_passed():
    events = []
    stages = Stages(events.append, every_seconds=0.0)

    stages.begin("evaluating the base")
    stages.progress(8, 64, "examples")

    assert ["evaluating the base", (8, 64, "examples")] == words(events)
    assert isinstance(events[1], StageProgressed)


def test_while_one_thread_waits_another_one_watches():
    events, looked = [], threading.Event()
    stages = Stages(events.append, every_seconds=0.0)

    def look():
        stages.progress(1, None, "modules")
        looked.set()

    with stages.watched(look):
        assert looked.wait(120)
    written = len(events)

    assert (1, None, "modules") == words(events)[-1]
    assert written == len(events)
    assert "stages" not in [thread.name for thread in threading.enumerate()]


def test_while_modules_are_imported_their_number_is_told(monkeypatch):
    events = []
    written = threading.Event()

    def log(event):
        events.append(event)
        if event.done >= 3:
            written.set()

    stages = Stages(log, every_seconds=0.0)
    with stages.imports(len(sys.modules) + 10):
        for number in range(3):
            monkeypatch.setitem(sys.modules, f"module_{number}", None)
        assert written.wait(120)

    assert (3, 10, "Python modules") == words(events)[-1]


class Cache:
    """The cache of the Hub's client, as a download fills it."""

    def __init__(self, folder):
        self.folder = folder
        self.blobs = folder / "models--owner--name" / "blobs"
        self.blobs.mkdir(parents=True)

    def holds(self, name, size):
        (self.blobs / name).write_bytes(b"x" * size)


def test_a_download_is_a_stage_of_its_own_with_the_bytes_that_are_missing(tmp_path):
    cache, events = Cache(tmp_path), []
    cache.holds("part-1", 10 * MB)
    download = HubDownload(Stages(events.append, every_seconds=0.0), tmp_path, {"owner/name": 40 * MB}.get)

    download.of("owner/name")
    had = bytes_on_disk(cache.blobs)
    download.look()
    assert [] == events
    cache.holds("part-2.incomplete", 12 * MB)
    come = bytes_on_disk(cache.blobs) - had
    download.look()
    assert ["downloading the base", (come, 40 * MB - had, "bytes")] == words(events)
    (cache.blobs / "part-2.incomplete").unlink()
    cache.holds("part-2", 30 * MB)
    download.look()
    download.look()

    assert ["loading the base"] == words(events)[2:]
    assert 12 * MB <= come < 13 * MB


def test_configuration_and_tokenizer_are_too_small_for_a_stage(tmp_path):
    cache, events = Cache(tmp_path), []
    download = HubDownload(Stages(events.append, every_seconds=0.0), tmp_path, {}.get)

    download.of("owner/name")
    cache.holds("config.json", MB)
    download.look()

    assert [] == events


def test_where_the_hub_does_not_say_how_much_comes_the_total_is_not_known(tmp_path):
    def fails(repository):
        raise OSError("no answer")

    for number, size_of in enumerate((fails, {}.get)):
        cache, events = Cache(tmp_path / str(number)), []
        download = HubDownload(Stages(events.append, every_seconds=0.0), cache.folder, size_of)
        download.of("owner/name")
        cache.holds("part-1.incomplete", 6 * MB)
        download.look()

        assert (bytes_on_disk(cache.blobs), None, "bytes") == words(events)[-1]


def test_the_weights_of_a_repository_are_its_safetensors_or_else_pytorchs_files():
    both = [("model-1.safetensors", 5), ("model-2.safetensors", 7), ("pytorch_model.bin", 12), ("config.json", 1)]

    assert 12 == weight_bytes(both)
    assert 12 == weight_bytes([*both, ("original/model.safetensors", 99), ("consolidated.safetensors", 99)])
    assert 4 == weight_bytes([("pytorch_model.bin", 4), ("config.json", 1)])
    assert weight_bytes([("model.safetensors", None)]) is None
    assert weight_bytes([("config.json", 1)]) is None


FETCH = """
import json, sys, threading
from pathlib import Path
from huggingface_hub import hf_hub_download
from rankviz.core.runs.events import StageReached
from rankviz.worker.downloads import HubDownload
from rankviz.worker.stages import Stages

endpoint, cache, half_told = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
events = []

def log(event):
    reached = isinstance(event, StageReached)
    events.append(event.stage if reached else [event.done, event.total])
    if not reached and event.done >= 10_000_000:
        half_told.touch()

stages = Stages(log, every_seconds=0.02)
download = HubDownload(stages, cache, lambda repository: 24_000_000)
download.of("owner/name")
with stages.watched(download.look):
    hf_hub_download("owner/name", "model.safetensors", cache_dir=cache, endpoint=endpoint)
download.look()
print(json.dumps(events))
"""


def test_a_download_by_the_hubs_own_client_is_followed(tmp_path):
    """The server sends the second half only once the first has been told."""
    content, half_told, waiting = b"x" * 24_000_000, tmp_path / "half told", threading.Event()

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200)
            headers = {"ETag": '"etag"', "X-Repo-Commit": "c" * 40, "Content-Length": str(len(content))}
            for header in headers.items():
                self.send_header(*header)
            self.end_headers()

        def do_GET(self):
            self.do_HEAD()
            self.wfile.write(content[:12_000_000])
            for _ in range(12_000):
                if half_told.exists():
                    break
                waiting.wait(0.05)
            self.wfile.write(content[12_000_000:])

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        arguments = [f"http://127.0.0.1:{server.server_port}", str(tmp_path / "cache"), str(half_told)]
        environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1"}
        done = subprocess.run(
            [sys.executable, "-c", FETCH, *arguments], env=environment, capture_output=True, text=True, check=False
        )
        server.shutdown()

    assert 0 == done.returncode, done.stderr[-2000:]
    first, *reports, last = json.loads(done.stdout)
    assert ("downloading the base", "loading the base") == (first, last)
    assert {24_000_000} == {total for _, total in reports}
    assert half_told.exists()
    assert [come for come, _ in reports] == sorted(come for come, _ in reports)
