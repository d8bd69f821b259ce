"""Plotly figures of RankViz. `x_info` computes what a figure shows as a named tuple; `x_figure` draws the tuple.

    from rankviz import Api, figures

    sweep = Api().runs.sweeps()[0]
    verdict = Api().verdicts.of_sweep(sweep.sweep_id)
    figures.sweep_figure(figures.sweep_info([(sweep, verdict)])).show()

Only this package uses Plotly, and imports it when the first figure is drawn. A colour has one meaning everywhere
(style.py). The page's stylesheet sets the colours of text, grid and hover, so a change of theme needs no new drawing.
"""

# ruff: noqa: F401 - what this module offers

from rankviz.figures.accuracy import accuracy_figure, accuracy_info
from rankviz.figures.adapter import (
    energy_figure,
    energy_info,
    modules_figure,
    modules_info,
    spectrum_figure,
    spectrum_info,
)
from rankviz.figures.cost import memory_figure, memory_info, parameters_figure, parameters_info
from rankviz.figures.hero import X_LABELS, hero_figure, hero_info
from rankviz.figures.studies import studies_figure, studies_info
from rankviz.figures.style import plot_file, write_figure
from rankviz.figures.sweep import COST_AXES, sweep_figure, sweep_info
from rankviz.figures.training import training_figure, training_info
