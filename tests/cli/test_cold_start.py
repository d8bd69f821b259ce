"""`rankviz estimate --json` starts cold at every call of a program, so it imports its own command and little else."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ESTIMATE = ["rankviz", "estimate", "Qwen/Qwen3-4B", "-r", "16", "--gpu", "L4", "--json"]
HEAVY = {"torch", "numpy", "pandas", "pydantic_settings", "plotly", "gradio", "huggingface_hub", "psutil"}


def test_an_estimate_loads_its_own_command_no_heavy_library_and_no_room_that_it_does_not_need():
    code = f"import sys; sys.argv = {ESTIMATE!r}; from rankviz.cli import main; main(); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(run.stdout.splitlines()[-1].split())

    commands = {name for name in loaded if name.startswith("rankviz.cli.")}
    assert {f"rankviz.cli.{name}" for name in ("commands", "estimates", "shared")} == commands
    assert not loaded & {*HEAVY, "rich.table"}
    rooms = ("store", "hub", "verdict", "figures", "export", "ui", "settings")
    assert not {".".join(name.split(".")[:2]) for name in loaded} & {f"rankviz.{room}" for room in rooms}
