"""Imports point down; each library has one home; the page and the command line hold no torch."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from rankviz.paths import IMPORT_ROOT

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "rankviz"

HOMES = {
    "gradio": {"endpoints", "ui"},
    "plotly": {"figures"},
    "choreographer": {"figures"},
    "typer": {"cli"},
    "huggingface_hub": {"hub", "jobs", "worker"},
    "itsdangerous": {"shared"},
    "pydantic": set(),
    "pandas": {"api"},
    "yaml": {"exports"},
    "jinja2": {"exports", "publish"},
    "numpy": {"trained", "verdict", "worker"},
    "scipy": set(),
    "safetensors": {"trained", "worker"},
    "torch": {"worker"},
    "transformers": {"worker"},
    "peft": {"worker"},
    "trl": {"worker"},
    "unsloth": {"worker"},
    "ray": {"jobs"},
}


@cache
def imports(path: Path) -> set[str]:
    """Top-level names of all that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return names


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("library", HOMES)
def test_each_library_has_one_home(library):
    users = {room(path) for path in PACKAGE.rglob("*.py") if any(n.split(".")[0] == library for n in imports(path))}

    assert users <= HOMES[library]


def test_core_imports_the_standard_library_only():
    files = [*(PACKAGE / "core").rglob("*.py"), PACKAGE / "units.py", PACKAGE / "errors.py"]
    names = {name.split(".")[0] for path in files for name in imports(path)}

    assert names - {"rankviz"} <= sys.stdlib_module_names
    assert "dataclasses" in names


def test_nobody_imports_the_worker():
    users = [
        path
        for path in PACKAGE.rglob("*.py")
        if room(path) != "worker" and any(name.startswith("rankviz.worker") for name in imports(path))
    ]

    assert [] == users


def loaded_after(code: str) -> set[str]:
    script = f"{code}\nimport sys; print('\\n'.join(sorted(m for m in sys.modules if '.' not in m)))"
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_the_page_loads_no_torch_and_nothing_that_only_figures_verdicts_adapters_and_ray_need():
    modules = loaded_after("import app; from rankviz import ui; from rankviz.api import Api; ui.build_app(Api())")

    assert "gradio" in modules
    assert not modules & {"torch", "transformers", "peft", "trl", "unsloth", "datasets"}
    assert not modules & {"plotly", "scipy", "safetensors", "ray"}


def test_an_estimate_and_the_evidence_load_neither_pydantic_models_nor_pandas_nor_the_hub():
    modules = loaded_after(
        "from rankviz.api import Api; from rankviz.core.cost.estimate import Question;"
        "from rankviz.paths import ASSETS; from rankviz.catalog.studies import load_evidence; load_evidence(ASSETS);"
        "Api().estimates.estimate(Question(model_id='HuggingFaceTB/SmolLM2-135M'))"
    )

    assert "rankviz" in modules
    assert not modules & {"torch", "pandas", "numpy", "huggingface_hub", "gradio", "plotly", "pydantic", "psutil"}


def test_no_file_names_a_folder_of_one_machine():
    pattern = re.compile(r"/(?:home|root|tmp)/\w")
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    text = {f: (ROOT / f).read_text(errors="ignore") for f in files if f.endswith((".py", ".md", ".toml", "Makefile"))}

    assert [] == [f for f, body in text.items() if pattern.search(body)]


INSIDE = ("gradio.", "gradio_client.", "uvicorn.")  # below them no name is meant for others
ALLOWED = {"_asdict", "_replace", "_exit", "_with_steps", "_name", "_current"}  # documented in Python, and our own
LISTED = {
    "jobs/ray.py": "_do_request",  # ray 2.60, tested in tests/jobs/test_ray.py
    "shared/gate.py": "_query_params _queue",  # starlette 1.10, gradio 6.31
    # gradio 6.31; Python's asyncio.Queue._put is meant to be overridden
    "ui/blocks.py": "_id _put _signals _statuses gradio.blocks.BlocksConfig gradio.processing_utils gradio.routes",
    "ui/serve.py": "uvicorn.protocols.http.auto uvicorn.protocols.http.h11_impl.H11Protocol",  # uvicorn 0.54
    "ui/wiring.py": "_data _id",  # gradio 6.31
}


def taken_from_inside(source: str) -> set[str]:
    """Return private attributes of anything but self and cls, and imported names that are private or below INSIDE."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") not in ("self", "cls"):
            names.add(node.attr)
        elif isinstance(node, ast.ImportFrom) and node.module:
            within = f"{node.module}." if f"{node.module}.".startswith(INSIDE) else ""
            names |= {within + each.name for each in node.names}
    private = {name for name in names if name.startswith("_") and not name.startswith("__")}
    return (private | {name for name in names if name.startswith(INSIDE)}) - ALLOWED


def test_what_is_taken_from_inside_of_libraries_is_listed():
    root = IMPORT_ROOT / "rankviz"
    used = {path.relative_to(root).as_posix(): taken_from_inside(path.read_text()) for path in root.rglob("*.py")}
    used = {file: " ".join(sorted(names)) for file, names in used.items() if names and not file.startswith("worker/")}

    assert LISTED == used
