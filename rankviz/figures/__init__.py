"""Pictures: for each figure a small named tuple of what is to be drawn, the function that makes it, and the drawing.

    from rankviz import Api, figures

    sweep = Api().runs.sweeps()[0]
    figures.tradeoff_figure(figures.tradeoff_info([sweep])).show()

An info computes, a figure draws. Plotly lives here only, and is imported when the first figure is drawn. Colours mean
one thing everywhere (style.py); text, grid and hover colours are left to the page's stylesheet, so that a figure
follows the light and the dark theme without being drawn again.
"""

from rankviz.figures.accuracy import AccuracyInfo, accuracy_figure, accuracy_info
from rankviz.figures.adapter import (
    EnergyInfo,
    ModulesInfo,
    SpectrumInfo,
    energy_figure,
    energy_info,
    modules_figure,
    modules_info,
    spectrum_figure,
    spectrum_info,
)
from rankviz.figures.cost import (
    MemoryInfo,
    ParametersInfo,
    memory_figure,
    memory_info,
    parameters_figure,
    parameters_info,
)
from rankviz.figures.hero.axes import X_LABELS
from rankviz.figures.hero.chart import HeroInfo, hero_figure, hero_info
from rankviz.figures.hero.compare import CompareInfo, compare_figure, compare_info
from rankviz.figures.rank_curve import RankCurveInfo, rank_curve_figure, rank_curve_info
from rankviz.figures.studies import StudiesInfo, studies_figure, studies_info
from rankviz.figures.style import plot_file, write_figure
from rankviz.figures.sweep_tradeoff import COST_AXES, QUALITY_AXES, TradeoffInfo, tradeoff_figure, tradeoff_info
from rankviz.figures.training import TrainingInfo, training_figure, training_info
from rankviz.figures.verdict import VerdictInfo, verdict_figure, verdict_info

__all__ = [
    "COST_AXES",
    "QUALITY_AXES",
    "X_LABELS",
    "AccuracyInfo",
    "CompareInfo",
    "EnergyInfo",
    "HeroInfo",
    "MemoryInfo",
    "ModulesInfo",
    "ParametersInfo",
    "RankCurveInfo",
    "SpectrumInfo",
    "StudiesInfo",
    "TradeoffInfo",
    "TrainingInfo",
    "VerdictInfo",
    "accuracy_figure",
    "accuracy_info",
    "compare_figure",
    "compare_info",
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
    "verdict_figure",
    "verdict_info",
    "write_figure",
]
