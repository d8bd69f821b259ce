"""Files and folders named relative to the caller's folder, which is not that of RankViz."""

import json
import shutil
from functools import partial

import pytest

from rankviz.api import Api
from rankviz.paths import ASSETS
from tests.cli import command
from tests.support.models.saved_adapters import two_blocks
from tests.support.runs.finished_runs import finished

rankviz = partial(command.rankviz, HF_HUB_OFFLINE="1")
ROWS = "".join(json.dumps({"prompt": "a" * n, "completion": "b"}) + "\n" for n in range(1, 9))
LOSSES = "rank,seed,example,loss\n" + "".join(f"{r},{s},{e},1.{r}{e}\n" for r in (4, 8) for s in (0, 1) for e in (0, 1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The caller's folder, with one file of each kind in a folder below it."""
    there = tmp_path_factory.mktemp("caller")
    mine = there / "mine"
    two_blocks(mine / "adapter")
    (mine / "rows.jsonl").write_text(ROWS)
    (mine / "losses.csv").write_text(LOSSES)
    shutil.copy(ASSETS / "validation" / "cpu_probes.csv", mine / "measured.csv")
    (mine / "llama").mkdir()
    shutil.copy(ASSETS / "configs" / "HuggingFaceTB__SmolLM2-135M.json", mine / "llama" / "config.json")
    return there


@pytest.mark.parametrize(
    "words",
    [
        "estimate Qwen/Qwen3-4B --data mine/rows.jsonl",
        "fit Qwen/Qwen3-4B --gpu L4 --data ./mine/rows.jsonl",
        "advise Qwen/Qwen3-4B --data mine/../mine/rows.jsonl",
        "export Qwen/Qwen3-4B --data mine/rows.jsonl -o train.py",
        "estimate mine/llama --json --plot memory.html",
        "verdict mine/losses.csv",
        "validate mine/measured.csv -o report.json",
        "spectrum mine/adapter",
        "resize mine/adapter -r 2 -o smaller",
    ],
)
def test_a_path_is_relative_to_the_callers_folder(folder, tmp_path, words):
    run = rankviz(*words.split(), home=tmp_path / "home", cwd=folder)

    assert (0, "") == (run.returncode, run.stderr if run.returncode else "")


def test_runs_are_exported_to_and_imported_from_the_callers_folder(folder, tmp_path):
    sweep = finished(Api(tmp_path / "here"), {4: 1.0})

    exported = rankviz("runs", "export", sweep.sweep_id, "-o", "mine/runs.zip", home=tmp_path / "here", cwd=folder)
    imported = rankviz("runs", "import", "mine/runs.zip", home=tmp_path / "there", cwd=folder)

    assert ["mine/runs.zip\n", f"{sweep.runs[0].run_id}\n"] == [exported.stdout, imported.stdout]
    assert (folder / "mine" / "runs.zip").is_file()
