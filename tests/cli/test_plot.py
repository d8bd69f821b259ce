"""`--plot FILE` of estimate, sweep and spectrum."""

import json
import re
from pathlib import Path

import pytest

from rankviz.cli.shared import plot_sweep
from rankviz.verdict import judge, losses_of
from tests.cli.command import rankviz
from tests.support.runs.finished_runs import plain_sweep


def figure_of(page: Path) -> tuple[list[dict], dict]:
    """The traces and the layout that a page draws."""
    call = re.search(r"Plotly\.newPlot\(\s*\"[\w-]+\",\s*", text := page.read_text(encoding="utf-8"))
    traces, end = json.JSONDecoder().raw_decode(text, call.end())
    layout, _ = json.JSONDecoder().raw_decode(text, text.index("{", end))
    return traces, layout


def test_an_estimate_is_plotted_as_memory_by_component_and_rank_beside_the_json(tmp_path):
    file = tmp_path / "memory.html"

    run = rankviz("estimate", "Qwen/Qwen3-4B", "-r", 8, "-r", 64, "--json", "--plot", file, home=tmp_path)

    assert [8, 64] == [rank["r"] for rank in json.loads(run.stdout)["ranks"]]
    assert f"Plot: {file}\n" == run.stderr
    traces, layout = figure_of(file)
    assert ["base weights", "adapter", "gradients"] == [trace["name"] for trace in traces][:3]
    assert ["8", "64"] == traces[0]["x"]
    assert "Memory by component and rank: Qwen/Qwen3-4B" in layout["title"]["text"]


def test_a_sweep_is_plotted_as_quality_against_adapter_size(tmp_path):
    sweep = plain_sweep({4: 2.0, 16: 1.5})

    plot_sweep(tmp_path / "sweep.html", sweep, judge(losses_of(sweep.runs)))

    traces, layout = figure_of(tmp_path / "sweep.html")
    assert [4.0, 16.0] == next(trace["x"] for trace in traces if trace["mode"] == "markers+text")
    assert "SmolLM2-135M-Instruct on phonemes, r = 4, 16" in layout["title"]["text"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("plot.pdf", "The name of a plot file ends in .html, .png or .svg (got plot.pdf)."),
        ("nowhere/plot.html", "does not exist. Create it first."),
        ("mine.html", "mine.html is there already. Choose another name or folder, or add --force to replace it."),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_anything_runs(tmp_path, name, sentence):
    (tmp_path / "mine.html").write_text("mine")

    for command in (
        ("estimate", "Qwen/Qwen3-4B"),
        ("sweep", "embedded", "--data", "phonemes"),
        ("spectrum", "no-such-adapter"),
    ):
        run = rankviz(*command, "--plot", tmp_path / name, home=tmp_path / "home")

        assert (2, "") == (run.returncode, run.stdout)
        assert sentence in run.stderr
    assert not (tmp_path / "home" / "runs").exists()
