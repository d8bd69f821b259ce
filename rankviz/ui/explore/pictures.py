"""Draws Explore's two estimated figures: memory by component and rank, parameters by module and block."""

from typing import Any, NamedTuple

from rankviz.api import Api
from rankviz.core.accuracy.report import in_words
from rankviz.export.recipe import FRAMEWORKS
from rankviz.figures import memory_figure, memory_info, parameters_figure, parameters_info
from rankviz.ui.parts.charts import chart_value
from rankviz.ui.parts.question import ask

MEMORY_HEIGHT = 340


class Picture(NamedTuple):
    chart: str


def memory_picture(api: Api, **values: Any) -> Picture:
    """Memory by component at each rank."""
    question = ask(values)
    answer = api.estimates.estimate(question)
    info = memory_info(answer.estimate, chosen_r=values["r"])
    basis = f"{info.source} Framework: {FRAMEWORKS[question.training.framework]}. {in_words(answer.basis)}"
    return Picture(
        chart_value(memory_figure.drawing(info, height=MEMORY_HEIGHT), info.rows, file="memory", source=basis)
    )


def modules_picture(api: Api, **values: Any) -> Picture:
    """Adapter parameters by module and block, at the chosen rank."""
    info = parameters_info(api.estimates.estimate(ask(values)).estimate.plan, values["r"])
    drawing = parameters_figure.drawing(info, height=MEMORY_HEIGHT)
    return Picture(chart_value(drawing, info.rows, file="modules", source=info.source))
