"""app.py as a process: what it keeps where, and what its workers see of it."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.web.ports import free_port

ROOT = Path(__file__).parents[2]


def test_a_shared_page_keeps_bases_in_its_runs_folder_and_its_memory_from_its_workers(tmp_path):
    """One's own keeps bases where all programs do, and can be looked into by one's own programs."""
    is_dumpable = "ctypes.CDLL(None).prctl(3)"  # PR_GET_DUMPABLE
    shows = f"print(os.environ.get('HF_HUB_CACHE'), {is_dumpable}, flush=True), os._exit(0)"
    code = f"import ctypes, os; from rankviz.ui import serve; serve.build_app = lambda api: ({shows}); serve.serve()"
    env = {name: value for name, value in os.environ.items() if name != "HF_HUB_CACHE"}
    env |= {"RANKVIZ_HOME": str(tmp_path), "GRADIO_SERVER_PORT": str(free_port())}

    def found(shared: str) -> str:
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command, cwd=ROOT, env=env | {"RANKVIZ_SHARED": shared}, capture_output=True, text=True, check=True
        )
        return done.stdout.strip().splitlines()[-1]

    assert f"{tmp_path / 'hub'} 0" == found("true")
    assert "None 1" == found("false")
