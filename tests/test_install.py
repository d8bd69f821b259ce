"""The wheel in a fresh environment without the trainer: what works there, and what says how to add the rest."""

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
HOW_TO_ADD = "needs the trainer, which is not installed: run pip install '.[train]' in the RankViz folder to add it."

pytestmark = pytest.mark.install


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
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", wheels, ROOT], check=True)
    (wheel,) = wheels.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    before = bytes_in(folder)
    subprocess.run([*pip, "--python", folder / "bin" / "python", "install", wheel], check=True)
    return Environment(folder=folder, wheel=wheel, installed_bytes=bytes_in(folder) - before)


def test_the_wheel_holds_the_package_and_its_assets_and_nothing_else(light):
    tracked = subprocess.run(
        ["git", "ls-files", "rankviz", "assets"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()

    names = {name for name in zipfile.ZipFile(light.wheel).namelist() if ".dist-info/" not in name}

    source = {f"rankviz/{name}" if name.startswith("assets/") else name for name in tracked}
    assert source - {"rankviz/assets/screenshot.png"} == names


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


def test_the_light_install_has_no_trainer_and_takes_under_600_mb(light):
    libraries = ("torch", "transformers", "unsloth", "pyarrow", "gradio")
    importable = light.python(
        f"from importlib.util import find_spec; print([name for name in {libraries} if find_spec(name)])"
    )

    assert "['gradio']" == importable
    assert light.installed_bytes < 600e6


def test_an_estimate_from_any_folder(light):
    question = ("estimate", "Qwen/Qwen3-4B", "-r", "16", "--json")

    command, module = light.run("rankviz", *question), light.run("python", "-m", "rankviz", *question)

    assert (0, "") == (command.returncode, command.stderr)
    # Worked out: 36 blocks × 16 × (q 6656 + k 3584 + v 3584 + o 6656 + gate, up, down 12288 each).
    (row,) = json.loads(command.stdout)["ranks"]
    assert 33_030_144 == row["adapter_parameters"]
    assert command.stdout == module.stdout
    assert (ROOT / "assets" / "SKILL.md").read_text() == light.run("rankviz", "skill").stdout


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
