"""Pictures: a small tuple of what is to be drawn goes in, a Plotly figure comes out. Nothing is computed here.

Plotly lives here only. Colours mean one thing everywhere (style.py); text, grid and hover colours are left to the
page's stylesheet, so that a figure follows the light and the dark theme without being drawn again.
"""

from rankviz.figures.accuracy import ComparedPoint, validation_figure
from rankviz.figures.cost import MemoryBar, memory_figure, module_figure
from rankviz.figures.rank_curve import CutLine, CutPoint, RunPoint, rank_figure
from rankviz.figures.spectrum import HeatCell, SpectrumLine, heat_figure, spectrum_figure
from rankviz.figures.studies import PublishedLine, PublishedPoint, evidence_figure, shapes_of
from rankviz.figures.style import ESTIMATED, FAST_CURVE, MEASURED, PUBLISHED
from rankviz.figures.tradeoff import PlottedPoint, PointGroup, tradeoff_figure
from rankviz.figures.training import LossCurve, loss_figure
from rankviz.figures.verdict import Difference, verdict_figure

__all__ = [
    "ESTIMATED",
    "FAST_CURVE",
    "MEASURED",
    "PUBLISHED",
    "ComparedPoint",
    "CutLine",
    "CutPoint",
    "Difference",
    "HeatCell",
    "LossCurve",
    "MemoryBar",
    "PlottedPoint",
    "PointGroup",
    "PublishedLine",
    "PublishedPoint",
    "RunPoint",
    "SpectrumLine",
    "evidence_figure",
    "heat_figure",
    "loss_figure",
    "memory_figure",
    "module_figure",
    "rank_figure",
    "shapes_of",
    "spectrum_figure",
    "tradeoff_figure",
    "validation_figure",
    "verdict_figure",
]
