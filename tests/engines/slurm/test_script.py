"""The batch script, run by a shell as a node runs it."""

import os
import subprocess
import sys

import pytest

from rankviz.core.runs.events import DISK_FULL, MODELS_VARIABLE
from rankviz.engines.slurm.papers import keep_room, read_exit_code
from rankviz.engines.slurm.script import batch_script, passed
from tests.support.processes.hostile_disks import small_disk

HOSTILE = """a b'c"d$(touch injected)`touch injected`;touch injected\\%j"""


def run(folder, command, variables=None):
    folder.mkdir()
    keep_room(folder)
    (folder / "batch.sh").write_text(batch_script(folder, command, variables or {}, folder.parent / "models"))
    return subprocess.run(["sh", folder / "batch.sh"], cwd=folder.parent, capture_output=True, text=True)


@pytest.mark.parametrize(
    "program, exit_code",
    [
        ("pass", 0),
        ("raise SystemExit(3)", 3),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9),
        ("import os, signal; os.kill(os.getppid(), signal.SIGTERM); raise SystemExit(4)", 4),
    ],
)
def test_the_exit_code_of_the_worker_is_written_down(tmp_path, program, exit_code):
    """Also where the script gets a SIGTERM, which Slurm sends to all of a job."""
    done = run(tmp_path / "job", [sys.executable, "-c", program])

    assert exit_code == read_exit_code(tmp_path / "job")
    assert (exit_code if exit_code >= 0 else 128 - exit_code) == done.returncode


def test_a_worker_that_cannot_be_started_has_a_shell_s_exit_code(tmp_path):
    done = run(tmp_path / "job", [str(tmp_path / "no-python")])

    assert 127 == read_exit_code(tmp_path / "job")
    assert "no-python" in done.stderr


def test_on_a_full_disk_it_is_written_down_all_the_same():
    with small_disk(1) as disk:
        run(disk / "job", ["sh", "-c", f"cat /dev/zero > {disk / 'filler'}; exit {DISK_FULL}"])

        assert DISK_FULL == read_exit_code(disk / "job")


def test_before_the_worker_has_ended_there_is_none(tmp_path):
    keep_room(tmp_path)

    assert read_exit_code(tmp_path) is None
    assert read_exit_code(tmp_path / "gone") is None


def test_the_words_of_a_folder_a_command_and_a_variable_stay_words(tmp_path):
    folder = tmp_path / HOSTILE.replace("/", "")

    done = run(
        folder, [sys.executable, "-c", "import os, sys; print(sys.argv[1], os.environ['V'])", HOSTILE], {"V": HOSTILE}
    )

    assert (f"{HOSTILE} {HOSTILE}\n", 0) == (done.stdout, read_exit_code(folder))
    assert [] == [*tmp_path.rglob("injected")]


def test_where_its_folder_has_gone_nothing_is_run(tmp_path):
    script = batch_script(tmp_path / "gone", ["touch", str(tmp_path / "ran")], {}, tmp_path / "models")

    assert 1 == subprocess.run(["sh", "-c", script], capture_output=True).returncode
    assert [] == [*tmp_path.iterdir()]


def test_where_bases_are_is_passed_on_and_no_token(monkeypatch):
    monkeypatch.setenv("HF_HOME", "/disk/hub")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")

    assert "/disk/hub" == passed()["HF_HOME"]
    assert "hf_secret" not in passed().values()


@pytest.mark.parametrize("is_there", [True, False])
def test_the_embedded_base_is_that_of_the_runs_folder_or_else_one_of_the_node(tmp_path, is_there):
    home = tmp_path / HOSTILE.replace("/", "")
    (home / "slurm-jobs").mkdir(parents=True)
    if is_there:
        (home / "models" / "SmolLM2").mkdir(parents=True)
    folder = home / "slurm-jobs" / "job"
    folder.mkdir()
    program = f"import os; open('models', 'w').write(os.environ[{MODELS_VARIABLE!r}])"
    (folder / "batch.sh").write_text(batch_script(folder, [sys.executable, "-c", program], {}, home / "models"))

    subprocess.run(["sh", folder / "batch.sh"], check=True)

    of_node = home / "slurm-jobs" / "models" / os.uname().nodename
    assert str(home / "models" if is_there else of_node) == (folder / "models").read_text()
