"""Virtual environments that tests install something into."""

import subprocess
import sys
import sysconfig
from pathlib import Path

PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")


def over(beneath: Path, folder: Path, *wanted: object) -> Path:
    """The Python of a new environment over another one's packages: what is wanted goes before what is installed there,
    and all of it must go together."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages(folder) / "beneath.pth").write_text(f"{beneath}\n")
    python = folder / "bin" / "python"
    subprocess.run([*PIP, "--python", python, "install", "--no-compile", *wanted], check=True)
    subprocess.run([*PIP, "--python", python, "check"], check=True)
    return python


def packages(folder: Path) -> Path:
    """Where an environment keeps what is installed in it."""
    return Path(sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})["purelib"])
