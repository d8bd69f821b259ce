"""Figures of RankViz, each with its numbers as rows and their source. The two figures that bring sources together have
their content apart, as a named tuple (`sweep_info`, `hero_info`).

    from rankviz import Api, figures

    sweep = Api().runs.sweeps()[0]
    figures.training_figure([sweep]).plotly().show()
    verdict = Api().verdicts.of_sweep(sweep.sweep_id)
    figures.sweep_figure(figures.sweep_info([(sweep, verdict)])).plotly().show()

Only this package uses Plotly, and imports it for `plotly()` and files. A colour has one meaning everywhere (style.py).
The page's stylesheet sets the colours of text, grid and hover, so a change of theme needs no new drawing.
"""

# ruff: noqa: F401 - what this module offers

from rankviz.figures.adapter import energy_figure, modules_figure, spectrum_figure
from rankviz.figures.cost import accuracy_figure, memory_figure, parameters_figure
from rankviz.figures.hero import X_LABELS, hero_figure, hero_info, studies_figure
from rankviz.figures.style import plot_file, write_figure
from rankviz.figures.sweep import COST_AXES, sweep_figure, sweep_info, training_figure
