"""Finds what is installed for training: reads files, and tries the libraries in a worker process with a time limit."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from rankviz import installed
from rankviz.children import TRAINING_VARIABLES, environment
from rankviz.core.preflight import Check, Software, numbers
from rankviz.errors import redacted
from rankviz.machine.cards import worker_environment
from rankviz.paths import IMPORT_ROOT


def read() -> Software:
    """Return the installed software that a GPU run needs, with a sentence on what is missing."""
    torch = _torch_build(_folder("torch"))
    return Software(
        torch=torch.get("__version__") or "",
        torch_cuda=numbers(torch.get("cuda", ""))[:2] or None,
        compiler=compiler(),
        has_headers=Path(sysconfig.get_paths()["include"], "Python.h").is_file(),
        bitsandbytes=version_of("bitsandbytes"),
        bitsandbytes_cuda=_built_for(_folder("bitsandbytes")),
        transformers=version_of("transformers"),
        unsloth_zoo=version_of("unsloth_zoo"),
        missing=installed.missing("the trainer", "Training"),
    )


def version_of(name: str) -> str:
    """Return the version of an installed distribution; empty where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def compiler(environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the C compiler that Triton would call (triton/runtime/build.py): CC where it is set, as one program
    without arguments, else gcc or clang; None where there is no such program."""
    path = environ.get("PATH")
    if (cc := environ.get("CC")) is not None:
        return shutil.which(cc, path=path)
    return shutil.which("gcc", path=path) or shutil.which("clang", path=path)


def _torch_build(folder: Path | None) -> dict[str, str]:
    """Return the texts in torch/version.py by name (__version__, cuda), without those that are None."""
    if folder is None or not (folder / "version.py").is_file():
        return {}
    text = (folder / "version.py").read_text(encoding="utf-8")
    return dict(re.findall(r"""^(\w+)(?::[^=\n]+)?\s*=\s*['"]([^'"]*)['"]""", text, re.MULTILINE))


def _built_for(folder: Path | None) -> tuple[tuple[int, int], ...]:
    """Return the CUDA versions of bitsandbytes' native libraries: (13, 0) for libbitsandbytes_cuda130.so."""
    names = sorted(path.name for path in folder.glob("libbitsandbytes_cuda*")) if folder else []
    matches = (re.search(r"_cuda(\d\d)(\d+)\.", name) for name in names)
    return tuple((int(each[1]), int(each[2])) for each in matches if each)


def _folder(package: str) -> Path | None:
    spec = find_spec(package)
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


COMMAND = (sys.executable, "-m", "rankviz.worker", "preflight")
MEND = "Training would fail here too. Mend this first."
TIMEOUT_S = 180.0  # seconds for the trial: importing Unsloth takes up to a minute on a cold disk


def run(*, command: Sequence[str] = COMMAND, timeout_s: float = TIMEOUT_S) -> Check:
    """Run the training libraries for a trial in a process of their own, and return the result."""
    path = [str(IMPORT_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = {**environment(TRAINING_VARIABLES), **worker_environment(), "PYTHONPATH": os.pathsep.join(path)}
    streams = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "errors": "replace"}
    try:
        with tempfile.TemporaryDirectory(prefix="rankviz-") as scratch:  # Unsloth writes its compiled cache into it
            ran = subprocess.run(command, cwd=scratch, env=variables, timeout=timeout_s, **streams)
    except subprocess.TimeoutExpired:
        return Check("trial", "problem", "Importing the libraries did not end within its time limit.", MEND)
    last = ((ran.stderr if ran.returncode else ran.stdout).strip().splitlines() or ["no message"])[-1]
    if ran.returncode == 0:
        return Check("trial", "ok", f"{last}.")
    return Check("trial", "problem", f"It ended with code {ran.returncode}: {redacted(last)}.", MEND)
