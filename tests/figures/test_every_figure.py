"""What all figures share, and that a notebook needs nothing but plain objects."""

import json
import subprocess
import sys

import pytest

from rankviz import figures
from rankviz.api import Api
from rankviz.figures.cost import MemoryInfo

SWEEP = Api().runs.recorded()[0]
VERDICT = Api().verdicts.of_sweep(SWEEP.sweep_id)


@pytest.mark.parametrize(
    ("figure", "info"),
    [
        (figures.sweep_figure, figures.sweep_info([(SWEEP, VERDICT)])),
        (figures.sweep_figure, figures.sweep_info([(SWEEP, VERDICT)], x="adapter")),
        (figures.training_figure, figures.training_info([SWEEP])),
        (figures.memory_figure, MemoryInfo()),
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
