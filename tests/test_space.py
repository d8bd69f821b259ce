"""The repository as a Hugging Face Space and as an image: their settings, and app.py in the environment of a Space."""

import json
import re
import subprocess
import sys
import threading
import tomllib
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from rankviz.ui.parts.question import DEFAULTS
from tests.support.web.serving import serving

ROOT = Path(__file__).parents[1]
DROPPED_LOOP = re.compile(
    r"Exception ignored in: <function BaseEventLoop.__del__.*?Invalid file descriptor: -1\n", re.S
)
"""Gradio makes event loops that nobody closes; Python prints this when it collects one."""
SPACE = {"SYSTEM": "spaces", "SPACE_ID": "someone/rankviz", "GRADIO_SERVER_NAME": "0.0.0.0"}


@pytest.fixture(scope="module")
def settings():
    return yaml.safe_load((ROOT / "README.md").read_text("utf-8").split("---\n")[1])


def test_the_settings_are_what_spaces_offer(settings):
    """https://huggingface.co/docs/hub/spaces-config-reference, spaces-oauth and spaces-zerogpu."""
    (gradio,) = [each for each in listed("requirements.txt") if "gradio" == each.name]
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["requires-python"]

    assert len(settings["short_description"]) <= 60
    assert ("gradio", "mini", "cpu-basic") == (settings["sdk"], settings["header"], settings["suggested_hardware"])
    assert (ROOT / settings["app_file"]).is_file()
    assert settings["sdk_version"] in gradio.specifier
    assert settings["python_version"] in SpecifierSet(ours) and settings["python_version"] in ("3.10.13", "3.12.12")
    assert set(settings["hf_oauth_scopes"]) <= {"email", "contribute-repos", "inference-api", "jobs"}


def listed(name: str) -> list[Requirement]:
    lines = (ROOT / name).read_text("utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_a_space_installs_the_page_without_the_trainer():
    light, train = ({each.name for each in listed(name)} for name in ("requirements.txt", "requirements-train.txt"))

    assert {"torch", "unsloth", "transformers", "peft", "trl", "datasets"} <= train
    assert set() == light & train


EXTRAS = {path.stem.removeprefix("requirements-") for path in ROOT.glob("requirements-*.txt")} - {"test"}


@pytest.mark.parametrize("name", ["requirements.txt", *(f"requirements-{extra}.txt" for extra in sorted(EXTRAS))])
def test_a_requirements_file_stands_alone(name):
    """While a Gradio Space is built, requirements.txt is the only file there."""
    assert [] == re.findall(r"^\s*-.*", (ROOT / name).read_text("utf-8"), re.M)


def instructions(name: str) -> list[str]:
    """The arguments of each of these instructions of the Dockerfile."""
    text = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    return re.findall(rf"^{name} (.+)$", text, re.M)


def test_the_image_has_all_that_it_copies():
    sources = [word for line in instructions("COPY") for word in line.split()[1:-1]]

    assert {"requirements.txt", "requirements-train.txt", "rankviz", "assets"} <= set(sources)
    assert [] == [source for source in sources if not (ROOT / source).exists()]
    kept = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert "*" == kept[0]
    assert [] == [source for source in sources if not any(Path(source).match(line[1:]) for line in kept[1:-1])]


def test_an_image_for_the_cpu_is_not_built_without_pytorch_for_the_cpu():
    environment = {"TRAINER": "cpu", "TORCH_INDEX": "", "PATH": ""}
    run = subprocess.run(["/bin/sh", "-c", instructions("RUN")[0]], env=environment, capture_output=True, text=True)

    assert (1, True) == (run.returncode, run.stderr.startswith("TRAINER=cpu needs --build-arg TORCH_INDEX"))


def health_check(address: str) -> int:
    """The exit code of the image's own check, asked of this server."""
    (line,) = instructions("HEALTHCHECK")
    command = line.partition("CMD ")[2].replace("python", sys.executable, 1)
    port = address.rpartition(":")[2]
    return subprocess.run(["sh", "-c", command], env={"GRADIO_SERVER_PORT": port}, stderr=subprocess.DEVNULL).returncode


@pytest.fixture(scope="module")
def python(tmp_path_factory, settings) -> Path:
    """Of an environment with what a Gradio Space installs, in the words of its build log."""
    folder = tmp_path_factory.mktemp("space")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", python]
    gradio = f"gradio[oauth,mcp]=={settings['sdk_version']}"
    wanted = ["-r", ROOT / "requirements.txt", gradio, "uvicorn>=0.14.0", "websockets>=10.4", "spaces"]
    subprocess.run([*pip, "install", *wanted], check=True)
    subprocess.run([*pip, "check"], check=True)
    return python


def read(url: str) -> bytes:
    with urllib.request.urlopen(url) as answer:
        return answer.read()


@pytest.mark.install
def test_app_py_serves_a_space_as_it_is_built(python, tmp_path):
    with serving(tmp_path, SPACE, python) as address:
        page, health = read(address), json.loads(read(f"{address}/rankviz/health"))
        estimated = json.loads(answer_to(address, {"values": {**DEFAULTS, "model": "meta-llama/Llama-3.1-8B"}}))
        checked = health_check(address)
        log = DROPPED_LOOP.sub("", (tmp_path / "app.log").read_text())

    assert b'data-space="someone/rankviz"' in page
    assert health["home_writable"] is True
    assert "notice" not in estimated
    assert (0, 1) == (checked, health_check(address))
    assert "Traceback" not in log


def answer_to(address: str, question: dict) -> bytes:
    body = json.dumps(question).encode()
    return read(urllib.request.Request(f"{address}/rankviz/answer", body, {"Content-Type": "application/json"}))


@pytest.mark.install
def test_zero_gpu_hears_of_the_start_or_it_would_end_the_space(python, tmp_path):
    paths = []

    class DeviceApi(BaseHTTPRequestHandler):
        def do_POST(self):
            paths.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), DeviceApi)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    zero = {"SPACES_ZERO_GPU": "true", "SPACES_ZERO_DEVICE_API_URL": f"http://127.0.0.1:{server.server_port}"}

    with serving(tmp_path, SPACE | zero, python) as address:
        assert b"RankViz" in read(address)
    server.shutdown()
    server.server_close()

    assert ["/startup-report"] == paths
