"""What all figures share, and that a notebook needs nothing but plain objects."""

import json
import subprocess
import sys

import pytest

from rankviz import figures
from rankviz.api import Api
from rankviz.figures.adapter import NO_ADAPTER, NO_SPECTRUM


def test_every_figure_is_transparent_and_has_a_height():
    drawn = [
        figures.accuracy_figure(figures.AccuracyInfo([], "GiB", None)),
        figures.energy_figure(figures.EnergyInfo()),
        figures.compare_figure(figures.CompareInfo([], "x", "y", False, [], "Nothing is pinned.", [])),
        figures.hero_figure(figures.HeroInfo([], [], "", [], "x", "y", False, [], [], "Select a GPU.")),
        figures.memory_figure(figures.MemoryInfo()),
        figures.modules_figure(NO_ADAPTER),
        figures.parameters_figure(figures.ParametersInfo([], [], [], r=8)),
        figures.rank_curve_figure(figures.RankCurveInfo()),
        figures.spectrum_figure(NO_SPECTRUM),
        figures.tradeoff_figure(figures.TradeoffInfo([], x_title="x", y_title="y")),
        figures.training_figure(figures.TrainingInfo([])),
        figures.verdict_figure(figures.VerdictInfo()),
    ]

    assert {"rgba(0,0,0,0)"} == {figure.layout.paper_bgcolor for figure in drawn}
    assert all(figure.layout.height for figure in drawn)
    assert all(figure.layout.annotations[0].text for figure in drawn)


SWEEP = Api().runs.recorded()[0]
VERDICT = Api().verdicts.of_sweep(SWEEP.sweep_id).verdict


@pytest.mark.parametrize(
    ("figure", "info"),
    [
        (figures.rank_curve_figure, figures.rank_curve_info(SWEEP, VERDICT)),
        (figures.tradeoff_figure, figures.tradeoff_info([SWEEP])),
        (figures.training_figure, figures.training_info([SWEEP])),
        (figures.verdict_figure, figures.verdict_info(VERDICT)),
        (figures.memory_figure, figures.MemoryInfo()),
    ],
)
def test_a_page_gets_what_plotly_makes_of_the_same_figure_once_it_is_checked(figure, info):
    drawing, checked = figure.drawing(info), figure(info).to_dict()

    assert json.loads(json.dumps(drawing["data"])) == checked["data"]
    assert {name: value for name, value in drawing["layout"].items() if value != []} == checked["layout"]


def test_what_a_page_draws_needs_no_plotly():
    program = """
import sys
from rankviz.figures import training_figure, training_info
from tests.support.runs.finished_runs import plain_sweep
training_figure.drawing(training_info([plain_sweep({4: 2.0, 16: 1.5})]))
print("plotly" in sys.modules)
"""

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "False" == done.stdout.strip()


def test_every_figure_has_an_info_of_the_same_name():
    names = {name.removesuffix("_figure") for name in figures.__all__ if name.endswith("_figure")} - {"write"}

    assert names == {name.removesuffix("_info") for name in figures.__all__ if name.endswith("_info")}
    assert names == {name.removesuffix("Info").lower() for name in figures.__all__ if name.endswith("Info")} - {
        "rankcurve"
    } | {"rank_curve"}


def test_an_info_needs_neither_plotly_nor_gradio():
    program = """
import sys
from rankviz.figures import tradeoff_info, training_info
from tests.support.runs.finished_runs import plain_sweep
sweep = plain_sweep({4: 2.0, 16: 1.5}, seeds=(0, 1))
tradeoff_info([sweep]), training_info([sweep])
print(sorted({"plotly", "gradio", "pandas"} & set(sys.modules)))
"""

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "[]" == done.stdout.strip()
