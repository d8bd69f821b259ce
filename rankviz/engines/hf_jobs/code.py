"""This package as one file, and the command line that starts it in a job.

RankViz is not on a package index under a version that a job could name, so its own files travel with the job: what the
page runs is what the job runs.
"""

import hashlib
import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata

from rankviz.paths import ASSETS, IMPORT_ROOT

NEEDED = ("pydantic-settings", "filelock", "psutil", "PyYAML", "threadpoolctl", "nvidia-ml-py")
"""What the worker imports beside the trainer, by the names in requirements.txt."""
LEFT_OUT = (".css", ".js", ".png", ".svg", ".woff2", ".pyc")
SCRIPT = r"""
set -e
here=$(mktemp -d)
for python in /opt/venv/bin/python python3 python; do
  if "$python" -c 'import importlib.util as u; raise SystemExit(u.find_spec("unsloth") is None)' 2>/dev/null
  then break; else python=; fi
done
if [ -n "$python" ]; then
  "$python" -m zipfile -e "$1" "$here"
  export PYTHONPATH="$here:$here/packages" PYTHONUNBUFFERED=1
  "$python" -c 'import filelock, psutil, pydantic_settings, pynvml, threadpoolctl, yaml' 2>/dev/null ||
    "$python" -m pip install --quiet --target "$here/packages" -r "$here/needed.txt"
else
  uv run --no-project python -m zipfile -e "$1" "$here"
  export PYTHONPATH="$here" PYTHONUNBUFFERED=1
  python="uv run --no-project --with-requirements $here/needed.txt --with-requirements $here/trainer.txt python"
fi
shift
exec $python -m rankviz.engines.inside "$@"
"""
"""Unsloth's image has everything in a virtual environment, and a second set would be installed beside it; a plain image
has uv. Its own argument is the file; the rest are for `inside`."""


@cache
def archive() -> tuple[str, bytes]:
    """(its name, with a digest of what is in it; a zip that a job unpacks)."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        for folder, prefix in ((IMPORT_ROOT / "rankviz", "rankviz"), (ASSETS, "rankviz/assets")):
            for path in sorted(folder.rglob("*")):
                if path.is_file() and path.suffix not in LEFT_OUT and "__pycache__" not in path.parts:
                    _write(file, f"{prefix}/{path.relative_to(folder)}", path.read_bytes())
        page, trainer = _requirements("requirements.txt"), _requirements("requirements-train.txt", extra="train")
        _write(file, "needed.txt", "\n".join(page[name.lower()] for name in NEEDED).encode())
        # The embedded base is fetched by pip, which a uv environment lacks.
        _write(file, "trainer.txt", "\n".join([*trainer.values(), "pip"]).encode())
    data = content.getvalue()
    return f"code/rankviz-{hashlib.sha256(data).hexdigest()[:16]}.zip", data


def command(archive_path: str, sent: str, back: str, worker: Sequence[str] = ()) -> Sequence[str]:
    """What a job runs. archive_path, sent, back: as the job sees them; worker: instead of the true one."""
    return ["sh", "-c", SCRIPT, "rankviz", archive_path, sent, back, *worker]


def _requirements(name: str, extra: str = "") -> Mapping[str, str]:
    """Requirements with their ranges, by name: of a checkout's file, or of the installed package."""
    file = IMPORT_ROOT / name
    if file.exists():
        found = [line for line in file.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    else:
        listed = metadata.requires("rankviz") or []
        found = [each.partition(";")[0].strip() for each in listed if extra == _extra_of(each)]
    return {re.split(r"[^A-Za-z0-9._-]", line)[0].lower().replace("_", "-"): line for line in found}


def _extra_of(requirement: str) -> str:
    match = re.search(r"""extra\s*==\s*['"]([^'"]+)""", requirement)
    return match[1] if match else ""


def _write(file: zipfile.ZipFile, name: str, data: bytes) -> None:
    """With one date, so that the same files make the same zip."""
    file.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
