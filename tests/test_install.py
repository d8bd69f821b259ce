"""The wheel in a fresh environment without the trainer, and the repository as a Space and as an image."""

import json
import os
import re
import subprocess
import sys
import tomllib
import urllib.request
import zipfile
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from rankviz.ui.parts.question import DEFAULTS
from tests.support.processes.environments import PIP, over, packages
from tests.support.web.loopback import Answering, Loopback
from tests.support.web.serving import serving

ROOT = Path(__file__).parents[1]
HOW_TO_ADD = "needs the trainer, which is not installed: run pip install '.[train]' in the RankViz folder to add it."


@dataclass(frozen=True)
class Environment:
    """A fresh virtual environment with the wheel and its dependencies."""

    folder: Path
    wheel: Path
    installed_bytes: int
    """What the installation added, the bytecode that pip compiles included."""

    def run(self, *command: str) -> subprocess.CompletedProcess:
        """A command of the environment, from a folder that has nothing of RankViz in it."""
        return subprocess.run(
            [self.folder / "bin" / command[0], *command[1:]],
            cwd=self.folder,
            env=self.variables(),
            capture_output=True,
            text=True,
        )

    def python(self, code: str) -> str:
        run = self.run("python", "-c", code)
        assert 0 == run.returncode, run.stderr
        return run.stdout.strip()

    def variables(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        return kept | {"RANKVIZ_HOME": str(self.folder / "home"), "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def light(tmp_path_factory) -> Environment:
    folder, wheels = tmp_path_factory.mktemp("light"), tmp_path_factory.mktemp("wheels")
    subprocess.run([*PIP, "wheel", "--no-deps", "--wheel-dir", wheels, ROOT], check=True)
    (wheel,) = wheels.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    before = bytes_in(folder)
    subprocess.run([*PIP, "--python", folder / "bin" / "python", "install", wheel], check=True)
    return Environment(folder=folder, wheel=wheel, installed_bytes=bytes_in(folder) - before)


@pytest.mark.install
def test_the_wheel_holds_the_package_and_its_assets_and_nothing_else(light):
    tracked = subprocess.run(
        ["git", "ls-files", "rankviz", "assets"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()

    names = {name for name in zipfile.ZipFile(light.wheel).namelist() if ".dist-info/" not in name}

    source = {f"rankviz/{name}" if name.startswith("assets/") else name for name in tracked}
    assert source - {"rankviz/assets/screenshot.png"} == names


@pytest.mark.install
def test_the_wheel_asks_for_what_the_requirements_files_list(light):
    archive = zipfile.ZipFile(light.wheel)
    (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    required = [Requirement(line) for line in message_from_bytes(archive.read(name)).get_all("Requires-Dist")]

    files = {f"requirements-{extra}.txt": f'extra == "{extra}"' for extra in ("train", "png", "trackio", "ray", "mcp")}
    for file, marker in ({"requirements.txt": None} | files).items():
        lines = (ROOT / file).read_text().splitlines()
        listed = {canonicalize_name(Requirement(line).name) for line in lines if not line.startswith("#")}
        assert listed == {
            canonicalize_name(each.name) for each in required if marker == (each.marker and str(each.marker))
        }


@pytest.mark.install
def test_the_light_install_has_no_trainer_and_takes_under_600_mb(light):
    libraries = ("torch", "transformers", "unsloth", "pyarrow", "gradio")
    importable = light.python(
        f"from importlib.util import find_spec; print([name for name in {libraries} if find_spec(name)])"
    )

    assert "['gradio']" == importable
    assert light.installed_bytes < 600e6


@pytest.mark.install
def test_an_estimate_from_any_folder(light):
    question = ("estimate", "Qwen/Qwen3-4B", "-r", "16", "--json")

    command, module = light.run("rankviz", *question), light.run("python", "-m", "rankviz", *question)

    assert (0, "") == (command.returncode, command.stderr)
    # Worked out: 36 blocks × 16 × (q 6656 + k 3584 + v 3584 + o 6656 + gate, up, down 12288 each).
    (row,) = json.loads(command.stdout)["ranks"]
    assert 33_030_144 == row["adapter_parameters"]
    assert command.stdout == module.stdout
    assert (ROOT / "assets" / "SKILL.md").read_text() == light.run("rankviz", "skill").stdout


@pytest.mark.install
@pytest.mark.parametrize(
    ("command", "activity"),
    [
        (("sweep", "embedded", "--data", "phonemes"), "Training"),
        (("estimate", "someone/something"), "Reading a model that is not in the catalogue"),
    ],
)
def test_what_needs_the_trainer_says_how_to_add_it(light, command, activity):
    run = light.run("rankviz", *command)

    assert (2, f"{activity} {HOW_TO_ADD}\n") == (run.returncode, run.stderr)


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
def python(tmp_path_factory, settings, light) -> Path:
    """Of an environment with what a Gradio Space installs, in the words of its build log."""
    gradio = f"gradio[oauth,mcp]=={settings['sdk_version']}"
    wanted = ["-r", ROOT / "requirements.txt", gradio, "uvicorn>=0.14.0", "websockets>=10.4", "spaces"]
    return over(packages(light.folder), tmp_path_factory.mktemp("space"), *wanted)


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


class DeviceApi(Answering):
    def answer(self):
        self.paths.append(self.path)
        self.reply({})


@pytest.mark.install
def test_zero_gpu_hears_of_the_start_or_it_would_end_the_space(python, tmp_path):
    server = Loopback(DeviceApi, paths=(paths := []))
    zero = {"SPACES_ZERO_GPU": "true", "SPACES_ZERO_DEVICE_API_URL": server.url}

    with serving(tmp_path, SPACE | zero, python) as address:
        assert b"RankViz" in read(address)
    server.stop()

    assert ["/startup-report"] == paths
