"""Draws Explore's two estimated figures: memory by component and rank, parameters by module and block."""

from typing import Any, NamedTuple

from rankviz.api import Api
from rankviz.core.accuracy.similar import in_words
from rankviz.export.recipe import FRAMEWORKS
from rankviz.figures import memory_figure, memory_info, parameters_figure, parameters_info
from rankviz.ui.parts.charts import chart_value
from rankviz.ui.parts.question import ask

MEMORY_HEIGHT = 340


class Pictures(NamedTuple):
    memory: str
    modules: str


def pictures(api: Api, **values: Any) -> Pictures:
    """Both figures for the widgets' values."""
    question = ask(values)
    r = values["r"]
    answer = api.estimates.estimate(question)
    memory = memory_info(answer.estimate, chosen_r=r)
    parameters = parameters_info(answer.estimate.plan, r)
    basis = f"{memory.source} Framework: {FRAMEWORKS[question.training.framework]}. {in_words(answer.basis)}"
    return Pictures(
        memory=chart_value(memory_figure(memory, height=MEMORY_HEIGHT), memory.rows, file="memory", source=basis),
        modules=chart_value(
            parameters_figure(parameters, height=MEMORY_HEIGHT),
            parameters.rows,
            file="modules",
            source=parameters.source,
        ),
    )
