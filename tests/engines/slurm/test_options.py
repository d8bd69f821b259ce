"""What the owner of a server may ask sbatch for."""

import subprocess
import sys

import pytest

from rankviz.engines.known import engines
from rankviz.engines.slurm.options import check_options, nodes_of, python_command
from rankviz.engines.slurm.script import batch_script
from rankviz.errors import InvalidSettingError
from rankviz.settings import Settings, read


def test_options_of_resources_time_and_account_are_taken_as_they_are():
    options = ["--gres=gpu:a100:1", "--time=4:00:00", "--account=lab", "--exclusive"]

    assert tuple(options) == check_options(options)


@pytest.mark.parametrize(
    "option", ["--wrap=rm -rf ~", "--job-name=x", "--output=x.log", "--export=ALL", "--requeue", "--array=1-9"]
)
def test_an_option_by_which_the_engine_finds_its_job_is_refused(option):
    with pytest.raises(InvalidSettingError, match="RANKVIZ_SLURM_OPTIONS cannot have '--"):
        check_options(["--time=5", option])


@pytest.mark.parametrize("option", ["--tim=5", "-t5", "time=5", "--time 5", "script.sh", ""])
def test_an_option_is_written_in_full(option):
    with pytest.raises(InvalidSettingError, match="--name=value, with one of these names: account, "):
        check_options([option])


@pytest.mark.parametrize(
    ("options", "gpus", "has_gpu"),
    [
        (["--gres=gpu:1"], [], True),
        (["--gres=gpu"], [], True),
        (["--gpus=2"], [], True),
        (["--time=5", "--gres=gpu:a100:1"], ["A100"], True),
        (["--gpus=h100:1"], ["H100"], True),
        (["--gpus-per-node=a100:1"], ["A100"], True),
        (["--gpus-per-node=1"], [], True),
        (["--gres=shard:2,gpu:l4:1"], ["L4"], True),
        (["--gres=shard:2", "--mem=32G"], [], False),
        ([], [], False),
    ],
)
def test_the_gpu_of_a_job_is_what_its_options_ask_for(options, gpus, has_gpu):
    assert (gpus, has_gpu, "") == tuple(nodes_of(options))


def test_it_is_offered_where_its_owner_has_set_it_up_and_slurm_is_there(store, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    def slurm(**variables):
        for name in ("RANKVIZ_SLURM_PARTITION", "RANKVIZ_ENGINE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return next(engine for engine in engines(store, read(Settings)) if engine.name == "slurm")

    assert slurm(RANKVIZ_SLURM_PARTITION="gpu").why_not().startswith("There is no sbatch on this machine.")
    for name in ("sbatch", "squeue", "scancel"):
        (tmp_path / name).touch(mode=0o755)
    assert slurm().why_not().startswith("Slurm is not set up here. Set RANKVIZ_SLURM_PARTITION")
    assert "" == slurm(RANKVIZ_ENGINE="slurm").why_not()
    offered = slurm(RANKVIZ_SLURM_PARTITION="gpu")
    assert ("", "Slurm cluster, partition gpu") == (offered.why_not(), offered.title)


def test_a_python_may_be_a_command_of_several_words():
    assert ["apptainer", "exec", "--nv", "my image.sif", "python"] == python_command(
        "apptainer exec --nv 'my image.sif' python"
    )


def test_a_python_may_be_in_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/disk/ann")

    assert ["/disk/ann/venv/bin/python", "-X", "~"] == python_command("~/venv/bin/python -X ~")


@pytest.mark.parametrize(
    "text",
    [
        "$HOME/venv/bin/python",
        '"$HOME/venv/bin/python"',
        'nice "$HOME/venv/bin/python"',
        "srun '$SCRATCH/venv/bin/python'",
        "srun -c 4 '$HOME/venv/bin/python'",
        'apptainer exec --bind "$HOME/x:/x" rankviz.sif python',
        "apptainer exec --bind=$HOME/x:/x rankviz.sif python",
        "bash -c 'module load cuda' $HOME/venv/bin/python",
    ],
)
def test_a_variable_that_no_shell_would_fill_in_is_refused(text):
    with pytest.raises(InvalidSettingError, match=r"RANKVIZ_SLURM_PYTHON cannot be .*: variables are not filled in"):
        python_command(text)


@pytest.mark.parametrize(
    "program", ["""'exec "$PYTHON" "$@"'""", r"""'it=\; exec "$PYTHON" "$@"'""", r'"exec \"$PYTHON\" \"$@\""']
)
@pytest.mark.parametrize("option", ["-c", "-ce", "-Eeuc"])
def test_a_shell_of_the_setting_s_own_fills_in_its_variables(tmp_path, program, option):
    command = [*python_command(f"env PYTHON={sys.executable} bash {option} {program} bash"), "-c", "print(7)"]
    script = tmp_path / "batch.sh"
    script.write_text(batch_script(tmp_path, command, {}, tmp_path))

    assert "7\n" == subprocess.run(["sh", script], capture_output=True, text=True).stdout


def test_a_quote_that_does_not_close_is_refused():
    with pytest.raises(InvalidSettingError, match="RANKVIZ_SLURM_PYTHON"):
        python_command("python 'x")


def test_slurm_is_the_engine_of_runs_that_name_none_where_the_server_says_so(store, monkeypatch):
    monkeypatch.setenv("RANKVIZ_ENGINE", "slurm")

    assert "slurm" == engines(store, read(Settings))[0].name


def test_a_server_with_a_wrong_option_says_so_when_it_starts(store, monkeypatch):
    monkeypatch.setenv("RANKVIZ_SLURM_OPTIONS", '["--wrap=x"]')

    with pytest.raises(InvalidSettingError, match="RANKVIZ_SLURM_OPTIONS cannot have '--wrap=x'"):
        engines(store, read(Settings))
