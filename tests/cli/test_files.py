"""What commands read and write: exports, plots, adapters, and paths relative to the caller's folder."""

import json
import re
from pathlib import Path

import pytest

from rankviz.api import Api
from rankviz.cli.runs import plot_sweep
from tests.cli.command import rankviz
from tests.support.models.saved_adapters import two_blocks
from tests.support.runs.finished_runs import finished

EXPORT = ("export", "Qwen/Qwen3-4B", "-r", "8")


def test_an_export_writes_its_files_and_replaces_others_only_when_told_to(tmp_path):
    file, beside = tmp_path / "lf.yaml", tmp_path / "dataset_info.json"
    beside.write_text("{}")
    arguments = (*EXPORT, "--format", "llamafactory", "-o", str(file))

    refused = rankviz(*arguments)
    assert (2, False) == (refused.returncode, file.exists())
    assert "dataset_info.json is there already, with another content." in refused.stderr
    run = rankviz(*arguments, "--force")

    assert [str(file), str(beside)] == run.stdout.splitlines()
    assert {"train", "chats"} == set(json.loads(beside.read_text()))
    assert "lf.yaml" in file.read_text() and "llamafactory.yaml" not in file.read_text()


def test_a_notebook_in_the_callers_folder_is_filled_from_a_data_file_there_and_the_ending_says_the_kind(tmp_path):
    rows = [{"instruction": "Say the letter.", "input": letter, "output": letter * 3} for letter in "abcdefgh"]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = ("--data", "mine.jsonl", "--epochs", "3", "-o", "train.ipynb")

    rankviz(*EXPORT, *files, home=tmp_path / "home", cwd=tmp_path)
    refused = rankviz(*EXPORT, "--format", "colab", "-o", str(tmp_path / "x.py"))

    cells = json.loads((tmp_path / "train.ipynb").read_text())["cells"]
    code = "".join("".join(cell["source"]) for cell in cells)
    assert all(text in code for text in ('data_file = "mine.jsonl"', 'form = "instruction"', "num_train_epochs=3,"))
    assert [] == list((tmp_path / "home").rglob("work/*"))
    assert "The format colab is a .ipynb file: choose a name that ends in .ipynb (got x.py)." in refused.stderr


def figure_of(page: Path) -> tuple[list[dict], dict]:
    """The traces and the layout that a page draws."""
    call = re.search(r"Plotly\.newPlot\(\s*\"[\w-]+\",\s*", text := page.read_text(encoding="utf-8"))
    traces, end = json.JSONDecoder().raw_decode(text, call.end())
    layout, _ = json.JSONDecoder().raw_decode(text, text.index("{", end))
    return traces, layout


def test_estimates_and_sweeps_are_plotted(tmp_path):
    file, api = tmp_path / "memory.html", Api(tmp_path)

    run = rankviz("estimate", "Qwen/Qwen3-4B", "-r", 8, "-r", 64, "--json", "--plot", file, home=tmp_path)
    plot_sweep(api, finished(api, {4: 2.0, 16: 1.5}), tmp_path / "sweep.html")

    assert [8, 64] == [rank["r"] for rank in json.loads(run.stdout)["ranks"]]
    assert f"Plot: {file}\n" == run.stderr
    traces, layout = figure_of(file)
    assert ["base weights", "adapter", "gradients"] == [trace["name"] for trace in traces][:3]
    assert "Memory by component and rank: Qwen/Qwen3-4B" in layout["title"]["text"]
    traces, layout = figure_of(tmp_path / "sweep.html")
    assert 2 == len(next(trace["x"] for trace in traces if trace["mode"] == "markers"))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("plot.pdf", "The name of a plot file ends in .html, .png or .svg (got plot.pdf)."),
        ("mine.html", "mine.html is there already. Choose another, or add --force to replace it."),
    ],
)
def test_a_plot_that_cannot_be_written_is_refused_before_anything_runs(tmp_path, name, sentence):
    (tmp_path / "mine.html").write_text("mine")

    run = rankviz("sweep", "embedded", "--data", "phonemes", "--plot", tmp_path / name, home=tmp_path / "home")

    assert (2, "") == (run.returncode, run.stdout)
    assert sentence in run.stderr
    assert not (tmp_path / "home" / "runs").exists()


def test_an_adapter_has_the_contracts_keys_a_sentence_and_is_resized(tmp_path):
    folder = two_blocks(tmp_path / "mine")

    result = json.loads(rankviz("spectrum", folder, "--json", home=tmp_path).stdout)
    text = rankviz("spectrum", folder, home=tmp_path).stdout
    run = rankviz("resize", folder, "-r", 2, "-o", tmp_path / "new", "--json", home=tmp_path)
    resized = json.loads(run.stdout)

    assert (4, 4) == (result["r"], len(result["layers"]))
    assert {"0.9", "0.99"} == result["rank_for_energy"].keys() == result["layers"][0]["rank_for_energy"].keys()
    assert ["model.layers.1.self_attn.v_proj"] == result["dead"]
    assert text.startswith("Trained with r = 4; r = 4 keeps 99 % of the update's energy, r = 2 keeps 90 %.")
    assert ["q_proj", "2", "4"] == next(line.split()[:3] for line in text.splitlines() if "q_proj" in line)
    assert (2, 4, 160) == (resized["r"], resized["lora_alpha"], resized["adapter_parameters"])
    assert (tmp_path / "new" / "adapter_model.safetensors").stat().st_size == resized["adapter_bytes"]
