"""Pictures: for each figure an info (a small named tuple of what is drawn), its maker, and the drawing.

    from rankviz import Api, figures

    sweep = Api().runs.sweeps()[0]
    figures.tradeoff_figure(figures.tradeoff_info([sweep])).show()

An info computes, a figure draws. Plotly lives here only, and is imported when the first figure is drawn. Colours mean
one thing everywhere (style.py); text, grid and hover colours are left to the page's stylesheet, so that a figure
follows the light and the dark theme without being drawn again.
"""

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
from rankviz.figures.rank_curve import rank_curve_figure, rank_curve_info
from rankviz.figures.studies import studies_figure, studies_info
from rankviz.figures.style import plot_file, write_figure
from rankviz.figures.sweep_tradeoff import COST_AXES, QUALITY_AXES, tradeoff_figure, tradeoff_info
from rankviz.figures.training import training_figure, training_info

__all__ = [
    "COST_AXES",
    "QUALITY_AXES",
    "X_LABELS",
    "accuracy_figure",
    "accuracy_info",
    "energy_figure",
    "energy_info",
    "hero_figure",
    "hero_info",
    "memory_figure",
    "memory_info",
    "modules_figure",
    "modules_info",
    "parameters_figure",
    "parameters_info",
    "plot_file",
    "rank_curve_figure",
    "rank_curve_info",
    "spectrum_figure",
    "spectrum_info",
    "studies_figure",
    "studies_info",
    "tradeoff_figure",
    "tradeoff_info",
    "training_figure",
    "training_info",
    "write_figure",
]
